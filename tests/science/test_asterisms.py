"""Two lists of stars brought together."""

import numpy as np
import pytest

from gpudiff.science.asterisms import BrightStars, agreement, bright_stars, refined, similar

SHAPE = (2000, 2000)


def stars(count=300, seed=1) -> BrightStars:
    y, x = np.random.default_rng(seed).uniform(20, 1980, (2, count))
    return BrightStars(y, x, 1.5)


def moved(some: BrightStars, turn: complex, shift: complex = 0j, noise=0.03, mirror=False) -> BrightStars:
    """Turned and scaled about the middle, then shifted, with noisy centres."""
    points = some.x + 1j * some.y - (1000 + 1000j)
    points = turn * (points.conj() if mirror else points) + 1000 + 1000j + shift
    wobble = np.random.default_rng(2).normal(0, noise, (2, len(some)))
    return BrightStars(points.imag + wobble[0], points.real + wobble[1], 1.5)


def identity(y, x):
    return y, x


def test_the_same_stars_coincide():
    fit = agreement(identity, stars(), moved(stars(), 1 + 0j), SHAPE)
    assert fit.holds
    assert fit.count == fit.inside
    assert fit.residual == pytest.approx(0.03 * 1.177, rel=0.2)  # median of a Rayleigh distribution, 200 stars


def test_defocused_stars_are_where_they_are_in_focus(maker):
    exposures = maker.exposures(maker.pair(fwhm=(3.2, 3.2), ring=6.0, stars=60, star_flux=(4e4, 3e5), seed=5))
    ring, point = (bright_stars(exposure) for exposure in exposures)
    fit = agreement(identity, ring, point, (384, 384))
    assert fit.count > 0.8 * fit.inside
    assert fit.residual < 0.5  # the brightest pixels of the rings are 6 px away


def test_other_stars_do_not():
    assert not agreement(identity, stars(), stars(seed=3), SHAPE).holds


def test_crowding_alone_is_no_agreement():
    fit = agreement(identity, stars(20000), stars(60000, seed=3), (SHAPE[0], SHAPE[1]), radius=3)
    assert fit.count > 0.3 * fit.inside
    assert not fit.holds


def test_stars_that_all_fall_on_one_do_not():
    lone = BrightStars(np.array([1000.0, 300.0]), np.array([1000.0, 1700.0]), 1.5)
    assert agreement(lambda y, x: (0 * y + 1000, 0 * x + 1000), stars(), lone, SHAPE).count == 1


def test_three_of_four_stars_agree_under_a_map_that_was_given():
    few = stars(4)
    its = BrightStars(np.r_[few.y[:3], 50.0], np.r_[few.x[:3], 1900.0], 1.5)
    fit = agreement(identity, few, its, SHAPE)
    assert (fit.count, fit.holds, fit.agrees) == (3, False, True)
    crowd = agreement(identity, stars(7), stars(2000, seed=3), (200, 200))
    assert not crowd.agrees


def test_no_stars_agree_with_none():
    fit = agreement(identity, stars(0), stars(), SHAPE)
    assert (fit.count, fit.holds) == (0, False)


@pytest.mark.parametrize("degrees", [0, 2, 37, 180, 300])
@pytest.mark.parametrize("scale", [0.8, 1.0])
def test_a_turned_scaled_and_shifted_field_is_recognised(degrees, scale):
    turn = scale * np.exp(1j * np.radians(degrees))
    found = similar(stars(), moved(stars(), turn, 40 - 25j), SHAPE)
    assert found is not None
    assert found.fit.residual < 0.06  # the centres' own noise
    y, x = found.place(np.array([500.0]), np.array([700.0]))
    want = turn * (700 + 500j - (1000 + 1000j)) + 1000 + 1000j + 40 - 25j
    assert complex(x[0], y[0]) == pytest.approx(want, abs=0.05)  # a quadratic through 200 noisy stars


def test_a_third_of_the_stars_missing_on_each_side_does_no_harm():
    all_of_them = stars(600)
    there = moved(all_of_them, np.exp(0.1j))
    keep = np.random.default_rng(5).uniform(size=(2, 600)) > 0.2
    first = BrightStars(all_of_them.y[keep[0]], all_of_them.x[keep[0]], 1.5)
    second = BrightStars(there.y[keep[1]], there.x[keep[1]], 1.5)
    assert similar(first, second, SHAPE) is not None


@pytest.mark.parametrize("other", [stars(seed=3), stars(3), stars(0), moved(stars(), 1 + 0j, mirror=True)])
def test_no_pattern_is_found_where_there_is_none(other):
    assert similar(stars(), other, SHAPE) is None


def test_a_map_is_corrected_to_the_lowest_order_that_helps():
    mine, its = stars(), moved(stars(), np.exp(0.0008j), 0.5 + 0j)
    before = agreement(identity, mine, its, SHAPE)
    place, after = refined(identity, before, mine, its, SHAPE, SHAPE)
    assert after.order == 1
    assert after.residual < 0.06 < before.residual
    y, x = place(np.array([[1000.0]]), np.array([[1000.0]]))
    assert (y[0, 0], x[0, 0]) == pytest.approx((1000, 1000.5), abs=0.03)  # 200 stars of 0.03 px


def test_a_good_map_is_left_as_it_is():
    mine, its = stars(), moved(stars(), 1 + 0j)
    fit = agreement(identity, mine, its, SHAPE)
    assert refined(identity, fit, mine, its, SHAPE, SHAPE) == (identity, fit)
