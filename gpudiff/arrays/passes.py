"""The passes over all pixels of a pair, on the CPU or on a GPU; on the CPU tile by tile as they are asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np

from gpudiff.arrays.basis import Basis
from gpudiff.arrays.components import extrema
from gpudiff.arrays.cosmic_rays import suspects
from gpudiff.arrays.decode import Decoded, Marks, Signature, decode
from gpudiff.arrays.device import Host, device
from gpudiff.arrays.lanes import Lanes
from gpudiff.arrays.measure import PointFit, aperture, fit_points, forced, shifted
from gpudiff.arrays.mesh import clipped_mesh
from gpudiff.arrays.moments import moments
from gpudiff.arrays.normal import Equations, grams, models
from gpudiff.arrays.parallel import over
from gpudiff.arrays.peaks import Positions, peaks
from gpudiff.arrays.psf import Places, of_stars
from gpudiff.arrays.quiet_sky import Known
from gpudiff.arrays.remembered import Remembered
from gpudiff.arrays.resample import Lattice, resample
from gpudiff.arrays.score_tiles import Filters
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.subtract_tiles import Factors, Found, Pair
from gpudiff.arrays.tiles import Tile


class Convolved(Protocol):
    """Stamps convolved with each function of a basis, wherever they are; the last function is all 1."""

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> Equations:
        """The sums of each stamp; `arrays.normal.grams` says which."""
        ...

    def models(self, coefficients: np.ndarray) -> np.ndarray:
        """(N, n) float32: each stamp's functions times its coefficients, (N, M)."""
        ...


class Device(Protocol):
    """Where the passes are computed; what comes back is the same, on the host.

    name : cpu, or cuda:N; notes : what the user should know of how it went
    remembered : what is known from earlier frames
    A device with memory of its own keeps what went up under a name (`hold`) and what was made there (`Afar`) until
    the frame is done, and takes it in place of the host's.
    """

    name: str
    notes: list[str]
    remembered: Remembered

    def frame(self) -> "Device":
        """The same device, for one frame."""
        ...

    def lanes(self, most: int, say: Callable[[str], Any]) -> Lanes:
        """For `most` frames at work at a time; on the CPU for one, which has all threads."""
        ...

    def decode(self, raw: np.ndarray, mask: np.ndarray | None, signature: Signature, marks: Marks) -> Decoded:
        """(electrons, variance, mask) of a raw image; `arrays.decode.decode` says what they are."""
        ...

    def mesh(
        self, image: np.ndarray, unusable: np.ndarray, cell: int, step: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """(level, sigma) of the sky in the cells of a mesh; `arrays.mesh.clipped_mesh` says how."""
        ...

    def peaks(self, image: np.ndarray, threshold: float, name: str = "") -> Positions:
        """(y, x) of star candidates; `arrays.peaks.peaks` says which.

        name : under which the image is held, no pixel changed
        """
        ...

    def suspects(
        self, image: np.ndarray, sky_sigma: float, gain: float, ratios: Sequence[float], name: str = ""
    ) -> np.ndarray:
        """(N,) numbers, row by row, of pixels that `arrays.cosmic_rays.cosmic_rays` looks at, all sharp ones among
        them.

        ratios : of `sharpest`; name : under which the image is held, no usable pixel changed
        """
        ...

    def moments(
        self, image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int, start: float, name: str = ""
    ) -> np.ndarray:
        """(3, N) dy, dx, sigma of the stars on squares of that half width; `arrays.moments.moments` says how.

        name : under which the image is held, no pixel changed
        """
        ...

    def psf(
        self,
        image: np.ndarray,
        places: Places,
        half: int,
        terms: np.ndarray,
        noise: np.ndarray,
        reach: int,
        name: str = "",
    ) -> np.ndarray:
        """(P, K, K) the PSF's polynomial from the stars of an image; `arrays.psf.of_stars` says how.

        name : under which the image is held, no pixel changed
        """
        ...

    def hold(self, name: str, image: np.ndarray, stays: bool = False) -> None:
        """Take up an image under a name that no other has; `stays`: for later frames too.  '' is no name."""
        ...

    def refresh(self, name: str, image: np.ndarray, flaws: np.ndarray) -> None:
        """What is held under that name, if anything is, is the image as it is now, until the frame is done.

        flaws : (N,) numbers of the pixels that may have changed
        """
        ...

    def resample(
        self,
        image: np.ndarray,
        bad: np.ndarray,
        mask: np.ndarray,
        places: Lattice,
        sigma: float,
        threads: int,
        names: tuple[str, str] = ("", ""),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(values, lost, mask) at every position of a lattice; `arrays.resample.resample` says what they are.

        names : under which the image is held, but for its bad pixels, and the values are to be
        """
        ...

    def convolved(self, basis: Basis, stamps: np.ndarray, size: int, threads: int) -> Convolved:
        """The stamps, (N, S, S), convolved with the functions of a basis; `Basis.convolve` says how."""
        ...

    def extrema(self, score: np.ndarray, threshold: float, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
        """(y, x) of the detections, brightest first; `arrays.components.extrema` says which."""
        ...

    def subtracted(
        self,
        pair: Pair,
        found: Found,
        variances: tuple[Factors, Factors],
        pieces: Sequence[Tile],
        limit: float,
        reach: int,
        known: Known | None = None,
    ) -> tuple[list[Any], np.ndarray] | None:
        """([difference, variance, model, lost, blank] of all tiles, which stay there, (T, ...) the sums of each);
        `arrays.quiet_sky` says what blank and sums are, with what is known and without.  None where a tile is
        computed when it is asked for."""
        ...

    def scored(
        self,
        image: np.ndarray,
        variance: np.ndarray,
        lost: np.ndarray,
        make: Callable[[int], Filters],
        pieces: Sequence[Tile],
    ) -> list[Any] | None:
        """[whitened difference, its variance, score, lost] of all tiles, the first two NaN where lost, which stay
        there; `score_tile` says what they are.  None where a tile is computed when it is asked for.

        make : the filters for squares of some size
        """
        ...

    # Stamps are small beside the planes, and the host looks at them too: they go up, figures come down.
    def shifted(self, images: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """(N, K, K) images moved by (dy, dx) pixels each; `arrays.measure` says how of this and the next three."""
        ...

    def fit_points(self, data: np.ndarray, weight: np.ndarray, psf: np.ndarray) -> PointFit:
        """PSF flux and position of one source a stamp."""
        ...

    def forced(self, data: np.ndarray, weight: np.ndarray, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(flux, error) (N,) of a profile at a known position."""
        ...

    def aperture(
        self, data: np.ndarray, variance: np.ndarray, dy: np.ndarray, dx: np.ndarray, radius: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """(flux, error) (N,) in a circle."""
        ...


@dataclass(frozen=True)
class _OnHost:
    """values : (N, M + 1, n) float32"""

    values: np.ndarray

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> Equations:
        return grams(self.values, target, weights, threads)

    def models(self, coefficients: np.ndarray) -> np.ndarray:
        return models(self.values, coefficients)


class _Cpu:
    """Tile by tile, when a tile is asked for; all planes are the host's."""

    decode = staticmethod(decode)
    extrema = staticmethod(extrema)
    shifted, fit_points = staticmethod(shifted), staticmethod(fit_points)
    forced, aperture = staticmethod(forced), staticmethod(aperture)
    mesh = staticmethod(clipped_mesh)

    def __init__(self) -> None:
        self.name, self.notes = "cpu", list[str]()
        self.remembered = Remembered(0)  # here what comes again takes as long

    def frame(self) -> Device:
        return self

    def lanes(self, most: int, say: Callable[[str], Any]) -> Lanes:
        return Lanes(Host(), 1, say)

    def peaks(self, image: np.ndarray, threshold: float, name: str = "") -> Positions:
        return peaks(image, threshold)

    def suspects(
        self, image: np.ndarray, sky_sigma: float, gain: float, ratios: Sequence[float], name: str = ""
    ) -> np.ndarray:
        return suspects(image, sky_sigma)

    def moments(
        self, image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int, start: float, name: str = ""
    ) -> np.ndarray:
        return np.array(moments(stamps(image, y, x, half), start))

    def psf(
        self,
        image: np.ndarray,
        places: Places,
        half: int,
        terms: np.ndarray,
        noise: np.ndarray,
        reach: int,
        name: str = "",
    ) -> np.ndarray:
        return of_stars(image, places, half, terms, noise, reach)

    def hold(self, name: str, image: np.ndarray, stays: bool = False) -> None: ...

    def refresh(self, name: str, image: np.ndarray, flaws: np.ndarray) -> None: ...

    def resample(
        self,
        image: np.ndarray,
        bad: np.ndarray,
        mask: np.ndarray,
        places: Lattice,
        sigma: float,
        threads: int,
        names: tuple[str, str] = ("", ""),
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return resample(image, bad, mask, places, sigma, threads)

    def convolved(self, basis: Basis, stamps: np.ndarray, size: int, threads: int) -> Convolved:
        values = np.empty((len(stamps), len(basis.functions) + 1, size * size), np.float32)

        def work(rows: slice) -> None:
            values[rows] = basis.convolve(stamps[rows], size)

        over(work, [slice(i, i + 50) for i in range(0, len(stamps), 50)], threads)
        return _OnHost(values)

    def subtracted(self, *given: Any) -> None:
        return None

    def scored(self, *given: Any) -> None:
        return None


CPU: Device = _Cpu()


@cache
def device_named(name: str, memory: float = 0.0) -> Device:
    """The device called cpu, cuda, cuda:N, or auto: the first GPU where one can be used, else the CPU.

    memory : GB of it that templates may stay in; 0: half of what is free
    Raises DeviceFailed for another name, and for a GPU that was asked for and cannot be used.
    """
    found = device(name)
    if isinstance(found, Host):
        return CPU
    from gpudiff.arrays.gpu import Gpu

    return Gpu(found, memory)
