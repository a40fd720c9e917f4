"""Star candidates, picked quickly."""

import numpy as np
import pytest

from gpudiff.arrays.peaks import peaks, peaks_cuda


def test_peaks_are_the_maxima_above_the_threshold():
    image = np.zeros((64, 70), np.float32)
    image[20, 30], image[20, 31], image[50, 10], image[40, 60] = 10, 9, 7, 3
    y, x = peaks(image, 5)
    assert set(zip(y.tolist(), x.tolist(), strict=True)) == {(20, 30), (50, 10)}


def test_a_star_across_a_block_border_is_one_peak():
    image = np.zeros((64, 64), np.float32)
    image[15, 15], image[15, 16], image[16, 16] = 10, 9, 8
    assert [a.tolist() for a in peaks(image, 5)] == [[15], [15]]


def test_peaks_within_4_px_of_the_edge_are_left_out():
    image = np.zeros((64, 64), np.float32)
    image[3, 30] = image[30, 60] = image[30, 30] = 10
    assert [a.tolist() for a in peaks(image, 5)] == [[30], [30]]


def test_an_image_smaller_than_a_block_has_no_peaks():
    assert len(peaks(np.full((9, 9), 10, np.float32), 5)[0]) == 0


def test_lost_pixels_count_as_zero():
    image = np.zeros((64, 64), np.float32)
    image[20, 20], image[20, 26] = 10, 7
    y, x = peaks(image, 5, image == 10)
    assert (y.tolist(), x.tolist()) == ([20], [26])


def test_peaks_come_in_the_order_of_their_blocks():
    image = np.zeros((64, 64), np.float32)
    image[24, 8], image[18, 40] = 7, 9  # the second is higher up, but in a block further right
    assert [a.tolist() for a in peaks(image, 5)] == [[24, 18], [8, 40]]


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(("batch", "shape"), [(1, (70, 150)), (9, (35, 41)), (2, (20, 15))])
@pytest.mark.parametrize("some_lost", [False, True])
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, some_lost):
    rng = np.random.default_rng(batch)
    images = rng.normal(0, 2, (batch, *shape)).round().astype(np.float32)  # many equals
    thresholds = rng.uniform(1, 5, batch)
    lost = rng.random(images.shape) < 0.2 if some_lost else None
    if some_lost:
        images[lost] = np.nan
        images[:, :16, :12], lost[:, :16, :12] = 99, True  # as good as a whole block
    found = peaks_cuda(launcher, images, thresholds, lost)
    for n in range(batch):
        expected = peaks(images[n], thresholds[n], lost[n] if some_lost else None)
        np.testing.assert_array_equal(found[n], expected)
        assert found[n][0].dtype == np.int64
