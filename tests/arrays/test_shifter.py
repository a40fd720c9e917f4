"""gpudiff.arrays.shifter: PSFs moved by fractions of a pixel."""

import numpy as np
import pytest

from gpudiff.arrays.shifter import Shifter


def gaussian(y, x, side, sigma=1.7):
    axis = np.arange(side) - side // 2
    return np.exp(-0.5 * ((axis[:, None] - y) ** 2 + (axis - x) ** 2) / sigma**2)


PSFS = np.stack([gaussian(0, 0, 25), 2 * gaussian(0, 0, 25)])
PLACES = np.array([[0.3, -1.6], [-2.25, 0.5]])


@pytest.mark.parametrize(("side", "room"), [(0, 8), (61, 24)])
def test_a_psf_lies_where_it_is_put_in_a_stamp_of_any_size(side, room):
    found = Shifter(PSFS, side, room).at(PLACES, np.array([1, 0]))[:, 0]
    expected = [2 * gaussian(*PLACES[0], side or 25), gaussian(*PLACES[1], side or 25)]
    # A Gaussian of 1.7 px has 6e-7 of its power beyond the last wave, and 1e-9 beyond the stamp.
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_slopes_are_those_between_neighbours():
    shifter, rows, step = Shifter(PSFS, 61, 24), np.zeros(1, int), 1e-4
    slopes = shifter.at(PLACES[:1], rows)[0, 1:]
    for n, slope in enumerate(slopes):
        aside = step * np.eye(2)[n]
        expected = (shifter.at(PLACES[:1] + aside, rows) - shifter.at(PLACES[:1] - aside, rows))[0, 0] / (2 * step)
        np.testing.assert_allclose(slope, expected, atol=1e-7)  # the parabola that a step of 1e-4 leaves out


def test_float32_is_good_to_a_millionth_of_the_peak():
    one, other = (Shifter(PSFS, 61, 24, kind).at(PLACES, np.arange(2)) for kind in (np.float32, float))
    assert one.dtype == np.float32
    np.testing.assert_allclose(one, other, atol=2e-6)


def test_what_leaves_the_stamp_does_not_come_back_within_the_room():
    found = Shifter(PSFS[:1], 61, 24).at(np.array([[30.0, 0.0]]), np.zeros(1, int))[0, 0]
    assert np.abs(found[:15]).max() < 1e-6  # what the Gaussian has 12 px from its middle is 1e-11
