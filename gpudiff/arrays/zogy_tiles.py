"""Proper image subtraction, tile by tile: both images through each other's PSF, their noise made white.

Zackay, Ofek & Gal-Yam 2016 (ApJ 830, 27), eq. 12 to 14 and 25 to 28, in the science image's flux unit.  With P_n
and P_r the PSFs, C the kernel that takes P_n (x) template to P_r (x) science (flux ratio, registration, what PSFs
do not explain), s_n^2, s_r^2 the sky variances, hats for spectra and F = C^(0),
    D^ = (P_r^ N^ - C^ P_n^ R^) S / sqrt(W),   W = s_n^2 |P_r^|^2 + s_r^2 |C^ P_n^|^2,   S^2 = s_n^2 + F^2 s_r^2,
whose noise is white, of variance S^2.  Within a tile the filters are linear in
position, as in `arrays.subtract_tiles`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from scipy import ndimage

from gpudiff.arrays.moments import moments
from gpudiff.arrays.polynomial import field, gradients, terms
from gpudiff.arrays.psf import moved
from gpudiff.arrays.subtract_tiles import Pair, mostly_unusable, polynomial_fit
from gpudiff.arrays.tiles import Tile

ORDER = 3
"""Of the polynomial that carries the filters over the field."""
AROUND = 24
"""Half width of the square that a PSF's place is measured on, pixels."""
FLOOR = 0.03
"""Transfer below which a measured PSF is noise."""
KNOWN = 0.04, 0.3
"""Transfer between which a PSF's spectrum is fitted."""
SLOPES = 1.0, 1.25, 1.5, 1.75, 2.0
"""Exponents of exp(a - b k^p): the wings of a Moffat profile, Kolmogorov's 5/3, a Gaussian."""
LIGHT, MEAN = 5.0, 7
"""Sigmas of a MEAN x MEAN mean of the template above which its pixels are light, whose photons add noise."""


def centred(image: np.ndarray, size: int) -> np.ndarray:
    """(size, size // 2 + 1) spectrum of a (K, K) image, K odd, whose middle is the origin."""
    out = np.zeros((size, size))
    out[: image.shape[0], : image.shape[1]] = image
    return np.fft.rfft2(np.roll(out, (-(image.shape[0] // 2), -(image.shape[1] // 2)), (0, 1)))


def proper(
    psfs: tuple[np.ndarray, np.ndarray], matcher: np.ndarray, sky: tuple[float, float], size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(science's filter, template's filter, PSF of the difference) at one place, spectra (size, size // 2 + 1).

    psfs : (K, K) of science and template, unit sum; matcher : (M, M) kernel C; sky : their variances
    """
    (science, sure), (template, certain) = (calm(centred(psf, size)) for psf in psfs)
    kernel = centred(matcher, size)
    flux = kernel[0, 0].real
    kernel = flux + (kernel - flux) * sure * certain  # it was fitted where both PSFs let light through
    across = template, kernel * science
    told = _at_science(across[1] * template / flux, template * science, size)
    level = sky[0] + sky[1] * flux**2
    white = np.sqrt(level / (sky[0] * np.abs(across[0]) ** 2 + sky[1] * np.abs(across[1]) ** 2))
    trust = sky[0] / level  # the deeper image knows its PSF better
    profile = trust * told + (1 - trust) * template * science
    return across[0] * white, across[1] * white, profile * white


def _at_science(told: np.ndarray, known: np.ndarray, size: int) -> np.ndarray:
    """The spectrum of a PSF by way of the template, whose pixels may be off, moved to where `known` lies."""
    there, here = (np.array(moments(picture(one, size, AROUND)[None])[:2])[:, 0] for one in (told, known))
    return moved(told, *(here - there))


def calm(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(spectrum of a PSF, share of it that was measured), both (size, size // 2 + 1) as the one given.

    Below FLOOR a measured PSF is noise, whose phases would scatter each pixel over the reach of the PSF: there it
    goes on as exp(a - b k^p), the one of SLOPES that fits it best where it is well known.
    """
    size = spectrum.shape[0]
    k = 2 * np.pi * np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    amplitude = np.abs(spectrum)
    known = (amplitude > KNOWN[0]) & (amplitude < KNOWN[1]) & (k < 1.5 * k[amplitude > KNOWN[1]].max())
    if known.sum() < 20:
        return spectrum, np.ones(k.shape)
    least, model = np.inf, k
    for power in SLOPES:
        design = np.stack([np.ones(known.sum()), k[known] ** power], 1)
        found, loss, *_ = np.linalg.lstsq(
            design * amplitude[known, None], np.log(amplitude[known]) * amplitude[known]
        )
        if loss[0] < least:
            least, model = loss[0], np.exp(np.clip(found[0] + found[1] * k**power, -100, 0))
    share = model**4 / (model**4 + FLOOR**4)
    return share * spectrum + (1 - share) * model, share


def picture(spectrum: np.ndarray, size: int, half: int) -> np.ndarray:
    """(2 half + 1, ...) image of a spectrum, its origin in the middle."""
    index = np.arange(-half, half + 1)
    return np.fft.irfft2(spectrum, (size, size))[np.ix_(index, index)]


def carried(images: np.ndarray, size: int) -> np.ndarray:
    """(P, size * (size // 2 + 1)) complex64 spectra of a field's coefficient images (P, K, K)."""
    return scipy.fft.rfft2(images.astype(np.float32), s=(size, size)).reshape(len(images), -1)


@dataclass(frozen=True)
class Proper:
    """Both filters over the field for one tile size; `carried` spectra, science's first.

    power : of their squares; share : (2, P) sums of the squares; magnitude : of |filter| in the middle, unit sum
    half : half width of the filters
    """

    filters: tuple[np.ndarray, np.ndarray]
    power: tuple[np.ndarray, np.ndarray]
    share: np.ndarray
    magnitude: np.ndarray
    half: int


def proper_filters(at: Callable[[float, float], np.ndarray], size: int) -> Proper:
    """The filters for tiles of FFT size `size`.  at(u, v) : (2, K, K) science's and template's filter there"""
    images = polynomial_fit(at, ORDER)
    squares = polynomial_fit(lambda u, v: at(u, v) ** 2, ORDER)
    middle = np.abs(images[0]).sum(0)
    return Proper(
        (carried(images[:, 0], size), carried(images[:, 1], size)),
        (carried(squares[:, 0], size), carried(squares[:, 1], size)),
        squares.sum((2, 3)).T,
        carried(middle[None] / middle.sum(), size)[0],
        images.shape[-1] // 2,
    )


def varying_tile(forward: np.ndarray, spectra: np.ndarray, order: int, half: int, tile: Tile) -> np.ndarray:
    """(h, w) float32 core of an image through filters that vary over the field, linearly within the tile.

    forward : raveled rfft2 of the tile's square; spectra : `carried` of the filters' coefficients, of that order
    """
    height, width = tile.shape
    y, x = tile.centre
    u, v = float(field(x, width)), float(field(y, height))
    du, dv = gradients(u, v, order)
    rows = np.array([terms(u, v, order), du * 2 / width, dv * 2 / height], np.float32)
    product = (rows @ spectra.view(np.float32)).view(np.complex64)
    product *= forward
    planes = scipy.fft.irfft2(product.reshape(3, tile.size, -1), s=(tile.size, tile.size), overwrite_x=True)
    planes = tile.cut(planes, half)
    planes[1] *= (np.arange(tile.x0, tile.x1) - x).astype(np.float32)
    planes[2] *= (np.arange(tile.y0, tile.y1) - y).astype(np.float32)[:, None]
    return planes.sum(0)


def spectrum_of(values: np.ndarray, tile: Tile) -> np.ndarray:
    """Raveled complex64 spectrum of the tile's square.  values : of its `outer` rectangle"""
    return scipy.fft.rfft2(tile.square(values)).ravel()


def proper_tile(pair: Pair, made: Proper, tile: Tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(difference, template's part of it, variance) of a tile's core, float32.

    pair : science is its target, the template what is convolved
    """
    science, template = (
        varying_tile(spectrum_of(image[tile.outer], tile), spectra, ORDER, made.half, tile)
        for image, spectra in zip((pair.target, pair.convolved), made.filters, strict=True)
    )
    return science - template, template, _variance(pair, made, tile)


def _variance(pair: Pair, made: Proper, tile: Tile) -> np.ndarray:
    """The sky's noise and the photons of what light the template shows too, each through the squared filters."""
    y, x = tile.centre
    at = terms(float(field(x, tile.shape[1])), float(field(y, tile.shape[0])), ORDER).astype(np.float32)
    corners = (tile.y0, tile.y1, tile.x0, tile.x1)
    shares = made.share.astype(np.float32) @ at
    sky = pair.target_variance(*corners) * shares[0] + pair.convolved_variance(*corners) * shares[1]
    rows, columns = tile.outer
    noise = pair.convolved_variance(rows.start, rows.stop, columns.start, columns.stop)
    mean = ndimage.uniform_filter(pair.convolved[tile.outer], MEAN, mode="nearest")
    lit = mean * MEAN > LIGHT * np.sqrt(noise)
    if not lit.any():
        return sky
    total = np.zeros(tile.size * (tile.size // 2 + 1), np.complex64)
    both = (pair.target, pair.target_gain), (pair.convolved, pair.convolved_gain)
    for (image, gain), spectra in zip(both, made.power, strict=True):
        photons = np.where(lit, np.maximum(image[tile.outer], 0), 0) / np.float32(gain)
        total += (at @ spectra.view(np.float32)).view(np.complex64) * spectrum_of(photons, tile)
    plane = scipy.fft.irfft2(total.reshape(tile.size, -1), s=(tile.size, tile.size))
    return sky + np.maximum(tile.cut(plane, made.half), 0)


def proper_lost(pair: Pair, made: Proper, tile: Tile) -> np.ndarray:
    """(h, w) bool: core pixels unusable in either image, or that see unusable ones with most of the filters."""
    bad = pair.target_bad[tile.outer] | pair.convolved_bad[tile.outer]
    rows, columns = tile.outer
    top, left = tile.y0 - rows.start, tile.x0 - columns.start
    own = bad[top : top + tile.y1 - tile.y0, left : left + tile.x1 - tile.x0]
    whole = bad.shape == (tile.y1 - tile.y0 + 2 * tile.halo, tile.x1 - tile.x0 + 2 * tile.halo)
    if whole and not bad.any():
        return own
    return own | mostly_unusable(bad, made.magnitude, made.half, tile)
