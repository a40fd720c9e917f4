"""HEALPix cells."""

import numpy as np
import pytest

from gpudiff.edges.healpix import cells, cone, ranges


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.001, 0.0), (359.999, -30.0), (123.4, 89.9), (10.0, -90.0), (-1.0, 41.8)]
)
@pytest.mark.parametrize("radius", [1 / 3600, 0.3, 3.5, 40.0])
def test_a_cone_holds_every_position_within_it(ra, dec, radius):
    rng = np.random.default_rng(1)
    turn, away = rng.uniform(0, 2 * np.pi, 500), np.radians(radius) * np.sqrt(rng.random(500))
    there = np.radians(dec)
    sine = np.sin(there) * np.cos(away) + np.cos(there) * np.sin(away) * np.cos(turn)
    east = np.arctan2(np.sin(turn) * np.sin(away) * np.cos(there), np.cos(away) - np.sin(there) * sine)
    inside = cells(ra + np.degrees(east), np.degrees(np.arcsin(np.clip(sine, -1, 1))), 256)
    assert np.isin(inside, cone(ra, dec, radius, 256)).all()


def test_ranges_are_the_runs_of_rising_cells():
    np.testing.assert_array_equal(ranges(np.array([3, 4, 5, 9, 11, 12])), [(3, 6), (9, 10), (11, 13)])
    assert ranges(np.empty(0, int)).shape == (0, 2)


def test_the_whole_sky_is_every_cell():
    np.testing.assert_array_equal(cone(10.0, -20.0, 180.0, 16), np.arange(12 * 16**2))
