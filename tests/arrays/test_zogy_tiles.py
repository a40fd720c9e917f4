"""Proper subtraction of tiles against the formulas on the whole image."""

import numpy as np
import pytest

from gpudiff.arrays.subtract_tiles import Pair
from gpudiff.arrays.tiles import tiles
from gpudiff.arrays.zogy_tiles import picture, proper, proper_filters, proper_tile

SIDE, SKY = 160, (400.0, 100.0)
AXIS = np.arange(-15, 16)


def gaussian(sigma):
    image = np.exp(-0.5 * (AXIS[:, None] ** 2 + AXIS**2) / sigma**2)
    return image / image.sum()


PSFS = gaussian(2.0), gaussian(1.6)
MATCHER = np.zeros((3, 3))
MATCHER[1, 1] = 1.3
"""The template is 1.3 times fainter, registered, and both PSFs are exact."""


def pair(flux=0.0, noise=1.0, seed=11):
    """Six static stars, 1.3 times brighter in the science image, and one of `flux` that is new in the middle."""
    rng = np.random.default_rng(seed)
    images = [rng.normal(0, noise * np.sqrt(sky), (SIDE, SIDE)) for sky in SKY]
    for y, x in rng.integers(20, SIDE - 20, (6, 2)):
        box = slice(y - 15, y + 16), slice(x - 15, x + 16)
        for image, psf, ratio in zip(images, PSFS, (1.3, 1.0), strict=True):
            image[box] += 2e4 * ratio * psf
    images[0][65:96, 65:96] += flux * PSFS[0]
    bad = np.zeros((SIDE, SIDE), bool)
    planes = [lambda y0, y1, x0, x1, sky=sky: np.full((y1 - y0, x1 - x0), sky, np.float32) for sky in SKY]
    return Pair(*(image.astype(np.float32) for image in images), bad, bad, *planes, np.inf, np.inf)


def subtracted(one, side=96, half=20):
    """(difference, variance) of the whole image, made in tiles."""
    spectra = proper(PSFS, MATCHER, SKY, SIDE)
    images = np.array([picture(spectrum, SIDE, half) for spectrum in spectra[:2]])
    pieces = tiles((SIDE, SIDE), side, half)
    made = proper_filters(lambda u, v: images, pieces[0].size)
    out = np.empty((2, SIDE, SIDE))
    for tile in pieces:
        difference, _, variance = proper_tile(one, made, tile)
        out[0][tile.core], out[1][tile.core] = difference, variance
    return out


def test_tiles_give_what_the_whole_image_gives_in_double_precision():
    one = pair()
    science, template, _ = proper(PSFS, MATCHER, SKY, SIDE)
    spectrum = science * np.fft.rfft2(one.target) - template * np.fft.rfft2(one.convolved)
    whole = np.fft.irfft2(spectrum, (SIDE, SIDE))
    inner = (slice(24, -24),) * 2  # the whole image wraps round
    # The noise is 24; filters cut at 20 px and float32 leave 0.004.
    assert np.abs(subtracted(one)[0][inner] - whole[inner]).max() < 0.05


def test_static_stars_leave_nothing():
    # Without noise; the stars' peaks are 1000.  The PSFs go on beyond the box that they were drawn in.
    assert np.abs(subtracted(pair(noise=0.0))[0][24:-24, 24:-24]).max() < 1


def test_its_noise_is_white_and_as_large_as_its_variance_says():
    image, variance = subtracted(pair())
    ratio = (image / np.sqrt(variance))[24:-24, 24:-24]
    # 12,500 pixels: 0.6 % for the scatter, 0.9 % for a correlation.
    assert ratio.std() == pytest.approx(1, abs=0.03)
    for other in (ratio[1:, :-1], ratio[1:, 1:]):
        assert abs((ratio[:-1, :-1] * other).mean()) < 0.04


def test_the_exchange_of_the_images_turns_the_sign():
    there = proper(PSFS, MATCHER, SKY, 64)
    back = proper(PSFS[::-1], np.where(MATCHER, 1 / 1.3, 0), SKY[::-1], 64)
    scale = 1.3  # each is in the unit of its own science image
    assert back[0] * scale == pytest.approx(there[1], abs=1e-6)  # rounding, and squares of small transfers
    assert back[1] * scale == pytest.approx(there[0], abs=1e-6)


def test_a_new_star_keeps_its_flux_in_the_science_unit():
    image = subtracted(pair(flux=1e4, noise=0.0))[0] - subtracted(pair(noise=0.0))[0]
    assert image[60:101, 60:101].sum() == pytest.approx(1e4, rel=1e-3)  # what the box leaves out


def test_a_noisy_psf_does_not_scatter_the_light_of_a_pixel():
    rng = np.random.default_rng(5)
    noisy = [psf + rng.normal(0, 3e-5, psf.shape) for psf in PSFS]  # 2e-3 of transfer, far above that of the PSFs
    filters = proper([psf / psf.sum() for psf in noisy], MATCHER, SKY, 128)[:2]
    for one in filters:
        image = picture(one, 128, 60)
        # Unless it is calmed half of the energy is farther than 12 px.
        assert (image[48:73, 48:73] ** 2).sum() > 0.95 * (image**2).sum()
