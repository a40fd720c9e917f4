"""Stamps of the stars: which of them are steady, and what noise they have."""

import dataclasses

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gpudiff.science.sample import Sample, steady_of, white_share


def share(maker, change=lambda science, template: template):
    science, template = maker.exposures(pair := maker.pair(seed=3))
    image = change(science.image, template.image).astype(np.float32)
    y, x = pair.stars[:, :2].round().astype(int).T
    return white_share(science, dataclasses.replace(template, image=image), y, x)


def test_noise_that_nothing_smoothed_is_white(maker):
    # Clipped at 3 sigma noise has 0.97 of its variance.
    assert share(maker) == pytest.approx(0.98, abs=0.03)


def test_of_noise_that_was_smoothed_little_is_white(maker):
    assert share(maker, lambda science, template: gaussian_filter(template, 0.7)) < 0.3


def test_noise_that_both_images_have_counts_as_none(maker):
    assert share(maker, lambda science, template: science) == 0
    assert share(maker, lambda science, template: 0.9 * template + 0.1 * science) == 0


def test_a_star_whose_flux_changed_does_not_start_in_the_fit():
    ratio = np.array([1.0, 1.02, 0.98, 1.01, 1.4, 0.99, 1.0, 1.0, 1.01, 0.6])
    steady = steady_of(ratio, np.full(10, 0.01), np.zeros((10, 2)))
    assert list(np.flatnonzero(~steady)) == [4, 9]


def test_stars_without_a_positive_flux_do_not_say_what_the_others_have():
    ratio = np.array([np.inf] * 8 + [1.0, 1.02, 0.98, 1.01, 1.4, 0.99])
    error = np.where(np.isfinite(ratio), 0.01, 0)
    steady = steady_of(ratio, error, np.zeros((14, 2)))
    assert list(np.flatnonzero(steady)) == [8, 9, 10, 11, 13]


def test_a_gradient_of_transparency_makes_no_star_variable():
    u = np.linspace(-1, 1, 30)
    steady = steady_of(1 + 0.2 * u, np.full(30, 0.005), np.stack([u, np.zeros(30)], 1))
    assert steady.all()


SKY = np.array([np.linspace(50, 70, 30), np.linspace(60, 40, 30)])


def noise_seen(passed, most):
    """The sample, shown noise of which a kernel lets `passed` through that would let `most` of white noise."""
    noise = np.random.default_rng(4).normal(0, 1, (2, 30, 625)).astype(np.float32)
    own, through = noise * np.sqrt(SKY * [[1], [passed]])[..., None]
    model = np.full((30, 625), 1e4)
    model[:, :400] = through[:, :400]  # which is what a dark pixel of it is
    return sample(SKY).seen(model, own - through, np.ones((30, 625), bool), np.full((1, 1), most**0.5))


@pytest.mark.parametrize("passed", [0.02, 0.5, 1.0, 2.5])
def test_dark_pixels_say_how_much_of_the_convolved_image_s_noise_is_left(passed):
    seen = noise_seen(passed, passed)
    # 12,000 squares: 0.02 of the variance, and here twice to four times that of the share
    assert seen.passed == pytest.approx(passed, abs=0.1)
    assert np.isclose(seen.variance(np.zeros((30, 625))), (SKY[0] + seen.passed * SKY[1])[:, None]).all()


def test_no_more_noise_is_left_than_a_kernel_makes_of_white_noise():
    assert noise_seen(2.5, 1.5).passed == pytest.approx(1.5)
    assert noise_seen(2.5, 0.1).passed == 1  # where it is not white


def test_a_crowd_without_dark_pixels_leaves_the_noise_as_expected():
    made, full = sample(np.full((2, 30), 50.0)), np.ones((30, 625), bool)
    assert made.seen(np.full((30, 625), 1e4), np.zeros((30, 625)), full, np.eye(3)) is made


def sample(sky):
    """Stamps of 30 stars, of which the noise alone counts.  sky : (2, 30)"""
    blank, zero = np.zeros((30, 625), np.float32), np.zeros(30)
    usable = np.ones((30, 625), bool)
    return Sample(blank, blank, usable, blank, sky, np.ones(2), zero, zero, 1.0, usable[:, 0], (99, 99))
