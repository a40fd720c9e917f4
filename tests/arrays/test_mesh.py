"""Sky level and noise in the cells of a mesh."""

import numpy as np
import pytest

from gpudiff.arrays.mesh import (
    clipped_mesh,
    counted_mesh,
    edges,
    mesh_cuda,
    neighbours_mesh,
    robust_sigma,
    robust_surface,
    sampled_rows,
    step_of,
)


def noisy(shape=(256, 320), level=500.0, sigma=9.0, seed=1):
    return np.random.default_rng(seed).normal(level, sigma, shape).astype(np.float32)


def test_cells_tile_the_axis():
    borders = edges(1000, 256)
    assert borders[0] == 0
    assert borders[-1] == 1000
    assert len(borders) == 5


def test_level_and_sigma_of_blank_sky_are_the_skys():
    level, sigma = clipped_mesh(noisy(), np.zeros((256, 320), bool), 64)
    # 4096 px a cell: the level to 9 / 64 times 2 (the mode amplifies), sigma by a quantile to 2 %, 4 sigma.
    np.testing.assert_allclose(level, 500, atol=1.2)
    np.testing.assert_allclose(sigma, 9, rtol=0.08)


def test_level_and_sigma_of_few_counts_are_their_mean_and_deviation():
    image = np.random.default_rng(3).poisson(0.5, (256, 320)).astype(np.float32)
    image[::40, ::40] = 50
    image[5, 5] = np.nan
    level, sigma = counted_mesh(image, np.zeros(image.shape, bool), 64)
    # 4096 px a cell: 1.6 % a sigma, 20 cells; beyond 5 sigma 0.5 % of the light is left out
    np.testing.assert_allclose(level, 0.5, rtol=0.06)
    np.testing.assert_allclose(sigma**2, 0.5, rtol=0.1)


def test_the_wings_of_stars_do_not_widen_a_sky_of_few_counts():
    rng, (rows, columns) = np.random.default_rng(5), np.mgrid[:512, :512]
    mean = np.ones((512, 512))
    for y, x in rng.uniform(0, 512, (200, 2)):
        mean += 100 / (1 + ((rows - y) ** 2 + (columns - x) ** 2) / 9) ** 2
    level, sigma = counted_mesh(rng.poisson(mean).astype(np.float32), np.zeros((512, 512), bool), 128)
    # a twentieth of a count is what the wings of 200 stars add up to between them
    assert np.median(level) == pytest.approx(1, abs=0.1)
    assert np.median(sigma) == pytest.approx(1, abs=0.1)


def test_a_cell_without_enough_counts_is_empty():
    unusable = np.ones((64, 64), bool)
    unusable[0, :59] = False
    assert np.isnan(counted_mesh(np.ones((64, 64), np.float32), unusable, 64)).all()


def test_noise_between_neighbours_is_that_of_each_cell_whatever_is_wide():
    image = noisy() + 60 * np.sin(np.arange(320, dtype=np.float32) / 30)
    image[:, 256:] += noisy((256, 64), 0, 12.0, seed=2)
    unusable = np.zeros(image.shape, bool)
    unusable[:64, :64] = True
    noise = neighbours_mesh(image, unusable, 64)
    assert noise.shape == (4, 5)
    assert np.isnan(noise[0, 0])
    # 1,008 differences a cell: 1.17 / sqrt(1008), 3.7 %, a sigma; the waves slope by 2 a pixel at most
    np.testing.assert_allclose(noise[1:, :4], 9, rtol=0.15)
    np.testing.assert_allclose(noise[:, 4], 15, rtol=0.15)


def test_the_step_of_counts_is_what_a_photon_adds():
    assert step_of(np.array([0.5, 0.0, 1.25, 0.5])) == 0.5
    assert step_of(np.ones(3)) == 0


def test_stars_on_a_tenth_of_the_pixels_lift_the_level_by_less_than_a_fifth_of_sigma():
    image = noisy()
    stars = np.random.default_rng(2).random(image.shape) < 0.1
    image[stars] += 400
    level, _ = clipped_mesh(image, np.zeros(image.shape, bool), 64)
    # Light 44 sigma above the sky is clipped; what stays is the shift of the median of the first rounds.
    assert np.abs(level - 500).max() < 0.2 * 9


def test_unusable_pixels_do_not_count():
    image, bad = noisy(), np.zeros((256, 320), bool)
    image[:, ::2], bad[:, ::2] = 1e6, True
    level, _ = clipped_mesh(image, bad, 64)
    np.testing.assert_allclose(level, 500, atol=1.8)  # half the pixels: sqrt 2 more noise than above


def test_a_cell_without_usable_pixels_is_nan():
    bad = np.zeros((256, 320), bool)
    bad[:64, :64] = True
    level, sigma = clipped_mesh(noisy(), bad, 64)
    assert np.isnan(level[0, 0])
    assert np.isnan(sigma[0, 0])
    assert np.isfinite(level).sum() == level.size - 1


def test_a_nan_counts_as_unusable():
    image, bad = noisy(), np.zeros((256, 320), bool)
    image[::3] = np.nan
    for mine, its in zip(clipped_mesh(image, bad, 64), clipped_mesh(image, np.isnan(image), 64), strict=True):
        np.testing.assert_array_equal(mine, its)


def test_a_surface_leaves_out_cells_full_of_galaxy():
    v, u = np.mgrid[-1:1:8j, -1:1:8j]
    truth = 100 + 3 * u - 2 * v + u * v
    level = truth + np.random.default_rng(3).normal(0, 0.1, truth.shape)
    level[3:5, 3:5] += 50
    # Noise 0.1 through 6 terms on 60 cells: 0.1 * sqrt(6 / 60) in the mean, three times that at the corners.
    np.testing.assert_allclose(robust_surface(level), truth, atol=0.2)


def test_a_surface_bridges_empty_cells():
    v, u = np.mgrid[-1:1:6j, -1:1:6j]
    level = 10 + u + v
    level[2, 2] = np.nan
    np.testing.assert_allclose(robust_surface(level), 10 + u + v, atol=1e-6)  # exact but for rounding


def test_a_small_mesh_is_a_constant():
    assert np.ptp(robust_surface(np.array([[1.0, 2.0], [3.0, 4.0]]))) < 1e-12


def test_robust_sigma_ignores_a_tenth_of_outliers():
    values = np.random.default_rng(4).normal(0, 2, 20000)
    values[:2000] += 100
    # 10 % on one side move the median by 0.14 sigma and the deviation by about 12 %.
    assert 2 < robust_sigma(values) < 2 * 1.2
    assert robust_sigma(np.empty(0)) == 0


# ---------------------------------------------------------------- the CUDA body
def fields(batch, shape):
    """Skies with a star's light, of one value, of two, and round zero; NaN, unusable pixels, an empty cell."""
    rng = np.random.default_rng(batch)
    images = rng.normal(500, 9, (batch, *shape)).astype(np.float32)
    images += np.float32(3e4) * rng.random(images.shape, np.float32) ** 60
    images[1::4] -= 500
    images[2::4] = 7
    images[3::4] = images[3::4] > 500
    images[:, 3:5] = np.nan
    unusable = rng.random(images.shape) < 0.1
    unusable[0, :32, :20] = True
    return images, unusable


@pytest.mark.parametrize(
    ("batch", "shape", "cell", "step"), [(1, (66, 91), 30, 1), (1, (70, 64), 31, 2), (9, (25, 30), 40, 3)]
)
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, cell, step):
    images, unusable = fields(batch, shape)
    levels, sigmas = mesh_cuda(launcher, images, unusable, cell, step)
    for n in range(batch):
        level, sigma = clipped_mesh(images[n], unusable[n], cell, step)
        np.testing.assert_array_equal(sigmas[n], sigma)
        # A float64 mean summed in another order; what is clipped and every median is the same.
        np.testing.assert_allclose(levels[n], level, rtol=1e-12, atol=1e-12)


def test_cuda_body_needs_the_sampled_rows_alone(launcher):
    [image], [unusable] = fields(1, (75, 70))
    rows = sampled_rows(75, 36, 2)
    whole = mesh_cuda(launcher, image[None], unusable[None], 36, 2)
    thinned = mesh_cuda(launcher, image[rows][None], unusable[rows][None], 36, 2, height=75)
    np.testing.assert_array_equal(thinned, whole)
