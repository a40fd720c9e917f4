"""The passes over all pixels of a pair, on the CPU or on a GPU; on the CPU tile by tile as they are asked for."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Protocol

import numpy as np

from gpudiff.arrays.components import extrema, thinned, tops_cuda
from gpudiff.arrays.device import Host, Launcher, device
from gpudiff.arrays.resample import Lattice, resample, resample_cuda
from gpudiff.arrays.score_tiles import Filters, Scored, score_tile, score_tiles_cuda
from gpudiff.arrays.subtract_tiles import (
    Factors,
    Found,
    Pair,
    Planes,
    spectra,
    subtract_tiles_cuda,
    subtracted_tile,
)
from gpudiff.arrays.tiles import Tile


class Device(Protocol):
    """Where the passes are computed; what comes back is the same, on the host.  `name`: cpu, or cuda:N."""

    name: str

    def resample(
        self, image: np.ndarray, bad: np.ndarray, mask: np.ndarray, places: Lattice, sigma: float, threads: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(values, lost, mask) at every position of a lattice; `arrays.resample.resample` says what they are."""
        ...

    def extrema(self, score: np.ndarray, threshold: float, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) of the detections, brightest first; `arrays.components.extrema` says which."""
        ...

    def subtracter(
        self, pair: Pair, found: Found, variances: tuple[Factors, Factors], pieces: Sequence[Tile]
    ) -> Callable[[Tile], Planes]:
        """A function for each tile's (difference, variance, model, lost); `subtracted_tile` says what they are."""
        ...

    def scorer(
        self, image: np.ndarray, variance: np.ndarray, lost: np.ndarray, made: Filters, pieces: Sequence[Tile]
    ) -> Callable[[Tile], Scored]:
        """A function for each tile's whitened difference and score; `score_tile` says what they are."""
        ...


class _Cpu:
    """Tile by tile, when a tile is asked for."""

    name = "cpu"
    resample = staticmethod(resample)
    extrema = staticmethod(extrema)

    def subtracter(
        self, pair: Pair, found: Found, variances: tuple[Factors, Factors], pieces: Sequence[Tile]
    ) -> Callable[[Tile], Planes]:
        spectrum = spectra(found.coefficients, found.order, pieces[0].size)
        return lambda tile: subtracted_tile(pair, found, spectrum, tile)

    def scorer(
        self, image: np.ndarray, variance: np.ndarray, lost: np.ndarray, made: Filters, pieces: Sequence[Tile]
    ) -> Callable[[Tile], Scored]:
        def scored(tile: Tile) -> Scored:
            gone = lost[tile.outer]
            return score_tile(
                np.where(gone, np.float32(0), image[tile.outer]), variance[tile.outer], gone, made, tile
            )

        return scored


CPU: Device = _Cpu()


class Gpu:
    """Whole frames by CUDA kernels, when the function is made."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher, self.name = launcher, launcher.name

    def resample(
        self, image: np.ndarray, bad: np.ndarray, mask: np.ndarray, places: Lattice, sigma: float, threads: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        made = resample_cuda(self.launcher, image[None], bad[None], mask[None], [places], [sigma])
        values, lost, bits = (self.launcher.download(plane)[0] for plane in made)
        return values, lost.view(bool), bits.astype(mask.dtype)

    def extrema(self, score: np.ndarray, threshold: float, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
        [found] = tops_cuda(self.launcher, score[None], threshold)
        return thinned(*found, fwhm)

    def subtracter(
        self, pair: Pair, found: Found, variances: tuple[Factors, Factors], pieces: Sequence[Tile]
    ) -> Callable[[Tile], Planes]:
        made = subtract_tiles_cuda(self.launcher, [pair], [variances], [found], pieces)
        image, variance, model, lost = (self.launcher.download(plane)[0] for plane in made)
        lost = lost.view(bool)
        return lambda tile: (image[tile.core], variance[tile.core], model[tile.core], lost[tile.core])

    def scorer(
        self, image: np.ndarray, variance: np.ndarray, lost: np.ndarray, made: Filters, pieces: Sequence[Tile]
    ) -> Callable[[Tile], Scored]:
        planes = score_tiles_cuda(self.launcher, image[None], variance[None], lost[None], [made], pieces)
        white, level, score, gone = (self.launcher.download(plane)[0] for plane in planes)
        gone = gone.view(bool)

        def scored(tile: Tile) -> Scored:
            core = tile.core
            return Scored(white[core], level[core], score[core], gone[core])

        return scored


@cache
def device_named(name: str) -> Device:
    """The device called cpu, cuda, cuda:N, or auto: the first GPU where one can be used, else the CPU.

    Raises DeviceFailed for another name, and for a GPU that was asked for and cannot be used.
    """
    found = device(name)
    return CPU if isinstance(found, Host) else Gpu(found)
