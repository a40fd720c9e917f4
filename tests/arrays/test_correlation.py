"""Correlation of noise."""

import numpy as np
from scipy.signal import fftconvolve

from gpudiff.arrays.correlation import autocorrelation, of_kernel, passed


def brute(values, use, dy, dx):
    total, count = 0.0, 0
    for y in range(values.shape[0]):
        for x in range(values.shape[1]):
            j, i = y + dy, x + dx
            if 0 <= j < values.shape[0] and 0 <= i < values.shape[1] and use[y, x] and use[j, i]:
                total += values[y, x] * values[j, i]
                count += 1
    return total / count


def test_every_lag_is_the_mean_product_of_usable_pixels_so_far_apart():
    rng = np.random.default_rng(1)
    values, use = rng.normal(size=(13, 17)), rng.random((13, 17)) < 0.7
    found, count = autocorrelation(values, use, 2)
    expected = [[brute(values, use, dy, dx) for dx in range(-2, 3)] for dy in range(-2, 3)]
    np.testing.assert_allclose(found, expected, atol=1e-6)  # float32 sums
    assert count == use.sum()


def test_pixels_left_out_may_be_nan():
    values, use = np.ones((20, 20)), np.ones((20, 20), bool)
    values[3:9, 4], use[3:9, 4] = np.nan, False
    np.testing.assert_allclose(autocorrelation(values, use, 1)[0], 1)


def test_white_noise_has_only_a_middle():
    values = np.random.default_rng(2).normal(0, 3, (300, 300))
    found, _ = autocorrelation(values, np.ones_like(values, bool), 3)
    off = found.copy()
    off[3, 3] = 0
    # Each mean has the scatter 9 / 300; 4 sigma for the worst of 49.
    assert abs(found[3, 3] - 9) < 4 * np.sqrt(2) * 9 / 300
    assert np.abs(off).max() < 4 * 9 / 300


def test_a_kernels_autocorrelation_is_that_of_filtered_white_noise():
    rng = np.random.default_rng(3)
    kernel = rng.normal(size=(5, 5))
    noise = fftconvolve(rng.normal(size=(700, 700)), kernel, mode="valid")
    found, _ = autocorrelation(noise, np.ones_like(noise, bool), 4)
    power = (kernel**2).sum()
    # 696^2 pixels correlated over some 10: 1.5 % of the variance is 4 sigma.
    np.testing.assert_allclose(of_kernel(kernel, 4), found, atol=0.03 * power)


def test_a_kernels_autocorrelation_ends_at_its_width():
    found = of_kernel(np.ones((3, 3)), 4)
    np.testing.assert_allclose(found[4, 4:], [9, 6, 3, 0, 0], atol=1e-12)


def test_a_weighted_sum_over_filtered_noise_has_the_variance_said():
    rng = np.random.default_rng(4)
    kernel, profile = rng.random((3, 3)), rng.random((5, 5))
    both = fftconvolve(kernel[::-1, ::-1], profile)
    np.testing.assert_allclose(passed(kernel, profile), (both**2).sum(), rtol=1e-9)
    np.testing.assert_allclose(passed(np.ones((1, 1)), profile), (profile**2).sum(), rtol=1e-9)
