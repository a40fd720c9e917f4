"""Detections that are dipoles, and those that are not."""

from types import SimpleNamespace

import numpy as np
import pytest

from gpudiff.arrays.dipole import DipoleFit
from gpudiff.arrays.measure import Cut, own_photons
from gpudiff.model.tables import flag
from gpudiff.science.dipoles import _flux_errors


def light(maker, recipe, y, x, flux):
    return (flux * maker.profile(recipe, recipe.fwhm[0], y, x, *np.mgrid[:384, :384])).astype(np.float32)


def empty_place(stars, reach=30):
    """(y, x) of the whole pixel farthest from all stars."""
    rows, columns = np.mgrid[reach : 384 - reach, reach : 384 - reach]
    distance = np.min([np.hypot(rows - y, columns - x) for y, x, _ in stars], axis=0)
    at = np.unravel_index(distance.argmax(), distance.shape)
    return at[0] + reach, at[1] + reach


@pytest.fixture(scope="module")
def pair(maker):
    return maker.pair(stars=60, seed=211)


@pytest.fixture(scope="module")
def moved(maker, pair):
    """(stars moved (N, 3), angles, their detections) of stars of 60 to 230 sigma, moved by a pixel."""
    inside = (np.abs(pair.stars[:, :2] - 192).max(1) < 160) & (np.abs(pair.stars[:, 2] - 1.5e4) < 9e3)
    stars = pair.stars[inside][:12]
    angle = np.random.default_rng(3).uniform(-180, 180, len(stars))
    change = np.zeros((384, 384), np.float32)
    for (y, x, flux), a in zip(stars, np.radians(angle), strict=True):
        change += light(maker, pair.recipe, y + np.sin(a), x + np.cos(a), flux)
        change -= light(maker, pair.recipe, y, x, flux)
    sources = maker.run(pair.with_science(lambda image: image.__iadd__(change))).sources
    distance = np.hypot(sources["y"] - stars[:, :1], sources["x"] - stars[:, 1:2])
    return stars, angle, sources.take(np.where(sources["isDipole"], distance, 99).argmin(1))


def test_stars_that_moved_by_a_pixel_are_dipoles_of_that_length_and_direction(moved):
    _, angle, sources = moved
    assert sources["isDipole"].all()
    assert (sources["flags"] & flag("DIPOLE") != 0).all()
    # Scatter of 0.05 px and 3 degrees over such stars of other seeds; some four times that.
    assert np.abs(sources["dipoleLength"] - 1).max() < 0.25
    assert np.abs((sources["dipoleAngle"] - angle + 180) % 360 - 180).max() < 13


def test_their_fluxes_are_the_stars_within_the_errors_said(moved):
    stars, _, sources = moved
    pull = (sources["dipoleMeanFlux"] - stars[:, 2]) / sources["dipoleMeanFluxErr"]
    assert np.abs(pull).max() < 2.5  # the errors are upper limits: the template is deeper than the difference
    difference = sources["dipoleFluxDiff"] / sources["dipoleFluxDiffErr"]
    assert np.abs(difference).max() < 4
    assert 0.5 < difference.std() < 1.7  # 12 values: 20 %


@pytest.mark.parametrize(("apart", "dipole"), [(3.5, True), (6.5, False)])
def test_two_sources_of_opposite_sign_are_a_dipole_only_when_near(maker, pair, apart, dipole):
    y, x = empty_place(pair.stars)
    both = light(maker, pair.recipe, y, x - apart / 2, 5e3) - light(maker, pair.recipe, y, x + apart / 2, 4e3)
    sources = maker.run(pair.with_science(lambda image: image.__iadd__(both))).sources
    near = sources.take(np.hypot(sources["y"] - y, sources["x"] - x) < 6)
    assert len(near) >= 1
    assert (near["isDipole"] == dipole).all()
    assert near["dipoleFitAttempted"].all()
    assert np.abs(near["dipoleLength"] - apart).max() < 0.6  # 5 % of the fluxes, in a PSF of 2 px
    assert np.abs((near["dipoleFluxDiff"] - 1e3) / near["dipoleFluxDiffErr"]).max() < 4


def test_a_point_source_is_no_dipole_and_has_no_dipole_flux(done):
    sources = done.sources.take(done.nearest()[done.nearest() >= 0])
    assert not sources["isDipole"].any()
    alone = ~sources["dipoleFitAttempted"]
    assert alone.mean() > 0.7
    assert np.isnan(sources["dipoleMeanFlux"][alone]).all()
    assert (sources["dipoleNdata"][alone] == 0).all()


@pytest.mark.parametrize(("convolved", "of_more"), [("TEMPLATE", 1 / 2), ("SCIENCE", -3 / 4)])
@pytest.mark.parametrize("more", [0, 300, -300])
def test_flux_errors_have_the_photons_that_the_variance_plane_lacks(convolved, of_more, more):
    """It has those of the convolved image's light, for both images: of equal lobes none are missing."""
    psf = np.full((1, 5, 5), 0.04, np.float32)
    here = Cut(np.zeros_like(psf), np.full_like(psf, 0.01), psf)
    fit = DipoleFit(np.array([[500.0, more, 0, 0, 1, 0]]), 900 * np.eye(6)[None], np.ones(1), np.array([25]))
    quality = SimpleNamespace(convolved=convolved, kernel_sum=3.0, score_scale=1.0)
    made = SimpleNamespace(quality=quality, science=SimpleNamespace(gain=2.0), template=SimpleNamespace(gain=4.0))
    photons = more * of_more * own_photons(psf, here.weight)
    mean, difference = _flux_errors(made, here, fit)
    assert mean**2 == pytest.approx(900 + photons / 4)
    assert difference**2 == pytest.approx(900 + photons)
