"""Cutouts around positions."""

import numpy as np
import pytest

from gpudiff.arrays.cutouts import cutouts, cutouts_cuda
from gpudiff.model.errors import WrongShape

IMAGE = np.arange(7 * 9, dtype=np.float32).reshape(7, 9)


def test_centre_pixel_holds_the_position():
    stamps = cutouts(IMAGE, np.array([4.0, 4.49, 3.5]), np.array([3.0, 2.51, 3.4]), 3)
    np.testing.assert_array_equal(stamps[:, 1, 1], IMAGE[3, 4])
    np.testing.assert_array_equal(stamps[0], IMAGE[2:5, 3:6])


def test_pixels_outside_the_image_are_nan():
    stamp = cutouts(IMAGE, np.array([0.0]), np.array([6.0]), 5)[0]
    np.testing.assert_array_equal(stamp[:3, 2:], IMAGE[4:7, :3])
    assert np.isnan(stamp[3:]).all()
    assert np.isnan(stamp[:, :2]).all()


@pytest.mark.parametrize("position", [(np.nan, 3.0), (3.0, np.inf), (-1e30, 3.0), (3.0, 1e300), (-4.0, 3.0)])
def test_a_position_far_outside_gives_only_nan(position):
    assert np.isnan(cutouts(IMAGE, np.array([position[0]]), np.array([position[1]]), 7)).all()


def test_no_positions_give_an_empty_stack():
    stamps = cutouts(IMAGE, np.array([]), np.array([]), 5)
    assert stamps.shape == (0, 5, 5)
    assert stamps.dtype == np.float32


@pytest.mark.parametrize(
    ("shape", "count", "size"), [((7, 9), 2, 4), ((7, 9), 3, 5), ((2, 7, 9), 2, 5), ((0, 9), 2, 5)]
)
def test_wrong_shapes_are_refused(shape, count, size):
    with pytest.raises(WrongShape, match="cutouts: expected"):
        cutouts(np.zeros(shape, np.float32), np.zeros(2), np.zeros(count), size)


@pytest.mark.parametrize(("batch", "count", "size"), [(1, 1, 1), (1, 40, 51), (9, 30, 5)])
def test_cuda_body_copies_the_same_pixels(launcher, batch, count, size):
    rng = np.random.default_rng(batch)
    images = rng.normal(size=(batch, 37, 53)).astype(np.float32)
    images[:, 10, ::7] = np.nan
    frames = rng.integers(0, batch, count)
    x, y = rng.uniform(-size, 53 + size, count), rng.uniform(-size, 37 + size, count)
    x[0], y[-1] = (np.nan, 1e300) if count > 1 else (x[0], y[0])
    expected = [cutouts(images[f], x[i : i + 1], y[i : i + 1], size)[0] for i, f in enumerate(frames)]
    np.testing.assert_array_equal(cutouts_cuda(launcher, images, frames, x, y, size), expected)


def test_cuda_body_refuses_a_frame_that_is_not_there(launcher):
    with pytest.raises(WrongShape, match="frame numbers below 1"):
        cutouts_cuda(launcher, IMAGE[None], np.array([1]), np.array([2.0]), np.array([2.0]), 3)
