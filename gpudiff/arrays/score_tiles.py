"""The noise pass: whiten the difference, then filter it with its PSF, tile by tile in cache.

Decorrelation after Reiss & Lupton 2016 (LSST DMTN-021): the noise of a difference is that of the target plus
that of the convolved image seen through the kernel; a filter of one over the root of its power spectrum makes
it white again.  Score: sum(P d / v) / sqrt(sum(P^2 / v)), the best linear statistic for a source of known shape
in such noise (Zackay & Ofek 2017, ApJ 836, 187, section 2).
On a GPU the same tiles, summed directly (`score_tiles_cuda`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import scipy.fft

from gpudiff.arrays.afar import sampled
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.polynomial import field, terms
from gpudiff.arrays.subtract_tiles import COLUMNS, ROWS, SHARED_BUDGET, borders, by_column, polynomial_fit
from gpudiff.arrays.tiles import Tile, centres
from gpudiff.model.errors import WrongShape

ORDER = 2
"""Of the polynomial that carries the filters over the field."""
SEEN = 16
"""Every so many rows and columns of a tile tell its typical variance."""


def noise_power(kernel: np.ndarray, target: float, convolved: float) -> np.ndarray:
    """(S, T) power of the difference's noise, of a kernel's half spectrum (S, T); the mean is a pixel's variance.

    target, convolved : sky variance of the two images, white
    """
    power = kernel.real**2
    power += kernel.imag**2
    power *= convolved
    power += target
    return power


def extra_power(correlation: np.ndarray, size: int) -> np.ndarray:
    """(size, size // 2 + 1) power spectrum of a small autocorrelation (symmetric, centre in the middle)."""
    reach = correlation.shape[0] // 2
    index = np.arange(-reach, reach + 1)
    square = np.zeros((size, size))
    square[np.ix_(index, index)] = correlation
    return np.fft.rfft2(square).real


def mean_power(power: np.ndarray, size: int) -> float:
    """Mean over all frequencies of a half spectrum made with `rfft2` of a size x size square."""
    return float((power @ _twice(size)).sum() / size**2)


@lru_cache(8)
def _twice(size: int) -> np.ndarray:
    """(size // 2 + 1,) how often a column of a half spectrum is in the whole one; to be read only."""
    weight = np.full(size // 2 + 1, 2.0)
    weight[0], weight[(size + 1) // 2 :] = 1, 1
    return weight


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
    """The filters over the field for squares of one size; the polynomial's terms lead.

    whiten : (P, size, size // 2 + 1) float32 real filter psi, in Fourier space, or None
    gain : (P,) variance after whitening over variance before
    pictures : (P, 2, K, K) float32 flipped PSF and its square
    halo : pixels that whitening needs
    size : of the square that they are periodic in, pixels: on the CPU a tile with its rim, on a GPU SQUARE
    """

    whiten: np.ndarray | None
    gain: np.ndarray
    pictures: np.ndarray
    halo: int
    size: int

    @property
    def half(self) -> int:
        """Half width of the PSF."""
        return self.pictures.shape[-1] // 2

    @cached_property
    def profile(self) -> np.ndarray:
        """(P, 2, size * (size // 2 + 1)) complex64 spectra of the pictures."""
        spectra = scipy.fft.rfft2(self.pictures, s=(self.size, self.size))
        return spectra.reshape(len(self.pictures), 2, -1)

    @cached_property
    def squares(self) -> np.ndarray:
        """(P,) float32 sum of the PSF's square."""
        return self.pictures[:, 1].sum((1, 2))

    def level(self, tile: Tile) -> np.float32:
        """Variance after whitening over before, in a tile."""
        return np.float32(_terms(tile) @ self.gain)

    def floors(self, at: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """(T,) information of tiles below which a pixel has none: far above float32 rounding, far below any sky's.

        at : (T, P) terms in their middles
        levels : (T,) float32 median of every SEEN-th row and column's variance in their cores
        """
        return (1e-5 * (at @ self.squares) / np.maximum(levels, 1e-30)).astype(np.float32)


def filters(
    profile_at: Callable[[float, float], np.ndarray],
    whiten_at: Callable[[float, float, int], tuple[np.ndarray, float]] | None,
    size: int,
    halo: int,
    threads: int = 1,
) -> Filters:
    """The filters for squares of FFT size `size`.

    profile_at(u, v) : (2 half + 1, ...) PSF of the (whitened) difference, cut from one of unit sum
    whiten_at(u, v, size) : (half spectrum of psi, variance after over before), None to leave the noise as it is
    """
    pictures = polynomial_fit(lambda u, v: _pair(profile_at(u, v)), ORDER, threads).astype(np.float32)
    if whiten_at is None:
        return Filters(None, np.array([1.0] + [0.0] * 5), pictures, 0, size)
    psi = polynomial_fit(lambda u, v: whiten_at(u, v, size)[0], ORDER, threads).astype(np.float32)
    gain = polynomial_fit(lambda u, v: np.array(whiten_at(u, v, 64)[1]), ORDER)
    return Filters(psi, gain, pictures, halo, size)


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
        level = variance * np.float32(at @ made.gain)
    weight = np.zeros((2, size, size), np.float32)
    weighted, inverse = (one[tile.inner] for one in weight)
    np.divide(~lost, level, out=inverse)
    np.multiply(white, inverse, out=weighted)
    spectrum = scipy.fft.rfft2(weight)
    profile = (at @ made.profile.reshape(len(at), -1).view(np.float32)).view(np.complex64)
    spectrum *= profile.reshape(2, size, -1)
    both = tile.cut(scipy.fft.irfft2(spectrum, s=(size, size), overwrite_x=True), made.half)
    core = _core(tile)
    floor = made.floors(at[None], _median(level[core][::SEEN, ::SEEN]))[0]
    gone = lost[core] | (both[1] < floor)
    information = np.maximum(both[1], floor)
    score = both[0] / np.sqrt(information)
    score[gone] = 0
    return Scored(np.where(gone, 0, white[core]), level[core], score, gone)


def _median(values: np.ndarray) -> np.ndarray:
    """(1,) median of some values that are no NaN, in a fifth of np.median's time."""
    ordered = np.sort(values, axis=None)
    return ordered[[(ordered.size - 1) // 2, ordered.size // 2]].mean(keepdims=True)


def scorer(image: np.ndarray, variance: np.ndarray, lost: np.ndarray, made: Filters) -> Callable[[Tile], Scored]:
    """A function for each tile's whitened difference and score.  image, variance, lost : (H, W)"""
    _ = made.profile, made.squares  # made once, before threads read them

    def scored(tile: Tile) -> Scored:
        gone = lost[tile.outer]
        return score_tile(np.where(gone, np.float32(0), image[tile.outer]), variance[tile.outer], gone, made, tile)

    return scored


def _terms(tile: Tile) -> np.ndarray:
    """(P,) float32 values of the polynomial's terms in a tile's middle."""
    y, x = tile.centre
    return terms(float(field(x, tile.shape[1])), float(field(y, tile.shape[0])), ORDER).astype(np.float32)


def _terms_of(pieces: Sequence[Tile]) -> np.ndarray:
    """(T, P) float32 the same of many tiles."""
    (y, x), (height, width) = centres(pieces), pieces[0].shape
    return terms(field(x, width), field(y, height), ORDER).astype(np.float32)


def _core(tile: Tile) -> tuple[slice, slice]:
    rows, columns = tile.outer
    top, left = tile.y0 - rows.start, tile.x0 - columns.start
    return slice(top, top + tile.y1 - tile.y0), slice(left, left + tile.x1 - tile.x0)


# ---------------------------------------------------------------- on a GPU
LARGEST = 63
"""px, side of whitening filter and of PSF."""
SQUARE = 128
"""px, side of the square that whitening filters are made in, whatever the tiles' size: twice the largest."""
LEFT_OUT = 1e-13
"""Of a whitening filter's energy: 3e-7 sigma of a pixel, rms; 1e-12 cost a stack of real frames 1e-4 sigma where a
star left much light."""


def score_tiles_cuda(
    launcher: Launcher,
    images: Any,
    variances: Any,
    lost: Any,
    made: Sequence[Filters],
    pieces: Sequence[Tile],
    seen: Sequence[np.ndarray] = (),
    used_up: bool = False,
) -> tuple[Any, Any, Any, Any]:
    """The same for a batch on a GPU: `score_tile` of all the tiles that cover the images.

    images, variances : (B, H, W) float32, lost : (B, H, W) bool or uint8; on the device or the host
    made : one for each image, of one size, SQUARE or more
    seen : (H, W) variances for the host to look at, an `Afar` too; else they are brought down
    used_up : the whitened difference may lie where the images lay
    Returns (B, H, W) on the device: whitened difference and its variance, NaN where lost; score, 0 where lost;
    lost, uint8.  The whitening filter ends where less than LEFT_OUT of its energy lies beyond.  Raises WrongShape.
    """
    batch, height, width = images.shape
    reach = max(filter_reach(one) for one in made)
    filters_at, profiles, levels = zip(*(tile_filters(one, pieces, reach) for one in made), strict=True)
    filter_side, psf_side = filters_at[0].shape[-2], profiles[0].shape[-2]
    if len(made) != batch or max(filter_side, psf_side) > LARGEST or pieces[0].shape != (height, width):
        raise WrongShape(
            f"score: expected {batch} images of {pieces[0].shape} px and filters of at most {LARGEST}, got "
            f"{len(made)} of {images.shape[1:]} px with {filter_side} and {psf_side}"
        )
    rows, columns = borders(pieces)
    variances = launcher.upload(variances, np.float32)
    seen = seen or [launcher.download(plane) for plane in variances]
    floors = [_floors(one, pieces, plane) for one, plane in zip(made, seen, strict=True)]
    lost, images = launcher.upload(lost, np.uint8), launcher.upload(images, np.float32)
    half, tall, wide = psf_side // 2, int(np.diff(rows).max()), int(np.diff(columns).max())
    tall, wide = tall + 2 * half, wide + 2 * half
    squares = launcher.empty((batch, len(pieces), tall, wide), np.float32)
    warps = warps_for(filter_side, psf_side)
    grid_of = _Grid(rows, columns, batch, warps)
    borders_there = launcher.upload(rows, np.int32), launcher.upload(columns, np.int32)

    def launch(kernel: str, grown: int, arrays: Sequence[Any], sizes: Sequence[int], shared: int) -> None:
        grid, layout = grid_of.grown(grown)
        arguments = [*arrays, *map(np.int32, [width, height, *layout, *sizes])]
        defines = (f"S={filter_side}", f"P={psf_side}", f"WARPS={warps}")
        launcher.launch("score_tiles", kernel, grid, (32 * warps, 1, 1), arguments, shared, defines)

    whitening = launcher.upload(np.stack(filters_at), np.float32)
    arrays = [images, lost, whitening, *borders_there, squares]
    launch("whiten", half, arrays, [half, tall, wide], shared_bytes(filter_side, 1, warps))
    white = images if used_up else launcher.empty(images.shape, np.float32)
    outputs = [white, *(launcher.empty(images.shape, np.dtype(kind)) for kind in ("f4", "f4", "u1"))]
    tables = [launcher.upload(np.stack(each), np.float32) for each in (profiles, levels, floors)]
    arrays = [squares, variances, lost, *tables, *borders_there, *outputs]
    launch("score", 0, arrays, [tall, wide], shared_bytes(psf_side, 2, warps))
    return outputs[0], outputs[1], outputs[2], outputs[3]


@dataclass(frozen=True)
class _Grid:
    """The blocks that cover all tiles."""

    rows: np.ndarray
    columns: np.ndarray
    batch: int
    warps: int

    def grown(self, half: int) -> tuple[tuple[int, int, int], tuple[int, int, int, int]]:
        """(grid, (tile columns, tiles, strips, layers)) for tiles with `half` pixels round them."""
        wide, tall = len(self.columns) - 1, len(self.rows) - 1
        strips = -(-(int(np.diff(self.columns).max()) + 2 * half) // COLUMNS)
        layers = -(-(int(np.diff(self.rows).max()) + 2 * half) // (ROWS * self.warps))
        return (wide * strips, tall * layers, self.batch), (wide, wide * tall, strips, layers)


def filter_reach(made: Filters) -> int:
    """Half width of the whitening filter without what LEFT_OUT allows; 0 for none."""
    if made.whiten is None:
        return 0
    return min(reach_of(scipy.fft.irfft2(made.whiten[0], s=(made.size, made.size)), LEFT_OUT), LARGEST // 2)


def tile_filters(made: Filters, pieces: Sequence[Tile], reach: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each tile as the CUDA body reads them: whitening filter, PSF and its square, level.

    (T, S, padded) with S = 2 reach + 1, (T, 2, P, padded), (T,), float32
    """
    size, at = made.size, _terms_of(pieces)
    index = np.arange(-reach, reach + 1)
    if made.whiten is None:
        whiten = np.zeros((len(made.gain), 2 * reach + 1, 2 * reach + 1))
        whiten[0, reach, reach] = 1
    else:
        whiten = scipy.fft.irfft2(made.whiten, s=(size, size))[:, index[:, None], index]
    filters_at = by_column(np.tensordot(at, whiten, 1))
    return filters_at, by_column(np.tensordot(at, made.pictures, 1)), at @ made.gain.astype(np.float32)


def _floors(made: Filters, pieces: Sequence[Tile], variance: np.ndarray) -> np.ndarray:
    """(T,) information below which a pixel of each tile has none."""
    at, middle = _terms_of(pieces), np.empty(len(pieces), np.float32)
    shapes: dict[tuple[int, ...], list[int]] = {}
    seen = sampled(variance, pieces, SEEN)
    for n, one in enumerate(seen):
        shapes.setdefault(one.shape, []).append(n)
    for alike in shapes.values():  # a median of many tiles takes little more than that of one
        middle[alike] = np.median(np.stack([seen[n] for n in alike]), (1, 2))
    return made.floors(at, middle * (at @ made.gain.astype(np.float32)))


def warps_for(filter_side: int, psf_side: int) -> int:
    """Warps a block: as many as fit into shared memory."""
    return next(
        warps
        for warps in (8, 4, 2)
        if max(shared_bytes(filter_side, 1, warps), shared_bytes(psf_side, 2, warps)) <= SHARED_BUDGET
    )


def shared_bytes(side: int, planes: int, warps: int) -> int:
    """Shared memory of one block: a filter for each plane, columns padded to 16 bytes, and each with its halo."""
    padded = -(-side // 4) * 4
    return 4 * planes * (side * padded + (ROWS * warps + side - 1) * (COLUMNS + side - 1))
