"""The sky left in a difference: sums of cells, and a surface as fine as they predict one another."""

import numpy as np
import pytest

from gpudiff.arrays.residual_sky import CELLS, _moments, _weights, cell_sums, fitted, fitted_cuda, residual_sky

SIDE = 512
"""Pixels; four tiles of 256, cells of 16."""


def sums_of(image, use=None):
    use = np.ones(image.shape, bool) if use is None else use
    tiles = SIDE // 256
    out = np.zeros((2, CELLS * tiles, CELLS * tiles))
    for j in range(tiles):
        for i in range(tiles):
            core = slice(256 * j, 256 * (j + 1)), slice(256 * i, 256 * (i + 1))
            place = slice(CELLS * j, CELLS * (j + 1)), slice(CELLS * i, CELLS * (i + 1))
            out[(slice(None), *place)] = cell_sums(image[core], use[core])
    return out


def sky_of(sums):
    return residual_sky(sums)[0]


def noise(seed):
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)


def waves(length):
    """(SIDE, SIDE) of rms 0.5, waves of that many pixels along both axes."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.sin(2 * np.pi * x / length + 1) * np.sin(2 * np.pi * y / length)


def at_cells(image, grid):
    """The means of the image over the cells of a grid."""
    side = SIDE // len(grid)
    return image.reshape(len(grid), side, len(grid), side).mean((1, 3))


@pytest.mark.parametrize("shape", [(256, 256), (233, 219)])
def test_the_sums_are_those_of_the_used_pixels(shape):
    image = noise(1)[: shape[0], : shape[1]] + np.float32(3)
    use = np.random.default_rng(2).random(image.shape) < 0.7
    sums = cell_sums(image, use)
    # float32 sums of 200 values a cell.
    assert sums[0].sum() == pytest.approx(image[use].sum(dtype=np.float64), rel=1e-5)
    assert sums[1].sum() == use.sum()
    corner = slice(0, -(-shape[0] // CELLS)), slice(0, -(-shape[1] // CELLS))
    assert sums[1, 0, 0] == use[corner].sum()


def test_a_constant_sky_is_one_number():
    np.testing.assert_allclose(sky_of(sums_of(np.full((SIDE, SIDE), 2.5, np.float32))), [[2.5]])


def test_without_a_used_pixel_there_is_no_sky():
    assert sky_of(sums_of(noise(1), np.zeros((SIDE, SIDE), bool))).tolist() == [[0.0]]


def test_noise_alone_has_hardly_a_surface():
    # A mesh of these cells as they are would have 0.06; a chance success of a coarse one stays below 0.02.
    assert max(sky_of(sums_of(noise(seed))).std() for seed in range(5)) < 0.02


@pytest.mark.parametrize(("length", "left"), [(150, 0.07), (200, 0.045), (400, 0.03)])
def test_structure_is_followed_as_fine_as_it_is_and_no_finer(length, left):
    grid = sky_of(sums_of(waves(length) + noise(3)))
    # Of a rms of 0.5: a cell has a noise of 0.06, and a quadratic 18 px wide misses some of the short waves.
    assert (grid - at_cells(waves(length), grid)).std() < left


def test_structure_smaller_than_cells_is_noise():
    assert np.abs(sky_of(sums_of(waves(24) + noise(4)))).max() < 0.03


def test_a_slope_goes_on_to_the_edge():
    _, x = np.mgrid[:SIDE, :SIDE]
    grid = sky_of(sums_of((x / SIDE - 0.5) + 0.1 * noise(5)))
    # A mean of near cells would be off by half a width at the edge: 0.05.
    np.testing.assert_allclose(grid, at_cells(x / SIDE - 0.5, grid), atol=0.015)


def test_a_wild_cell_changes_nothing_beyond_itself():
    image = waves(200) + noise(6)
    clean = sky_of(sums_of(image))
    image[64:80, 64:80] += 5
    # Its neighbours speak for it: their noise is 0.06 a cell, less what the fit averages away.
    np.testing.assert_allclose(sky_of(sums_of(image)), clean, atol=0.05)


def test_an_empty_part_is_filled_from_round_it():
    use = np.ones((SIDE, SIDE), bool)
    use[200:232, 200:232] = False
    image = waves(400) + noise(7)
    grid = sky_of(sums_of(np.where(use, image, 99).astype(np.float32), use))
    assert (grid - at_cells(waves(400), grid)).std() < 0.04


def test_a_cell_tells_how_much_of_its_own_value_is_in_its_sky():
    image = waves(200) + noise(8)
    sums = sums_of(image)
    sky, own = residual_sky(sums)
    side = SIDE // len(sky)
    j, i = len(sky) // 2, len(sky) // 3
    image[side * j : side * (j + 1), side * i : side * (i + 1)] += 0.1
    # A tenth of a sigma a pixel changes no choice of scale.
    assert (sky_of(sums_of(image)) - sky)[j, i] == pytest.approx(0.1 * own[j, i], rel=0.02)


def test_a_cell_without_pixels_has_nothing_of_its_own_in_its_sky():
    use = np.ones((SIDE, SIDE), bool)
    use[200:232, 200:232] = False
    _, own = residual_sky(sums_of(waves(150) + noise(9), use))
    assert own.min() == 0 < np.median(own)


def test_sums_under_gaussian_weights_are_those_over_all_cells():
    cells = np.random.default_rng(6).normal(size=(90, 130))
    made = _moments(cells, _weights(90, 2, 1.4), _weights(130, 3, 1.4), 3)
    weights = []
    for side, step in ((90, 2), (130, 3)):
        distance = (np.arange(side) - np.arange(0, side, step)[:, None]) / 1.4
        weights.append([np.exp(-0.5 * distance**2) * distance**power for power in range(3)])
    expected = np.einsum("pry,yx,qcx->pqrc", weights[0], cells, weights[1])
    asked = np.add.outer(range(3), range(3)) < 3
    # float64; what is left out is less than 1e-14
    np.testing.assert_allclose(made[asked], expected[asked], atol=1e-12)


def test_cuda_body_agrees_with_the_definition(launcher):
    rng = np.random.default_rng(8)
    fine = np.stack([rng.normal(0, 30, (31, 23)), rng.integers(0, 250, (31, 23))])
    fine[:, 4:9, 3:17] = 0  # no pixel is used
    coarse = fine[:, :30:2, :22:2] + fine[:, 1::2, 1::2]
    coarse[:, :, 6:] = 0  # too few cells are near
    jobs = [(fine, 2.8, 3, 2), (fine, 1.1, 1, 1), (coarse, 1.8, 1, 1), (coarse[:, :4, :4].copy(), 2.2, 1, 3)]
    for got, job in zip(fitted_cuda(launcher, jobs), jobs, strict=True):
        for one, expected in zip(got, fitted(*job), strict=True):
            # Sums in double, in another order, times what elimination makes of it where few cells are near.
            np.testing.assert_allclose(one, expected, rtol=1e-8, atol=1e-10)


def test_without_a_job_nothing_is_fitted_on_a_gpu(launcher):
    assert fitted_cuda(launcher, []) == []
