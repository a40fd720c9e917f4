"""gpudiff.services.sky_cells: rows by place."""

import numpy as np
import pytest

from gpudiff.arrays.zone_join import zone_join
from gpudiff.services.sky_cells import SIDE, SkyCells


def anywhere(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of positions all over the sky, degrees."""
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))


def near_poles(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions within a degree of a pole."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-360, 720, count), rng.choice([-1, 1], count) * (90 - rng.uniform(0, 1, count))


@pytest.mark.parametrize("places", [anywhere, near_poles])
@pytest.mark.parametrize("margin", [30 / 3600, SIDE / 4, 2.0])
def test_all_within_the_margin_are_among_those_found(places, margin):
    (ra, dec), (ra_asked, dec_asked) = places(20_000, 1), places(2_000, 2)
    cells = SkyCells()
    cells.put(np.arange(20_000), ra, dec)
    pairs = zone_join(ra_asked, dec_asked, ra, dec, 3600 * margin)[1]
    assert len(pairs)
    assert set(pairs.tolist()) <= set(cells.near(ra_asked, dec_asked, margin).tolist())


def test_right_ascension_0_is_like_any_other():
    cells = SkyCells()
    cells.put(np.arange(2), np.array([0.001, 359.999]), np.array([10.0, 10.0]))
    for ra in (0.0, 360.0, -0.001):
        assert cells.near(np.array([ra]), np.array([10.0]), 0.01).tolist() == [0, 1]


def test_rows_elsewhere_are_not_looked_at():
    ra, dec = anywhere(200_000, 3)
    cells = SkyCells()
    cells.put(np.arange(len(ra)), ra, dec)
    found = cells.near(np.array([100.0]), np.array([20.0]), 0.01)
    assert len(found) < 50  # 4 cells of 1/16 square degree hold 1.2 of the 200,000 of 41,253 square degrees


def test_a_row_is_where_it_was_put_last():
    cells, row = SkyCells(), np.array([5])
    for ra in (10.0, 20.0, 10.0):
        cells.put(row, np.array([ra]), np.array([0.0]))
    assert cells.near(np.array([10.0]), np.array([0.0]), 0.01).tolist() == [5]
    assert cells.near(np.array([20.0]), np.array([0.0]), 0.01).tolist() == []


def test_a_row_without_a_place_is_nowhere():
    cells = SkyCells()
    cells.put(np.array([0, 1]), np.array([10.0, 10.0]), np.array([0.0, np.nan]))
    cells.put(np.array([0]), np.array([np.nan]), np.array([0.0]))
    assert len(cells.near(np.array([10.0]), np.array([0.0]), 0.01)) == 0
