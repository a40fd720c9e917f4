"""A pixel PSF from stars."""

import numpy as np
import pytest

from gpudiff.arrays import psf
from gpudiff.arrays.polynomial import terms
from gpudiff.arrays.stamps import stamps

HALF = 16
REACH = 5
"""Pixels: the FWHM of the stars here."""


def gaussian(dy=0.0, dx=0.0, sigma=2.0, half=HALF):
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    return np.exp(-((rows - dy) ** 2 + (columns - dx) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def moffat(fwhm=4.0, beta=3.0, half=22, dy=0.0, dx=0.0):
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1] - np.reshape([dy, dx], (2, 1, 1))
    a2 = (fwhm / 2) ** 2 / (2 ** (1 / beta) - 1)
    return (beta - 1) / (np.pi * a2) * (1 + (rows**2 + columns**2) / a2) ** -beta


def test_a_star_between_pixels_is_shifted_to_the_middle_of_one():
    image = np.zeros((60, 60))
    image[30 - HALF : 31 + HALF, 28 - HALF : 29 + HALF] = gaussian(0.4, -0.3)
    at = np.array([30]), np.array([28]), np.array([0.4]), np.array([-0.3])
    np.testing.assert_allclose(psf.centred(image, *at, HALF)[0], gaussian(), atol=2e-6)  # light cut at 8 sigma


def stars(count=60, seed=1, noise=1e-5, widen=0.1):
    rng = np.random.default_rng(seed)
    u, v = rng.uniform(-1, 1, (2, count))
    flux = 10 ** rng.uniform(0, 1.5, count)
    truth = np.array([gaussian(sigma=2 * (1 + widen * x)) for x in u])
    sky = noise * np.ones(count)
    return flux[:, None, None] * truth + rng.normal(0, noise, truth.shape), terms(u, v, 1), sky, truth


def test_the_psf_of_each_star_is_recovered_whatever_its_flux():
    values, design, sky, truth = stars(noise=1e-4)
    coefficients, kept = psf.fit(values, design, sky, REACH)
    model = np.tensordot(design, coefficients, 1)
    # A width linear in u makes a PSF that is not: 0.5 % of the peak is the second order at the edge.
    assert np.abs(model / model.sum((1, 2))[:, None, None] - truth).max() < 0.012 * truth.max()
    assert kept.mean() > 0.9


def test_blends_and_wide_objects_are_clipped():
    values, design, sky, _ = stars(widen=0.0)
    values[4] += 5 * gaussian(3, 3)
    values[9] = 20 * gaussian(sigma=4.0)
    coefficients, kept = psf.fit(values, design, sky, REACH)
    assert not kept[[4, 9]].any()
    assert kept.sum() >= 56
    assert np.abs(coefficients[0] / coefficients[0].sum() - gaussian()).max() < 1e-3 * gaussian().max()


def test_a_faint_galaxy_is_left_out_though_none_of_its_pixels_shows_it():
    values, design, sky, _ = stars(widen=0.0, noise=1e-2)
    rng = np.random.default_rng(5)
    for n, sigma in ((9, 2.6), (17, 1.5)):  # and a cosmic ray
        values[n] = 5 * gaussian(sigma=sigma) + rng.normal(0, 1e-2, values[n].shape)
    _, kept = psf.fit(values, design, sky, REACH)
    assert not kept[[9, 17]].any()
    assert kept.sum() >= 56


def test_the_wings_of_a_bright_neighbour_are_left_out_with_it():
    values, design, sky, _ = stars(widen=0.0, noise=3e-3)
    values[::4] += 3 * moffat(half=HALF, dy=-11, dx=9)
    coefficients, _ = psf.fit(values, design, sky, REACH)
    beside = coefficients[0][HALF - 15 : HALF - 6, HALF + 5 : HALF + 14]
    # 15 of 60 stars have one; what lies below 4 sigma of each adds up to 3e-5 to 1e-4 where it is kept.
    assert np.abs(beside.mean()) < 1.5e-5


def test_a_neighbour_in_the_wings_leaves_no_trace():
    values, design, sky, _ = stars(widen=0.0)
    values[:, HALF - 11 : HALF - 8, HALF + 8 : HALF + 11] += np.linspace(0.0, 0.4, 60)[:, None, None] * (
        np.arange(60)[:, None, None] % 5 == 0
    )
    coefficients, _ = psf.fit(values, design, sky, REACH)
    assert np.abs(coefficients[0][HALF - 10, HALF + 9]) < 1e-3 * gaussian().max()


def test_what_the_wings_hold_is_known_from_the_bright_stars():
    values, design, sky, _ = stars(count=40, noise=1e-3, widen=0.0)
    coefficients, _ = psf.fit(values, design, sky, REACH)
    rows, columns = np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]
    wings = np.hypot(rows, columns) > 8
    # The fluxes are 1 to 30: 1e-3 over the root of their summed squares is 1.5e-5; were all alike, 4e-5.
    assert coefficients[0][wings].std() < 2.2e-5


def test_a_field_that_few_stars_cover_is_extrapolated_towards_no_change():
    values, design, sky, _ = stars(count=8, noise=3e-3, widen=0.05)
    coefficients, _ = psf.fit(values, terms(*design[:, [1, 2]].T, 2), sky, REACH)
    corner = np.tensordot(terms(np.array([1.0]), np.array([1.0]), 2), coefficients, 1)[0]
    # Six terms through 8 stars extrapolate their noise, 3e-3 a pixel: hundreds of per cent of the light.
    wings = np.hypot(*np.mgrid[-HALF : HALF + 1, -HALF : HALF + 1]) > 8
    assert np.abs(corner[wings]).max() < 3e-3


def test_a_clean_psf_keeps_its_wings():
    truth = moffat()
    found = psf.clean_wings(np.array([truth]), 4.0)[0]
    axis = np.arange(-22, 23)
    radius = np.hypot(axis, axis[:, None])
    inner = radius <= 10
    np.testing.assert_allclose(found[inner], truth[inner], atol=1e-4 * truth.max())
    # The wings' power law is taken from 5 and 9 px, where a Moffat profile is not yet one: 0.2 % of the flux.
    ring = (radius > 14) & (radius < 20)
    assert abs(found[ring].sum() - truth[ring].sum()) < 3e-3


def test_a_pedestal_of_faint_neighbours_is_removed():
    truth = moffat()
    found = psf.clean_wings(np.array([truth + 3e-4]), 4.0)[0]
    axis = np.arange(-22, 23)
    inner = np.hypot(axis, axis[:, None]) <= 10
    # 3e-4 on each of 1500 pixels is 45 % of the flux; a tenth of it may stay.
    assert abs((found - truth)[inner].mean()) < 3e-5


def test_beyond_3_fwhm_a_psf_is_round_and_never_negative():
    rng = np.random.default_rng(2)
    found = psf.clean_wings(np.array([moffat() + rng.normal(0, 1e-5, (45, 45))]), 4.0)[0]
    axis = np.arange(-22, 23)
    radius = np.hypot(axis, axis[:, None])
    assert found[radius > 13].min() >= 0
    assert found[22 + 15, 22] == found[22, 22 + 15] == found[22 - 15, 22]
    assert (found[radius > 22] == 0).all()


def test_noise_adds_no_light_to_the_wings():
    rng = np.random.default_rng(3)
    truth = moffat(fwhm=1.8, half=12)
    radius = np.hypot(*np.mgrid[-12:13, -12:13])
    light = []
    for _ in range(20):
        found = psf.clean_wings(np.array([truth + rng.normal(0, 1e-3, truth.shape)]), 1.8)[0]
        light.append((found - truth)[(radius > 6) & (radius <= 12)].sum())
    # 340 pixels of noise 1e-3, their negative ones put to 0, would add 14 % of the star's light.
    assert abs(np.mean(light)) < 0.02


@pytest.mark.parametrize("fwhm", [2.0, 4.2, 8.0, 12.0])
@pytest.mark.parametrize("beta", [2.5, 3.5, 5.0])
def test_the_light_beyond_the_rim_is_that_of_the_wings_continued(fwhm, beta):
    half = 17 if fwhm < 6 else 30
    cut, whole = moffat(fwhm, beta, half).sum(), moffat(fwhm, beta, 300).sum()
    # Stars' Gaussian widths come out a tenth larger than what half their peak says.
    beyond = psf.lacking(moffat(fwhm, beta, half) / cut, 1.1 * fwhm)
    # Rings of whole pixels are coarse: 8 % of what is beyond, more where they are 2 px from the middle.
    assert beyond == pytest.approx(whole / cut - 1, abs=1.5e-3 if fwhm < 3 else 1e-3)


@pytest.mark.parametrize("fwhm", [1.8, 4.2, 12.0])
def test_a_gaussian_lacks_no_light(fwhm):
    image = gaussian(sigma=fwhm / 2.355, half=30)
    assert psf.lacking(image / image.sum(), fwhm) < 1e-5  # what float64 leaves of rings of whole pixels


# ---------------------------------------------------------------- the CUDA bodies
def awkward(count, order, half, rng):
    """Stars that vary over the field; of many one with a neighbour, one wide and one dark: what `fit` takes."""
    u, v = rng.uniform(-1, 1, (2, count))
    flux = 10 ** rng.uniform(1, 3, count)
    values = flux[:, None, None] * [gaussian(sigma=2 * (1 + 0.05 * x), half=half) for x in u]
    if count > 8:
        values[2] += 30 * gaussian(6, -5, half=half)
        values[5] = 200 * gaussian(sigma=4.0, half=half)
        values[7] = -values[7]
    noise = rng.uniform(0.02, 0.05, count)
    values += noise[:, None, None] * rng.normal(size=values.shape)
    return values.astype(np.float32), terms(u, v, order), noise, REACH


@pytest.mark.parametrize(("count", "order", "half"), [(3, 0, 5), (12, 1, 9), (41, 2, 10)])
def test_cuda_fit_agrees_with_the_definition(launcher, count, order, half):
    given = awkward(count, order, half, np.random.default_rng(count))
    (found, kept), (expected, well) = psf.fit_cuda(launcher, *given), psf.fit(*given)
    np.testing.assert_array_equal(kept, well)
    assert count < 9 or not well[[5, 7]].any()
    # NumPy's sums over stars are float32: 2e-6 of the peak; with them in float64 the two agree to 1e-7.
    np.testing.assert_allclose(found, expected, atol=4e-6 * expected[0].max())


@pytest.mark.parametrize("half", [9, 12])  # periods of 27 and 36 px: without and with a highest frequency
def test_cuda_stamps_are_centred_as_by_the_definition(launcher, half):
    rng = np.random.default_rng(half)
    image = rng.normal(size=(40, 47)).astype(np.float32)
    y, x = rng.integers(0, 40, 9), rng.integers(0, 47, 9)
    dy, dx = rng.uniform(-2, 2, (2, 9))
    found = launcher.download(psf.centred_cuda(launcher, stamps(image, y, x, half), dy, dx, half))
    # NumPy transforms in float32.
    np.testing.assert_allclose(found, psf.centred(image, y, x, dy, dx, half), atol=3e-6)


def test_an_image_is_moved_by_its_spectrum():
    pad = ((0, 1), (0, 1))  # to an even side
    there = np.fft.irfft2(psf.moved(np.fft.rfft2(np.pad(gaussian(), pad)), 0.3, -1.25))
    # a Gaussian of 2 px holds 4e-9 beyond Nyquist
    np.testing.assert_allclose(there, np.pad(gaussian(0.3, -1.25), pad), atol=1e-8)
