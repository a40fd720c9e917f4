"""Detections as a list."""

import numpy as np
import pytest

from gpudiff.arrays.components import beyond, beyond_cuda, extrema, tops, tops_cuda


def blobs(*peaks, shape=(100, 120), sigma=2.0):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for y, x, height in peaks:
        image += height * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
    return image.astype(np.float32)


def listed(score, threshold=5.0):
    return [(int(y), int(x)) for y, x in zip(*extrema(score, threshold), strict=True)]


def test_each_blob_of_either_sign_is_one_detection_brightest_first():
    assert listed(blobs((20, 30, 9), (60, 70, -14), (80, 20, 6))) == [(60, 70), (20, 30), (80, 20)]


def test_the_threshold_itself_counts():
    score = np.zeros((50, 50), np.float32)
    score[20, 20], score[30, 40] = 5, 4.9999
    assert listed(score) == [(20, 20)]


def test_nothing_above_the_threshold_is_an_empty_list():
    assert listed(blobs((20, 30, 4))) == []


def test_two_sources_7_px_apart_are_two_detections():
    assert sorted(listed(blobs((50, 50, 10), (50, 57, 9)))) == [(50, 50), (50, 57)]


def test_extrema_closer_than_4_and_a_half_px_are_the_brighter_one():
    score = np.zeros((50, 50), np.float32)
    score[20, 20], score[20, 24], score[40, 20], score[40, 25] = 9, -8, 9, 8
    assert sorted(listed(score)) == [(20, 20), (40, 20), (40, 25)]


def test_a_plateau_is_one_detection():
    score = np.zeros((50, 50), np.float32)
    score[20:22, 20:22] = 7
    assert listed(score) == [(20, 20)]


def test_a_faint_extremum_in_the_wings_of_one_50_times_brighter_is_its_wing():
    score = np.zeros((80, 80), np.float32)
    score[40, 40], score[40, 50], score[40, 58] = 400, 7, 7
    assert listed(score) == [(40, 40), (40, 58)]
    score[40, 40] = 300
    assert len(listed(score)) == 3


def test_what_is_suppressed_suppresses_nothing():
    score = np.zeros((50, 50), np.float32)
    score[20, 20], score[20, 24], score[20, 28] = 9, 8, 7
    assert listed(score) == [(20, 20), (20, 28)]


def test_a_source_at_the_edge_is_found():
    assert listed(blobs((0, 40, 10), (99, 119, 8))) == [(0, 40), (99, 119)]


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_noise_at_1_sigma_gives_a_list_without_repeats_close_by(turn):
    score = np.rot90(np.random.default_rng(1).normal(size=(60, 60)).astype(np.float32), turn)
    y, x = extrema(score, 1.0)
    distance = np.hypot(y[:, None] - y, x[:, None] - x)
    np.fill_diagonal(distance, 99)
    assert len(y) > 30
    assert distance.min() >= 4.5


def test_all_pixels_beyond_the_threshold_are_listed_row_by_row():
    score = np.zeros((300, 50), np.float32)
    score[2, 3], score[2, 4], score[299, 0], score[7, 7] = -5, 9, 5, np.nan
    assert [one.tolist() for one in beyond(score, 5)] == [[2, 2, 299], [3, 4, 0], [-5, 9, 5]]


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(("batch", "shape"), [(1, (150, 45)), (9, (33, 31)), (2, (5, 70))])
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape):
    rng = np.random.default_rng(batch)
    scores = rng.normal(0, 2, (batch, *shape)).astype(np.float32)
    scores[:, :3, :4] = np.float32(5)  # equal neighbours, at a corner: each is as large as any near it
    scores[0] = 0 if batch == 2 else scores[0]
    for listed_cuda, definition in ((tops_cuda, tops), (beyond_cuda, beyond)):
        for score, (y, x, found) in zip(scores, listed_cuda(launcher, scores, 3), strict=True):
            np.testing.assert_array_equal((y, x), definition(score, 3)[:2])
            np.testing.assert_array_equal(found, score[y, x])


def test_cuda_body_lists_every_pixel_of_a_bad_image(launcher):
    [(y, x, _)] = tops_cuda(launcher, np.full((1, 70, 50), -100, np.float32), 5)
    np.testing.assert_array_equal(y * 50 + x, np.arange(3500))  # ten times what the first pass has room for
