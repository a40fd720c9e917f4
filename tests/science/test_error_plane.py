"""Error planes that come with a frame."""

import re

import numpy as np
import pytest
from scipy import ndimage
from skies import CONFIGURATION, GAIN, SKY, VARIANCE, frame, pixels, refused, sky_variance, star

from gpudiff.model.errors import BadVariance
from gpudiff.science.calibrate import calibrate


def test_a_variance_plane_is_used_without_the_sources_photons():
    light = star()
    plane = (VARIANCE + light / GAIN).astype(np.float32)
    rng = np.random.default_rng(3)
    image = pixels() + (light + rng.normal(0, np.sqrt(light / GAIN))).astype(np.float32)
    made = calibrate(frame(image, variance=plane, gain=None), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), VARIANCE, rtol=0.05)
    assert made.gain == pytest.approx(GAIN, rel=0.05)
    assert made.variance_known
    assert any("variance plane given" in note for note in made.notes)


def test_a_variance_plane_with_holes_is_kept_pixel_by_pixel():
    plane = np.full((256, 256), VARIANCE, np.float32)
    plane[:, 100:140] *= 4
    made = calibrate(frame(variance=plane), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), plane, rtol=1e-6)  # no light, so nothing is taken out of it
    assert any("kept as it is" in note for note in made.notes)


@pytest.mark.parametrize("value", [0.01 / VARIANCE, 1e7])
def test_weights_given_as_a_variance_are_refused(value):
    refused(BadVariance, "a variance of .*weights", frame(variance=np.full((256, 256), value, np.float32)))


@pytest.mark.parametrize("unit", [1.0, 1e-3])
@pytest.mark.parametrize(
    ("power", "name"), [(0.5, "standard deviations"), (2.0, "variances squared"), (-1.0, "inverse variances")]
)
def test_an_error_plane_is_what_the_noise_of_the_sky_says(unit, power, name):
    plane = np.full((256, 256), (VARIANCE * unit**2) ** power, np.float32)
    made = calibrate(frame((pixels() * unit).astype(np.float32), variance=plane), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), VARIANCE * unit**2, rtol=1e-4)  # float32
    assert f"given as {name}" in made.notes[0]


def test_a_variance_that_correlation_hides_is_a_variance():
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 1.0, (256, 256)), 1.0).astype(np.float32)
    scale = 0.3 / float(noise.std())  # seen: 0.09; the plane says 0.3, whose square is that
    made = calibrate(frame(noise * scale, gain=None, variance=np.full((256, 256), 0.3, np.float32)), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), 0.3, rtol=1e-4)  # float32


@pytest.mark.parametrize("times", [1e-3, 0.01, 4.0, 30.0, 1e3])
def test_a_variance_plane_on_a_wrong_scale_is_brought_to_the_skys_and_that_is_said(times):
    made = calibrate(frame(variance=np.full((256, 256), times * VARIANCE, np.float32)), CONFIGURATION)
    # 9,000 steps between pixels tell a variance to 3 %, and of two axes the larger counts
    np.testing.assert_allclose(sky_variance(made), VARIANCE, rtol=0.08)
    assert not made.variance_known
    assert re.search(r"where the sky scatters by 12\.\d+: multiplied by", made.notes[0])


@pytest.mark.parametrize("times", [0.1, 0.4])
def test_a_variance_plane_that_a_crowd_may_belie_is_relative(times):
    plane = np.full((256, 256), times * VARIANCE, np.float32)
    made = calibrate(frame(variance=plane), CONFIGURATION)
    np.testing.assert_allclose(sky_variance(made), plane, rtol=1e-4)  # float32
    assert not made.variance_known
    assert "taken as relative" in made.notes[0]


def test_a_cutout_that_a_galaxy_fills_has_its_variance():
    light = star((30, 30), 15, 15, flux=3e5, sigma=5.0)
    plane = (VARIANCE + light / GAIN).astype(np.float32)
    noise = np.random.default_rng(2).normal(0, np.sqrt(plane))
    image, psf = (SKY + light + noise).astype(np.float32), np.full((9, 9), 1 / 81, np.float32)
    for power in (1, 0.5):  # standard deviations are not told there either
        made = calibrate(frame(image, variance=plane**power, psf=psf, gain=None), CONFIGURATION)
        assert made.variance_known
        assert made.notes[0].startswith("variance plane given; sources")


def test_a_mosaic_of_two_depths_has_its_variance():
    plane = np.full((256, 256), VARIANCE, np.float32)
    plane[:, ::2] *= 9
    noise = np.random.default_rng(7).normal(0, 1, plane.shape) * np.sqrt(plane)
    made = calibrate(frame((SKY + noise).astype(np.float32), variance=plane), CONFIGURATION)
    assert made.variance_known
    np.testing.assert_allclose(sky_variance(made), plane, rtol=0.03)  # noise that passes for light is taken out


@pytest.mark.parametrize("width", [1.0, 2.0, 3.0])
def test_an_image_that_was_smoothed_has_its_variance_where_that_is_right_and_gets_it_where_it_is_not(width):
    share = 1 / (4 * np.pi * width**2)  # of the variance of white noise that a Gaussian leaves
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 30, (256, 256)), width)
    plane, image = np.full((256, 256), 900 * share, np.float32), (SKY + noise).astype(np.float32)
    made = calibrate(frame(image, variance=plane), CONFIGURATION)
    assert made.variance_known
    np.testing.assert_allclose(sky_variance(made), plane, rtol=1e-4)  # float32
    made = calibrate(frame(image, variance=1000 * plane), CONFIGURATION)
    assert not made.variance_known
    # 65536 / (4 pi width^2) noises that are independent, 580 at 3 px, tell a variance to 6 %: four times that
    np.testing.assert_allclose(sky_variance(made), plane, rtol=0.25)


@pytest.mark.parametrize("width", [1.0, 2.0])
def test_a_plane_far_too_low_is_raised_to_the_scatter_of_neighbours_in_a_smoothed_image_too(width):
    share = 1 / (4 * np.pi * width**2)
    noise = ndimage.gaussian_filter(np.random.default_rng(5).normal(0, 30, (256, 256)), width)
    image, plane = (SKY + noise).astype(np.float32), np.full((256, 256), 2e-3 * 900 * share, np.float32)
    made = calibrate(frame(image, variance=plane), CONFIGURATION)
    assert not made.variance_known
    neighbours = 900 * share * (1 - np.exp(-1 / (4 * width**2)))  # by the Gaussian's own autocorrelation
    np.testing.assert_allclose(sky_variance(made), neighbours, rtol=0.15)  # 9,000 steps; fewer are independent


@pytest.mark.parametrize("fwhm", [1.5, 2.0, 3.0, 4.0])
def test_a_crowd_does_not_belie_a_variance_plane(fwhm):
    rng, light = np.random.default_rng(3), np.zeros((256, 256))
    np.add.at(light, tuple(rng.integers(0, 256, (2, 15_000))), 1000 * rng.random(15_000) ** (-1 / 1.5))
    plane = 100 + ndimage.gaussian_filter(light, fwhm / 2.355)
    made = calibrate(frame(rng.poisson(plane).astype(np.float32), variance=plane, gain=None), CONFIGURATION)
    assert "multiplied" not in made.notes[0]
    assert np.median(sky_variance(made)) < np.median(plane)


def test_the_scatter_of_a_few_electrons_does_not_belie_a_variance_plane():
    counts = np.random.default_rng(5).poisson(0.5, (256, 256)).astype(np.float32)
    made = calibrate(frame(counts, variance=np.full((256, 256), 0.5, np.float32), gain=None), CONFIGURATION)
    assert made.variance_known


def test_stars_are_not_in_the_sky_of_a_variance_plane_with_holes():
    sky = np.full((256, 256), VARIANCE, np.float32)
    sky[:, 100:140] *= 4
    light = sum(star(y=y, x=x) for y in (60, 120, 180) for x in (50, 120, 200))
    plane = (sky * (1 + light / GAIN / VARIANCE)).astype(np.float32)
    noise = np.random.default_rng(3).normal(0, 1, plane.shape) * np.sqrt(plane)
    made = calibrate(frame((SKY + light + noise).astype(np.float32), variance=plane), CONFIGURATION)
    for columns in (slice(0, 80), slice(115, 126), slice(160, 256)):
        # the wings that one gain leaves; a window of 31 px keeps to the hole
        np.testing.assert_allclose(sky_variance(made)[:, columns], sky[:, columns], rtol=0.25)
