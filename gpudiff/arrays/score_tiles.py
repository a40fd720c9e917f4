"""The noise pass: whiten the difference, then filter it with its PSF, tile by tile in cache.

Decorrelation after Reiss & Lupton 2016 (LSST DMTN-021): the noise of a difference is that of the target plus
that of the convolved image seen through the kernel; a filter of one over the root of its power spectrum makes
it white again.  Score: sum(P d / v) / sqrt(sum(P^2 / v)), as `arrays.matched_filter` defines it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from gpudiff.arrays.polynomial import field, terms
from gpudiff.arrays.subtract_tiles import polynomial_fit
from gpudiff.arrays.tiles import Tile

ORDER = 2
"""Of the polynomial that carries the filters over the field."""


def noise_power(kernel: np.ndarray, target: float, convolved: float, size: int) -> np.ndarray:
    """(size, size // 2 + 1) power spectrum of the difference's noise; its mean is the variance of a pixel.

    kernel : (K, K); target, convolved : sky variance of the two images, white
    """
    return target + convolved * np.abs(np.fft.rfft2(kernel, (size, size))) ** 2


def extra_power(correlation: np.ndarray, size: int) -> np.ndarray:
    """(size, size // 2 + 1) power spectrum of a small autocorrelation (symmetric, centre in the middle)."""
    reach = correlation.shape[0] // 2
    index = np.arange(-reach, reach + 1)
    square = np.zeros((size, size))
    square[np.ix_(index, index)] = correlation
    return np.fft.rfft2(square).real


def mean_power(power: np.ndarray, size: int) -> float:
    """Mean over all frequencies of a half spectrum made with `rfft2` of a size x size square."""
    weight = np.full(power.shape[1], 2.0)
    weight[0] = 1
    if size % 2 == 0:
        weight[-1] = 1
    return float((power * weight).sum() / size**2)


def reach_of(filter_image: np.ndarray, most: float) -> int:
    """Radius beyond which a filter (zero lag at [0, 0], periodic) has less than `most` of its energy."""
    size = filter_image.shape[0]
    lag = np.minimum(np.arange(size), size - np.arange(size))
    radius = np.maximum(lag[:, None], lag)
    energy = np.bincount(radius.ravel(), (filter_image**2).ravel())
    beyond = energy.sum() - energy.cumsum()
    return int(np.argmax(beyond < most * energy.sum()))


@dataclass(frozen=True)
class Filters:
    """Spectra of the filters over the field for one tile size; the polynomial's terms lead.

    whiten : (P, size, size // 2 + 1) float32 real filter psi, or None
    gain : (P,) variance after whitening over variance before
    profile : (P, 2, size * (size // 2 + 1)) complex64 of the flipped PSF and its square
    halo : pixels that whitening needs; half : half width of the PSF
    """

    whiten: np.ndarray | None
    gain: np.ndarray
    profile: np.ndarray
    halo: int
    half: int

    def level(self, tile: Tile) -> np.float32:
        """Variance after whitening over before, in a tile."""
        return np.float32(_terms(tile) @ self.gain)


def filters(
    profile_at: Callable[[float, float], np.ndarray],
    whiten_at: Callable[[float, float, int], tuple[np.ndarray, float]] | None,
    size: int,
    halo: int,
) -> Filters:
    """The filters for tiles of FFT size `size`.

    profile_at(u, v) : (2 half + 1, ...) PSF of the (whitened) difference, unit sum
    whiten_at(u, v, size) : (half spectrum of psi, variance after over before), None to leave the noise as it is
    """
    pictures = polynomial_fit(lambda u, v: _pair(profile_at(u, v)), ORDER).astype(np.float32)
    profile = scipy.fft.rfft2(pictures, s=(size, size)).reshape(len(pictures), 2, -1)
    half = pictures.shape[-1] // 2
    if whiten_at is None:
        return Filters(None, np.array([1.0] + [0.0] * 5), profile, 0, half)
    psi = polynomial_fit(lambda u, v: whiten_at(u, v, size)[0], ORDER).astype(np.float32)
    gain = polynomial_fit(lambda u, v: np.array(whiten_at(u, v, 64)[1]), ORDER)
    return Filters(psi, gain, profile, halo, half)


def _pair(psf: np.ndarray) -> np.ndarray:
    flipped = psf[::-1, ::-1]
    return np.array([flipped, flipped**2])


@dataclass(frozen=True)
class Scored:
    """A tile's core: whitened difference, variance, score, lost; all (h, w), no NaN (0 where lost)."""

    difference: np.ndarray
    variance: np.ndarray
    score: np.ndarray
    lost: np.ndarray
    information: np.ndarray
    """sum(P^2 / v): one over the variance of the PSF flux."""


def score_tile(
    difference: np.ndarray, variance: np.ndarray, lost: np.ndarray, made: Filters, tile: Tile
) -> Scored:
    """The whitened difference and score of one tile.

    difference, variance, lost : of the tile's `outer` rectangle, float32, float32, bool; difference 0 where lost
    """
    at, size = _terms(tile), tile.size
    white, level = difference, variance
    if made.whiten is not None:
        forward = scipy.fft.rfft2(tile.square(difference))
        forward *= (at @ made.whiten.reshape(len(at), -1)).reshape(size, -1)
        white = scipy.fft.irfft2(forward, s=(size, size), overwrite_x=True)[tile.inner]
        level = variance * made.level(tile)
    weight = np.zeros((2, size, size), np.float32)
    weighted, inverse = (one[tile.inner] for one in weight)
    np.divide(~lost, level, out=inverse)
    np.multiply(white, inverse, out=weighted)
    spectrum = scipy.fft.rfft2(weight)
    profile = (at @ made.profile.reshape(len(at), -1).view(np.float32)).view(np.complex64)
    spectrum *= profile.reshape(2, size, -1)
    both = tile.cut(scipy.fft.irfft2(spectrum, s=(size, size), overwrite_x=True), made.half)
    core = _core(tile)
    floor = np.float32(1e-5 * max(float(np.median(both[1][::8, ::8])), 1e-30))  # far above float32 rounding
    gone = lost[core] | (both[1] < floor)
    information = np.maximum(both[1], floor)
    score = both[0] / np.sqrt(information)
    score[gone] = 0
    return Scored(np.where(gone, 0, white[core]), level[core], score, gone, information)


def _terms(tile: Tile) -> np.ndarray:
    """(P,) float32 values of the polynomial's terms in a tile's middle."""
    y, x = tile.centre
    return terms(float(field(x, tile.shape[1])), float(field(y, tile.shape[0])), ORDER).astype(np.float32)


def _core(tile: Tile) -> tuple[slice, slice]:
    rows, columns = tile.outer
    top, left = tile.y0 - rows.start, tile.x0 - columns.start
    return slice(top, top + tile.y1 - tile.y0), slice(left, left + tile.x1 - tile.x0)
