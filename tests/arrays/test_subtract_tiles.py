"""The pixel pass by tiles, against the definition pixel by pixel."""

import numpy as np
import pytest
from scipy.signal import convolve2d

from gpudiff.arrays.convolve import convolve
from gpudiff.arrays.polynomial import field, gradients, powers, terms
from gpudiff.arrays.subtract_tiles import (
    SHARED_BUDGET,
    Found,
    Pair,
    background_tile,
    lost_tile,
    matched_tile,
    shared_bytes,
    spectra,
    subtract_tiles_cuda,
    subtracted_tile,
    warps_for,
)
from gpudiff.arrays.tiles import tiles
from gpudiff.model.errors import WrongShape

HALF = 7


def kernel(order=2, half=HALF, varying=0.06, seed=1):
    """(P, K, K) a Gaussian whose shape and sum vary by some per cent over the field."""
    rng = np.random.default_rng(seed)
    axis = np.arange(-half, half + 1)
    bell = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 2.0**2)
    bell /= bell.sum()
    parts = [bell]
    for _ in range(len(powers(order)) - 1):
        a, b, c = varying * rng.normal(size=3)
        parts.append(bell * (a + b * axis / half + c * axis[:, None] / half))
    return np.array(parts)


def sky(shape, seed=2):
    """Stars on noise, zero mean."""
    rng = np.random.default_rng(seed)
    image = rng.normal(0, 5, shape)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    for y, x, flux in rng.uniform((0, 0, 1e3), (*shape, 1e5), (40, 3)):
        image += flux / 25 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8)
    return image.astype(np.float32)


def pair(convolved, target=None, bad=None, target_variance=30.0, variance=20.0, gains=(np.inf, np.inf)):
    """A Pair with flat sky variances, or (H, W) ones."""
    none = np.zeros(convolved.shape, bool)

    def cut(values):
        return lambda y0, y1, x0, x1: np.broadcast_to(np.float32(values), convolved.shape)[y0:y1, x0:x1]

    bad = none if bad is None else bad
    target = np.zeros_like(convolved) if target is None else target
    return Pair(target, convolved, none, bad, cut(target_variance), cut(variance), *gains)


def whole(images, coefficients, order, side=96, function=matched_tile):
    """Planes of all tiles put together."""
    shape = images.convolved.shape
    pieces = tiles(shape, side, coefficients.shape[1] // 2)
    spectrum = spectra(coefficients, order, pieces[0].size)
    out = None
    for tile in pieces:
        made = np.array(function(images, spectrum, tile))
        made = made if made.ndim == 3 else made[None]
        out = np.empty((len(made), *shape), made.dtype) if out is None else out
        out[:, tile.core[0], tile.core[1]] = made
    return out


SHAPES = [(200, 260), (191, 257), (97, 301), (40, 33)]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_match_is_the_exact_convolution(shape):
    image, coefficients = sky(shape), kernel(order=1)
    expected = convolve(image, coefficients.astype(np.float32), 1)
    # Linear in position within a tile, so exact at order 1 but for float32 FFTs: 1e-6 of the brightest star.
    np.testing.assert_allclose(whole(pair(image), coefficients, 1)[0], expected, atol=3e-6 * np.abs(image).max())


def test_at_order_0_it_is_scipys_convolution():
    image, coefficients = sky((120, 150)), kernel(order=0)
    expected = convolve2d(image.astype(float), coefficients[0], mode="same")
    np.testing.assert_allclose(whole(pair(image), coefficients, 0)[0], expected, atol=3e-6 * np.abs(image).max())


def test_at_order_2_a_tile_errs_by_the_curvature_over_half_a_tile():
    image, coefficients = sky((512, 512)), kernel(order=2, varying=0.1)
    error = whole(pair(image), coefficients, 2, side=128)[0] - convolve(image, coefficients.astype(np.float32), 2)
    # Terms of 10 % of the kernel, (half of 114 px) / 256 px = 0.22 in u: 0.1 * 0.22^2, for three terms, of a peak.
    assert np.abs(error).max() < 3 * 0.1 * 0.22**2 * np.abs(image).max() * 0.5


def test_tile_borders_leave_no_steps():
    shape = (300, 300)
    image, coefficients = np.full(shape, 1000, np.float32), kernel(order=2, varying=0.05)
    error = whole(pair(image), coefficients, 2)[0] - convolve(image, coefficients.astype(np.float32), 2)
    inner = (slice(HALF, -HALF),) * 2
    steps = max(np.abs(np.diff(error[inner], axis=axis)).max() for axis in (0, 1))
    # A flat 1000 through one kernel a tile would step by 5 % of it over the 4 tiles: 12.  The second order,
    # half a tile from its centre, leaves 0.05 * (41 / 150)^2 of it on either side, for three terms.
    assert steps < 1000 * 0.05 * (41 / 150) ** 2 * 3


def test_flux_is_scaled_by_the_kernel_sum_of_its_place():
    image = np.zeros((256, 256), np.float32)
    image[60, 70] = image[200, 190] = 1e4
    coefficients = kernel(order=1, varying=0.1)
    matched = whole(pair(image), coefficients, 1)[0]
    for y, x in ((60, 70), (200, 190)):
        expected = terms(field(x, 256), field(y, 256), 1) @ coefficients.sum((1, 2))
        # The kernel is that of the pixel, not of the star: the first order cancels over a symmetric star.
        box = matched[y - HALF : y + HALF + 1, x - HALF : x + HALF + 1]
        assert abs(box.sum() / 1e4 - expected) < 2e-3


def brute_variance(image, coefficients, order, sky_variance, gain, y, x):
    """Sum over j, i of K(j, i)^2 times the variance of the pixel it takes, at output pixel (y, x)."""
    at = np.tensordot(terms(field(x, image.shape[1]), field(y, image.shape[0]), order), coefficients, 1)
    half, total = coefficients.shape[1] // 2, 0.0
    for j in range(-half, half + 1):
        for i in range(-half, half + 1):
            if 0 <= y - j < image.shape[0] and 0 <= x - i < image.shape[1]:
                photons = max(image[y - j, x - i], 0) / gain
                total += at[half + j, half + i] ** 2 * (sky_variance + photons)
    return total


@pytest.mark.parametrize("order", [0, 1])
def test_variance_is_target_plus_kernel_squared_of_convolved(order):
    rows, columns = np.mgrid[:120, :140]
    light = 4e4 / 50 * np.exp(-((rows - 60) ** 2 + (columns - 70) ** 2) / 18.0)
    image, coefficients = light.astype(np.float32), kernel(order=order)
    matched, variance = whole(pair(image, gains=(2.0, 1.5)), coefficients, order)
    for y, x in ((60, 70), (63, 66), (30, 100), (100, 20)):
        expected = brute_variance(image, coefficients, order, 20.0, 1.5, y, x)
        expected += 30.0 + max(matched[y, x], 0) / 2.0
        assert variance[y, x] == pytest.approx(expected, rel=2e-3)  # K^2 is carried as its own polynomial


def test_noise_is_no_light():
    noise = np.random.default_rng(6).normal(0, np.sqrt(20), (120, 120)).astype(np.float32)
    impulse = np.zeros((1, 13, 13))
    impulse[0, 6, 6] = 1
    _, variance = whole(pair(noise, gains=(2.0, 1.5)), impulse, 0)
    # 14,400 pixels: 0.1 %; with the half above the sky taken for light it was 4 % too much
    assert variance.mean() == pytest.approx(50, rel=4e-3)
    assert variance.min() > 25  # half of the sky's


def test_variance_without_gain_is_the_skys_alone():
    coefficients = kernel(order=0)
    _, variance = whole(pair(sky((100, 100))), coefficients, 0)
    np.testing.assert_allclose(variance, 30 + 20 * (coefficients[0] ** 2).sum(), rtol=1e-5)  # float32


def test_variance_follows_the_scatter_of_repeated_noise():
    coefficients, rng = kernel(order=1), np.random.default_rng(5)
    target, convolved = (rng.normal(0, v**0.5, (60, 64, 64)).astype(np.float32) for v in (30, 20))
    stack = [a - whole(pair(b), coefficients, 1)[0] for a, b in zip(target, convolved, strict=True)]
    _, variance = whole(pair(np.zeros((64, 64), np.float32)), coefficients, 1)
    inner = (slice(HALF, -HALF),) * 2
    # 60 x 2500 pixels, correlated over some 30: 2 sqrt(2 / 5000) is 4 % at two sigma.
    assert np.var(stack, axis=0)[inner].mean() / variance[inner].mean() == pytest.approx(1, abs=0.04)


def test_variance_planes_of_both_images_are_read_where_the_tile_lies():
    ramp = np.linspace(10, 50, 150 * 160).reshape(150, 160)
    coefficients = kernel(order=0)
    images = pair(np.zeros((150, 160), np.float32), target_variance=ramp, variance=2 * ramp)
    _, variance = whole(images, coefficients, 0)
    np.testing.assert_allclose(variance, ramp * (1 + 2 * (coefficients[0] ** 2).sum()), rtol=1e-4)


def test_a_pixel_is_lost_where_half_the_kernel_falls_on_bad_pixels():
    shape = (150, 170)
    bad = np.random.default_rng(6).random(shape) < 0.3
    bad[40:52, 60:75] = bad[:, 120:123] = True
    coefficients = kernel(order=0)
    lost = whole(pair(np.zeros(shape, np.float32), bad=bad), coefficients, 0, function=lost_tile)[0]
    share = convolve2d(np.where(bad, 1.0, 0.0), coefficients[0], mode="same")
    inner = np.zeros(shape, bool)
    inner[2 * HALF : -2 * HALF, 2 * HALF : -2 * HALF] = True
    clear = inner & (np.abs(share - 0.5) > 1e-3)
    np.testing.assert_array_equal(lost[clear], share[clear] > 0.5)


def test_a_bad_target_pixel_is_lost_and_nothing_round_it():
    images = pair(np.zeros((90, 90), np.float32))
    images.target_bad[33, 44] = True
    lost = whole(images, kernel(order=0), 0, function=lost_tile)[0]
    assert lost[33, 44]
    assert lost[20:70, 20:70].sum() == 1


def test_the_rim_that_the_kernel_reaches_beyond_is_lost_and_the_inside_is_not():
    lost = whole(pair(np.zeros((131, 140), np.float32)), kernel(order=0), 0, function=lost_tile)[0]
    assert lost[0].all()
    assert lost[:, -1].all()
    assert not lost[HALF:-HALF, HALF:-HALF].any()


def test_a_background_is_the_polynomial_of_the_frame_not_of_the_tile():
    coefficients = np.arange(1.0, 7.0)
    shape = (130, 190)
    out = np.empty(shape)
    for tile in tiles(shape, 64, HALF):
        out[tile.core] = background_tile(coefficients, 2, tile)
    u, v = np.meshgrid(field(np.arange(190), 190), field(np.arange(130), 130))
    np.testing.assert_allclose(out, terms(u, v, 2) @ coefficients, rtol=1e-5, atol=1e-5)  # float32


def test_a_background_of_the_wrong_order_is_refused():
    with pytest.raises(ValueError, match="expected 6 coefficients, got 3"):
        background_tile(np.zeros(3), 2, tiles((64, 64), 64, 3)[0])


# ---------------------------------------------------------------- the CUDA body
def job(shape, half, order, seed, cells, reversed_=False):
    """(pair, sky variances as factors, kernel and background) of one image, with bad pixels."""
    rng = np.random.default_rng(seed)
    target, convolved = sky(shape, seed), sky(shape, seed + 1)
    bad = rng.random((2, *shape)) < 0.004
    bad[1, 20:31, 10:30] = True
    target[bad[0]] = convolved[bad[1]] = 0
    factors = tuple((rng.uniform(3, 5, (shape[0], cells)), rng.uniform(3, 5, (cells, shape[1]))) for _ in range(2))
    if cells == 0:
        factors = tuple((rng.uniform(20, 30, shape), np.empty((0, shape[1]))) for _ in range(2))
    planes = [(a @ b if cells else a).astype(np.float32) for a, b in factors]
    cuts = [lambda y0, y1, x0, x1, plane=plane: plane[y0:y1, x0:x1] for plane in planes]
    images = Pair(target, convolved, bad[0], bad[1], *cuts, 2.0, np.inf if seed % 2 else 1.5)
    found = Found(kernel(order, half, 0.06, seed), order, rng.normal(0, 3, 6), 2, reversed_)
    return images, factors, found


@pytest.mark.parametrize(
    ("batch", "shape", "half", "order", "cells", "reversed_"),
    [
        (1, (97, 120), 10, 2, 3, False),
        (9, (45, 60), 3, 1, 1, False),
        (2, (70, 131), 12, 2, 0, True),
        (1, (90, 75), 31, 2, 4, False),
        (1, (40, 33), 7, 0, 2, True),
    ],
)
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, half, order, cells, reversed_):
    jobs = [job(shape, half, order, seed, cells, reversed_) for seed in range(batch)]
    pieces = tiles(shape, 3 * half + 40, half)
    made = subtract_tiles_cuda(launcher, *zip(*jobs, strict=True), pieces)
    image, variance, model, lost = (launcher.download(plane) for plane in made)
    for n, (images, _, found) in enumerate(jobs):
        spectrum = spectra(found.coefficients, order, pieces[0].size)
        for tile in pieces:
            expected = subtracted_tile(images, found, spectrum, tile)
            at = (n, *tile.core)
            # float32 FFTs and sums, 3e-6 of the brightest star in either.
            limit = 3e-6 * np.abs(images.convolved).max()
            np.testing.assert_allclose(image[at], expected[0], atol=limit, rtol=1e-5)
            np.testing.assert_allclose(variance[at], expected[1], atol=limit, rtol=1e-5)
            np.testing.assert_allclose(model[at], expected[2], atol=limit, rtol=1e-5)
            # A share of the kernel's weight within rounding of one half may fall on either side.
            assert np.mean(lost[at] != expected[3]) < 1e-3
    assert lost.any()
    assert not lost.all()


def exact_model(image, found, pieces):
    """What is subtracted, in float64: the kernel linear in position within a tile, by definition."""
    out, (height, width), half = np.zeros(image.shape), image.shape, found.coefficients.shape[1] // 2
    for tile in pieces:
        y, x = tile.centre
        u, v = float(field(x, width)), float(field(y, height))
        du, dv = gradients(u, v, found.order)
        at = [terms(u, v, found.order), du * 2 / width, dv * 2 / height]
        square = np.zeros((tile.size,) * 2)
        square[tile.inner] = image[tile.outer]
        value, along_x, along_y = (
            tile.cut(convolve2d(square, np.tensordot(one, found.coefficients, 1)), half) for one in at
        )
        out[tile.core] = value + along_x * (np.arange(tile.x0, tile.x1) - x)
        out[tile.core] += along_y * (np.arange(tile.y0, tile.y1) - y)[:, None]
    return out


def test_both_bodies_err_by_less_than_a_ten_thousandth_of_sigma_round_the_brightest_stars(launcher):
    shape, rng = (60, 64), np.random.default_rng(8)
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    image = 5e4 * np.exp(-((rows - 30.3) ** 2 + (columns - 31.8) ** 2) / 20) + rng.normal(0, 5, shape)
    image = image.astype(np.float32)
    found = Found(kernel(2, 12, 0.06), 2, np.zeros(1), 0)
    factors = (np.full(shape, 30.0), np.empty((0, shape[1])))
    pieces = tiles(shape, 100, 12)
    exact = exact_model(image, found, pieces)
    made = subtract_tiles_cuda(launcher, [pair(image)], [(factors, factors)], [found], pieces)
    kernels, (numpy, _) = launcher.download(made[2])[0], whole(pair(image), found.coefficients, 2)
    sigma = np.sqrt(30 + np.maximum(exact, 0))  # the least there is: one electron a unit
    assert (np.abs(kernels - exact) / sigma).max() < 1e-4
    assert (np.abs(numpy - exact) / sigma).max() < 1e-4


@pytest.mark.parametrize("size", range(1, 64, 2))
def test_every_kernel_size_fits_into_shared_memory(size):
    assert shared_bytes(size, warps_for(size)) <= SHARED_BUDGET


def test_cuda_body_refuses_images_that_differ_in_shape_or_kernels_that_are_too_large(launcher):
    shape = (40, 50)
    a, b = job(shape, 3, 1, 1, 1), job((40, 60), 3, 1, 2, 1)
    with pytest.raises(WrongShape, match="kernels alike"):
        subtract_tiles_cuda(launcher, *zip(a, b, strict=True), tiles(shape, 40, 3))
    with pytest.raises(WrongShape, match="at most 63 px, got 65"):
        subtract_tiles_cuda(launcher, *zip(job(shape, 32, 0, 1, 1), strict=True), tiles(shape, 160, 32))
