"""The mesh of the sky left in a difference: sums, levels, and how fine it is."""

import numpy as np
import pytest

from gpudiff.arrays.residual_sky import CELLS, SCALES, cell_sums, choose, level

SIDE = 512
"""Pixels; four tiles of 256, cells of 32."""


def sums_of(image, use=None):
    use = np.ones(image.shape, bool) if use is None else use
    tiles = SIDE // 256
    out = np.zeros((2, 2, CELLS * tiles, CELLS * tiles))
    for j in range(tiles):
        for i in range(tiles):
            core = slice(256 * j, 256 * (j + 1)), slice(256 * i, 256 * (i + 1))
            place = slice(CELLS * j, CELLS * (j + 1)), slice(CELLS * i, CELLS * (i + 1))
            out[(slice(None), slice(None), *place)] = cell_sums(image[core], use[core])
    return out


def stretched(grid):
    """The grid's values at the centres of 16 x 16 cells, by repetition."""
    return np.repeat(np.repeat(grid, 16 // grid.shape[0], 0), 16 // grid.shape[1], 1)


def test_the_sums_of_even_and_odd_rows_are_those_of_all_used_pixels():
    image = np.random.default_rng(1).normal(3, 1, (233, 219)).astype(np.float32)
    use = np.random.default_rng(2).random(image.shape) < 0.7
    sums = cell_sums(image, use)
    # float64 sums of float32 values in another order.
    assert sums[:, 0].sum() == pytest.approx(image[use].sum(dtype=np.float64), rel=1e-9)
    assert sums[:, 1].sum() == use.sum()
    assert sums[0, 1].sum() == use[0::2].sum()


def test_a_constant_sky_is_that_constant_at_every_scale():
    sums = sums_of(np.full((SIDE, SIDE), 2.5, np.float32)).sum(0)
    for together in SCALES:
        np.testing.assert_allclose(level(sums, together), 2.5)


def test_a_cell_without_pixels_takes_the_median_of_the_others():
    image = np.full((SIDE, SIDE), 4, np.float32)
    use = np.ones(image.shape, bool)
    use[:32, :32] = False
    assert level(sums_of(image, use).sum(0), 0)[0, 0] == 4


def test_one_wild_cell_is_medianed_away_where_cells_are_smoothed():
    image = np.zeros((SIDE, SIDE), np.float32)
    image[64:96, 64:96] = 50
    sums = sums_of(image).sum(0)
    assert np.abs(level(sums, 1)).max() == 0
    assert level(sums, 0)[2, 2] == 50


def test_noise_alone_asks_for_the_coarsest_mesh():
    image = np.random.default_rng(3).normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    assert choose(sums_of(image), stretched) == SCALES[0]


def test_structure_of_the_size_of_a_cell_asks_for_a_finer_one():
    y, x = np.mgrid[:SIDE, :SIDE]
    structure = 5 * np.sin(2 * np.pi * x / 128) * np.sin(2 * np.pi * y / 128)
    image = (structure + np.random.default_rng(4).normal(0, 1, (SIDE, SIDE))).astype(np.float32)
    assert choose(sums_of(image), stretched) < SCALES[1]


def test_without_a_used_pixel_the_coarsest_mesh_is_flat():
    image, nothing = np.ones((SIDE, SIDE), np.float32), np.zeros((SIDE, SIDE), bool)
    sums = sums_of(image, nothing)
    assert choose(sums, stretched) == SCALES[0]
    assert (level(sums.sum(0), SCALES[0]) == 0).all()
