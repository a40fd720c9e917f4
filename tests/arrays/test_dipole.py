"""Two PSFs of opposite sign, fitted."""

import numpy as np
import pytest

from gpudiff.arrays.dipole import DipoleFit, fit_dipoles
from gpudiff.arrays.measure import Cut

HALF, SIGMA, NOISE, COUNT = 10, 1.9, 10.0, 100
AXIS = np.arange(-HALF, HALF + 1)


def spot(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, S, S) unit-sum Gaussians at offsets from the middle."""
    r2 = (AXIS[:, None] - y[:, None, None]) ** 2 + (AXIS - x[:, None, None]) ** 2
    return np.exp(-0.5 * r2 / SIGMA**2) / (2 * np.pi * SIGMA**2)


def dipoles(flux: float, more: float, length: float, seed: int = 1):
    """(difference, template, truth (N, 6)) of COUNT dipoles at random angles and pixel phases."""
    rng = np.random.default_rng(seed)
    angle = rng.uniform(-np.pi, np.pi, COUNT)
    apart = length * np.stack([np.sin(angle), np.cos(angle)], 1)
    middle = rng.uniform(-0.5, 0.5, (COUNT, 2))
    up, down = spot(*(middle + apart / 2).T), spot(*(middle - apart / 2).T)
    shape = COUNT, 2 * HALF + 1, 2 * HALF + 1
    behind = (flux - more / 2) * down
    data = (flux + more / 2) * up - behind + rng.normal(0, NOISE, shape)
    psf = spot(*np.zeros((2, COUNT)))
    difference = Cut(data, np.full(shape, NOISE**-2), psf)
    template = Cut(behind + rng.normal(0, NOISE / 3, shape), np.full(shape, (NOISE / 3) ** -2), psf)
    return difference, template, np.column_stack([np.full(COUNT, flux), np.full(COUNT, more), middle, apart])


def start(truth: np.ndarray, flux: float, length: float) -> np.ndarray:
    """A start along the true direction, elsewhere in flux and length."""
    direction = truth[:, 4:] / np.hypot(*truth[:, 4:].T)[:, None]
    none = np.zeros(len(truth))
    return np.column_stack([none + flux, none, none, none, length * direction])


def pulls(fit: DipoleFit, truth: np.ndarray) -> np.ndarray:
    return (fit.parameters - truth) / np.sqrt(fit.covariance.diagonal(axis1=1, axis2=2))


def test_lobes_that_are_resolved_have_their_flux_and_place_with_the_errors_they_say():
    difference, _, truth = dipoles(3000, 400, 4.0)
    fit = fit_dipoles(difference, start(truth, 2000, 5.0))
    # 100 pulls: 0.1 in the mean, 7 % in the width; the model is exact.
    assert np.abs(pulls(fit, truth).mean(0)).max() < 0.35
    assert np.abs(pulls(fit, truth).std(0) - 1).max() < 0.25
    assert np.median(fit.chi2 / fit.pixels) == pytest.approx(1, abs=0.03)


def test_the_template_tells_flux_from_separation_where_the_difference_cannot():
    difference, template, truth = dipoles(20000, 0, 0.5)
    alone = fit_dipoles(difference, start(truth, 4000, 2.5))
    both = fit_dipoles(difference, start(truth, 18000, 0.6), template)
    assert np.std(alone.length - 0.5) > 0.2
    assert np.std(both.length - 0.5) < 0.02  # 20000 / (NOISE * sqrt(4 pi) * SIGMA) = 300 sigma
    assert np.abs(pulls(both, truth)[:, 1:].std(0) - 1).max() < 0.25
    assert np.abs(both.parameters[:, 0] / 20000 - 1).max() < 0.02


def test_the_angle_is_from_the_negative_to_the_positive_lobe():
    difference, _, truth = dipoles(9000, 0, 3.0)
    fit = fit_dipoles(difference, start(truth, -6000, -3.0))  # the lobes' names exchanged
    angle = np.degrees(np.arctan2(truth[:, 4], truth[:, 5]))
    assert np.abs((fit.angle - angle + 180) % 360 - 180).max() < 8
    assert (fit.parameters[:, 0] > 0).all()


def test_pixels_without_a_value_are_left_out():
    difference, _, truth = dipoles(3000, 0, 4.0)
    weight = difference.weight.copy()
    weight[:, :4] = 0
    data = np.where(weight > 0, difference.data, 1e6)
    fit = fit_dipoles(Cut(data, weight, difference.psf), start(truth, 3000, 4.0))
    assert (fit.pixels == 17 * 21).all()
    assert np.abs(fit.length - 4).max() < 1


def test_no_stamps_give_no_dipoles():
    none = np.zeros((0, 15, 15))
    cut = Cut(none, none, none)
    assert len(fit_dipoles(cut, np.zeros((0, 6)), cut).length) == 0
