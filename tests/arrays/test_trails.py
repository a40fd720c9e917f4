"""Trails: the model of a line of light, and its fit."""

import numpy as np
import pytest

from gpudiff.arrays.trails import LENGTHS, Line, fit_trail, fit_trails, line_powers, line_powers_cuda

SIDE = 61


def gaussian(sigma=1.7, half=12):
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (axis**2 + axis[:, None] ** 2) / sigma**2)
    return image / image.sum()


def noisy(image, flux, sigma=1.0, seed=5):
    data = flux * image + np.random.default_rng(seed).normal(0, sigma, image.shape)
    return data.astype(np.float32), np.full(image.shape, sigma**-2)


def test_a_trail_has_unit_sum_and_its_middle_where_it_was_put():
    image = Line(gaussian(), SIDE).image(3.25, -4.5, 14.0, 35.0)
    axis = np.arange(SIDE) - SIDE // 2
    # The tails of a Gaussian beyond the stamp hold less than 1e-6.
    assert image.sum() == pytest.approx(1, abs=1e-5)
    assert (image.sum(1) * axis).sum() == pytest.approx(3.25, abs=1e-3)
    assert (image.sum(0) * axis).sum() == pytest.approx(-4.5, abs=1e-3)


def test_a_trail_adds_a_twelfth_of_its_length_squared_to_the_variance_along_it():
    image = Line(gaussian(), SIDE).image(0, 0, 18.0, 0.0)
    axis = np.arange(SIDE) - SIDE // 2
    assert (image.sum(0) * axis**2).sum() == pytest.approx(1.7**2 + 18**2 / 12, rel=1e-3)
    assert (image.sum(1) * axis**2).sum() == pytest.approx(1.7**2, rel=1e-3)


def test_a_trail_of_no_length_is_the_psf():
    image, psf = Line(gaussian(), SIDE).image(0, 0, 0.0, 77.0), gaussian()
    half = SIDE // 2 - 12
    np.testing.assert_allclose(image[half:-half, half:-half], psf, atol=1e-12)


@pytest.mark.parametrize(("length", "angle"), [(6.0, 10.0), (15.0, -70.0), (38.0, 45.0)])
def test_length_and_angle_are_recovered_in_noise(length, angle):
    line = Line(gaussian(), SIDE)
    data, weight = noisy(line.image(0.8, -1.3, length, angle), 900.0)
    trail = fit_trail(data, weight, gaussian(), angle + 12)
    # S/N of 50 and more: the length is good to a few percent, the angle to a degree or two.
    assert trail.length == pytest.approx(length, rel=0.1)
    assert abs((trail.angle - angle + 90) % 180 - 90) < 4
    assert (trail.y, trail.x) == (pytest.approx(0.8, abs=0.4), pytest.approx(-1.3, abs=0.4))
    assert trail.gain > 25
    # 1 of noise alone, less what the PSF's own error of 5 % is allowed.
    assert trail.chi2 < 1.4


def test_a_point_source_gains_nothing_as_a_trail():
    data, weight = noisy(Line(gaussian(), SIDE).image(0.3, 0.2, 0.0, 0.0), 300.0)
    assert fit_trail(data, weight, gaussian(), 0.0, least_gain=25.0) is None


def test_a_fit_that_cannot_win_what_is_asked_for_is_given_up():
    line, fits = Line(gaussian(), SIDE), []
    for seed in range(40):
        data, weight = noisy(line.image(0, 0, 9.0, 20.0), 60.0, seed=seed)  # a quarter of them win 20
        fits.append(fit_trail(data, weight, gaussian(), 20.0, least_gain=20.0))
    won = [trail.gain for trail in fits if trail]
    # A fit ends where a step promises 0.01, of which five times as much is hoped for.
    assert len(won) > 5
    assert min(won) > 20 - 0.05


def test_no_trail_is_given_up_that_wins():
    line, random, lost = Line(gaussian(), SIDE), np.random.default_rng(3), 0
    for _ in range(60):
        at = *random.uniform(-0.5, 0.5, 2), random.uniform(4, 40), random.uniform(-90, 90)
        data, weight = noisy(line.image(*at), random.uniform(60, 200), seed=int(random.integers(1 << 30)))
        given = data, weight, gaussian(), at[3] + random.normal(0, 10)
        every = fit_trail(*given, least_gain=15.0)  # has hope for long
        lost += every is not None and every.gain > 20 and fit_trail(*given, least_gain=20.0) is None
    # Of 5,500 none was lost (HOPE); a start that promises 5 but not 20 / 3 may lose one.
    assert lost <= 1


@pytest.mark.parametrize("off", [-0.35, 0.35])
def test_a_trail_is_found_from_near_its_end(off):
    y, x = off * 36 * np.sin(np.radians(30)), off * 36 * np.cos(np.radians(30))
    line, found = Line(gaussian(), SIDE), 0
    for seed in range(20):
        data, weight = noisy(line.image(y, x, 36.0, 30.0), 160.0, seed=seed)
        found += abs(fit_trail(data, weight, gaussian(), 30.0).length / 36 - 1) < 0.15
    # S/N of 12: the noise itself spoils one or two; from the middle alone a fit finds 14.
    assert found >= 18


def test_a_bright_point_between_pixels_gains_no_more_than_noise_gives():
    psf = gaussian(2.0)
    image = Line(psf, SIDE).image(0.5, 0.5, 0.0, 0.0)
    fits = [fit_trail(*noisy(image, 300.0, seed=seed), psf, 45.0) for seed in range(20)]
    # chi2 of two parameters more: above 20 once in 20,000.  A point kept on whole pixels would leave 100.
    assert max(trail.gain for trail in fits if trail) < 20


def test_pixels_without_a_value_are_left_out():
    data, weight = noisy(Line(gaussian(), SIDE).image(0, 0, 16.0, 30.0), 900.0)
    data[28:31, 40:44], weight[28:31, 40:44] = 1e4, 0
    trail = fit_trail(data, weight, gaussian(), 20.0)
    assert trail.length == pytest.approx(16, rel=0.1)


def test_trails_that_are_fitted_together_are_those_that_are_fitted_alone():
    line, angle = Line(gaussian(), SIDE), np.array([20.0, -50.0, 80.0])
    images = [line.image(0.5, -1, length, turn + 7) for length, turn in zip((9.0, 0.0, 25.0), angle, strict=True)]
    data, weight = (np.stack(one) for one in zip(*(noisy(image, 600.0) for image in images), strict=True))
    psf = np.stack([gaussian()] * 3)
    together = fit_trails(data, weight, psf, angle, 10.0)
    alone = [fit_trail(*one, 10.0) for one in zip(data, weight, psf, angle, strict=True)]
    assert together[1] is alone[1] is None
    for one, other in ((together[0], alone[0]), (together[2], alone[2])):
        assert one.length == pytest.approx(other.length, rel=1e-3)  # float32 models


def test_no_stamps_give_no_trails():
    assert fit_trails(*np.empty((2, 0, SIDE, SIDE)), np.empty((0, 25, 25)), np.empty(0)) == []


def test_the_slopes_of_a_trail_are_those_between_neighbours():
    line, at, step = Line(gaussian(), SIDE), np.array([0.7, -1.2, 9.0, 35.0]), 0.01
    slopes = line.slopes(at[None], np.zeros(1, int), 4)[0, 1:]
    for n, slope in enumerate(slopes):
        aside = step * np.eye(4)[n]
        expected = (line.image(*(at + aside)) - line.image(*(at - aside))) / (2 * step)
        # float32: 1e-6 of the largest slope; the parabola that a step of 0.01 leaves out is less.
        np.testing.assert_allclose(slope, expected, atol=2e-5 * np.abs(slopes[0]).max())


def test_a_line_longer_than_a_stamp_is_fitted_by_one_that_is_within():
    data, weight = noisy(Line(gaussian(), 201).image(0, 0, 150.0, 10.0)[70:-70, 70:-70], 3000.0)
    assert fit_trail(data, weight, gaussian(), 10.0).length <= SIDE


@pytest.mark.parametrize(("count", "side"), [(9, 31), (1, 15), (0, 15)])
def test_cuda_body_agrees_with_the_definition(launcher, count, side):
    rng = np.random.default_rng(count)
    trails = rng.random((18, len(LENGTHS), side, side)).astype(np.float32)
    planes = rng.normal(size=(count, 2, side, side)).astype(np.float32)
    planes[:, 0] = planes[:, 0] > 0
    turns, places = rng.integers(0, 18, (count, 1)) + np.arange(5), rng.integers(-1, 2, (count, 2))
    given = trails, planes, turns % 18, places
    found, expected = line_powers_cuda(launcher, *given), line_powers(*given)
    # float32 sums of 961 values that cancel.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * expected.max(initial=0))
