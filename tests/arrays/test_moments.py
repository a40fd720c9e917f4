"""Adaptive moments."""

import numpy as np
import pytest

from gpudiff.arrays.moments import axes, moments, moments_cuda, second_moments


def gaussian(dy=0.0, dx=0.0, sigma=2.0, half=12, flux=1000.0):
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    return flux / (2 * np.pi * sigma**2) * np.exp(-((rows - dy) ** 2 + (columns - dx) ** 2) / (2 * sigma**2))


def elliptical(xx, yy, xy, half=14):
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    inverse = np.linalg.inv([[xx, xy], [xy, yy]])
    q = inverse[0, 0] * columns**2 + 2 * inverse[0, 1] * columns * rows + inverse[1, 1] * rows**2
    return np.exp(-0.5 * q)


@pytest.mark.parametrize(("dy", "dx", "sigma"), [(0.0, 0.0, 1.5), (0.4, -0.3, 2.0), (-1.2, 0.8, 2.5)])
def test_a_gaussians_centre_and_width_are_found(dy, dx, sigma):
    found = np.array(moments(gaussian(dy, dx, sigma)[None]))[:, 0]
    np.testing.assert_allclose(found, [dy, dx, sigma], atol=0.01)  # ten rounds of an iteration that halves errors


def test_y_and_x_are_not_mixed_up():
    dy, dx, _ = moments(np.stack([gaussian(1.0, 0.0), gaussian(0.0, 1.0)]))
    np.testing.assert_allclose([dy, dx], [[1, 0], [0, 1]], atol=0.01)


def test_noise_moves_the_centre_by_what_theory_says():
    rng = np.random.default_rng(1)
    stamps = gaussian(flux=2000.0) + rng.normal(0, 3.0, (400, 25, 25))
    dy, _, _ = moments(stamps)
    # Least error of a centroid, sqrt(8 pi) sigma^2 noise / flux, is 0.030 px; a tenth for the scatter of 400.
    assert 0.027 < dy.std() < 0.04


def test_a_stamp_without_light_stays_within_its_limits():
    dy, dx, sigma = moments(np.random.default_rng(2).normal(0, 1, (50, 15, 15)))
    assert np.isfinite([dy, dx, sigma]).all()
    assert np.abs(dy).max() <= 2
    assert sigma.min() >= 0.5
    assert sigma.max() <= 16


@pytest.mark.parametrize("truth", [(4.0, 4.0, 0.0), (6.0, 3.0, 0.0), (3.0, 5.0, 1.2), (4.0, 4.0, -1.5)])
def test_second_moments_of_a_gaussian_are_exact(truth):
    # The weight's cut at the stamp's edge (14 px, 3 of its sigmas) costs 1 %.
    np.testing.assert_allclose(second_moments(elliptical(*truth)[None], 4.0)[0], truth, atol=0.06)


def test_second_moments_of_pure_noise_are_nan_or_positive():
    found = second_moments(np.random.default_rng(3).normal(0, 1, (200, 15, 15)), 2.0)
    good = np.isfinite(found[:, 0])
    assert not good.all()
    assert (found[good, :2] > 0).all()


@pytest.mark.parametrize(("angle", "major", "minor"), [(0.0, 9.0, 4.0), (30.0, 6.0, 3.0), (-75.0, 8.0, 4.0)])
def test_the_axes_are_those_of_the_second_moments(angle, major, minor):
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    xx, yy, xy = major * c * c + minor * s * s, major * s * s + minor * c * c, (major - minor) * c * s
    found = np.array(axes(elliptical(xx, yy, xy)[None], 4.0))[:, 0]
    np.testing.assert_allclose(found, [major, minor, angle], rtol=0.03, atol=1e-9)  # the stamp's edge, as above


def test_what_is_brighter_farther_out_has_a_direction_all_the_same():
    rows, columns = np.mgrid[-14:15, -14:15]
    along = 0.8 * columns + 0.6 * rows
    across = 0.8 * rows - 0.6 * columns
    line = np.exp(-0.5 * across**2 / 4.0) * (1 + 0.01 * along**2)
    assert np.isnan(second_moments(line[None], 4.0)).all()
    major, _, angle = axes(line[None], 4.0)
    assert np.isinf(major[0])
    assert angle[0] == pytest.approx(np.degrees(np.arctan2(0.6, 0.8)), abs=1)


def test_where_the_light_is_not_positive_there_are_no_axes():
    assert np.isnan(axes(-elliptical(4.0, 3.0, 0.0)[None], 4.0)).all()


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(("count", "half"), [(1, 7), (9, 14)])
def test_cuda_moments_agree_with_the_definition(launcher, count, half):
    rng = np.random.default_rng(half)
    shapes = zip(*rng.uniform(-1, 1, (2, count)), rng.uniform(0.8, 5, count), strict=True)
    stamps = np.array([gaussian(*shape, half=half) for shape in shapes]) + rng.normal(0, 3, (2 * half + 1,) * 2)
    stamps = stamps.astype(np.float32)
    if count > 1:
        stamps[0], stamps[1] = 0, -stamps[1]  # no light: to the limits
    found, expected = moments_cuda(launcher, stamps, half / 3.5), moments(stamps, half / 3.5)
    np.testing.assert_allclose(found, expected, atol=1e-9)  # double sums in another order; ten rounds


def test_no_star_is_measured_without_a_launch(launcher):
    assert moments_cuda(launcher, np.empty((0, 15, 15), np.float32), 2.0).shape == (3, 0)
