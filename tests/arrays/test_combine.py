"""gpudiff.arrays.combine: outliers among images of one sky, and their weighted mean."""

from dataclasses import replace

import numpy as np
import pytest

from gpudiff.arrays.combine import Stack, outliers, weighted

SHAPE = 96, 96


def sky(count: int, seed: int = 1) -> Stack:
    """Noise of variance 1 to 2 alone."""
    variance = np.linspace(1, 2, count)
    values = np.random.default_rng(seed).normal(0, 1, (count, *SHAPE)) * np.sqrt(variance)[:, None, None]
    no, all_of_them = np.zeros(values.shape, bool), np.ones(values.shape, bool)
    return Stack(values.astype(np.float32), all_of_them, no, variance, np.zeros(count), np.full(count, 1.7))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_noise_is_no_outlier(count):
    # one chance blob of 50 pixels in all five would be 1e-3
    assert np.mean([outliers(sky(count, seed)).mean() for seed in range(5)]) < 2e-3


@pytest.mark.parametrize(("count", "value"), [(2, 40.0), (3, 40.0), (3, -40.0), (8, 40.0), (8, -40.0)])
def test_a_pixel_far_off_is_an_outlier_of_its_image_alone(count, value):
    """Of two the lower is believed."""
    stack = sky(count)
    stack.values[1, 50, 40] = value
    found = outliers(stack)
    assert found[1, 50, 40]
    assert not np.delete(found, 1, 0)[:, 50, 40].any()


def test_a_faint_source_of_one_image_is_seen_under_its_psf():
    stack = sky(6)
    axis = np.arange(96) - 48
    profile = np.exp(-0.5 * (axis**2 + axis[:, None] ** 2) / 1.7**2)
    stack.values[2] += (3.0 * profile).astype(np.float32)  # no pixel of 5 sigma, 14 sigma in all
    found = outliers(stack)[2]
    assert (found * profile).sum() > 0.99 * profile.sum()


def test_pixels_that_do_not_count_are_no_outliers_and_hide_none():
    stack = sky(5)
    stack.values[0, 20, 20] = 1000
    stack.good[0, 20, 20] = False
    assert not outliers(stack)[:, 20, 20].any()


def test_the_mean_and_its_variance_follow_from_the_weights():
    stack = replace(sky(3), photons=np.array([0.1, 0.2, 0.3]))
    stack.values[:] = np.array([1, 2, 4])[:, None, None]
    made = weighted(stack, np.array([0.5, 0.3, 0.2]), np.zeros(stack.good.shape, bool))
    mean = 0.5 + 0.6 + 0.8
    variance = 0.25 * (1 + 0.1 * mean) + 0.09 * (1.5 + 0.2 * mean) + 0.04 * (2 + 0.3 * mean)
    assert made.image[0, 0] == pytest.approx(mean)
    assert made.variance[0, 0] == pytest.approx(variance)
    assert made.count[0, 0] == 3


def test_what_is_left_out_is_not_in_the_mean():
    stack = sky(2)
    stack.values[:] = np.array([1, 9])[:, None, None]
    out = np.zeros(stack.good.shape, bool)
    out[1] = True
    made = weighted(stack, np.array([0.5, 0.5]), out)
    assert (made.image[0, 0], made.variance[0, 0], made.count[0, 0]) == (1, 1, 1)


def test_a_pixel_without_any_value_is_nan():
    stack = sky(2)
    stack.good[:, 3, 4] = False
    made = weighted(stack, np.array([0.5, 0.5]), np.zeros(stack.good.shape, bool))
    assert np.isnan(made.image[3, 4])
    assert np.isnan(made.variance[3, 4])


def test_more_images_than_a_byte_counts_are_counted():
    shape = 256, 2, 2
    ones, no = np.ones(shape, np.float32), np.zeros(shape, bool)
    stack = Stack(ones, ~no, no, np.ones(256), np.zeros(256), np.full(256, 1.7))
    made = weighted(stack, np.full(256, 1 / 256), no)
    assert (made.count == 256).all()
