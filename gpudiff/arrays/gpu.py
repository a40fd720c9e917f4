"""The passes over all pixels of a frame on a GPU: what goes up, what stays there, what comes down."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gpudiff.arrays.afar import Afar, stamps_there
from gpudiff.arrays.basis import Basis, convolve_cuda
from gpudiff.arrays.components import thinned, tops_cuda
from gpudiff.arrays.cosmic_rays import suspects, suspects_cuda
from gpudiff.arrays.decode import Decoded, Marks, Signature, decode_cuda
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.lanes import Lanes
from gpudiff.arrays.measure import PointFit, aperture_cuda, fit_points_cuda, forced_cuda, shifted_cuda
from gpudiff.arrays.mesh import clipped_mesh, mesh_cuda, sampled_rows
from gpudiff.arrays.moments import moments_cuda
from gpudiff.arrays.normal import Equations, grams_cuda, models_cuda
from gpudiff.arrays.peaks import Positions, peaks, peaks_cuda
from gpudiff.arrays.psf import Places, of_stars_cuda
from gpudiff.arrays.quiet_sky import Known, quiet_sky_again_cuda, quiet_sky_cuda
from gpudiff.arrays.remembered import Remembered
from gpudiff.arrays.resample import Lattice, resample_cuda
from gpudiff.arrays.resident import Resident
from gpudiff.arrays.retouch import mark_cuda, put_cuda
from gpudiff.arrays.score_tiles import SQUARE, Filters, score_tiles_cuda
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.subtract_tiles import Factors, Found, OnDevice, Pair, subtract_tiles_cuda
from gpudiff.arrays.tiles import Tile
from gpudiff.model.errors import DeviceFull

SHARE = 0.5
"""Of the free memory that templates may take where nothing else is said."""
SPARE = 32
"""Images for which there must be room beside a template that stays: those of four frames at work, of other
processes too."""

Made = TypeVar("Made")


class Gpu:
    """A `passes.Device`: whole frames by CUDA kernels, when the function is made.  Several threads may have
    a frame each (`frame`, `arrays.lanes`).

    memory : GB that held templates may take; 0: half of what is free when the first frame comes
    Where there is no room, templates are let go, the least recently used first, and `notes` says so.
    Raises DeviceFull where a frame has no room without any, DeviceFailed for a device that failed.
    """

    def __init__(
        self,
        launcher: Launcher,
        memory: float = 0.0,
        resident: Resident | None = None,
        remembered: Remembered | None = None,
    ) -> None:
        self.launcher, self.name = launcher, launcher.name
        self.remembered = remembered or Remembered()
        self.resident = resident or Resident(int(memory * 1e9) or int(SHARE * launcher.free()), launcher)
        self.notes: list[str] = []
        self._held: dict[str, Any] = {}

    def frame(self) -> "Gpu":
        """This device for one frame: its planes are let go with it, the templates stay."""
        return type(self)(self.launcher, resident=self.resident, remembered=self.remembered)

    def lanes(self, most: int, say: Callable[[str], Any]) -> Lanes:
        return Lanes(self.launcher, most, say)

    # ------------------------------------------------------------ planes that are there already
    def hold(self, name: str, image: np.ndarray, stays: bool = False) -> None:
        """Send an image up under a name; `stays`: for later frames too."""
        if not name:
            return
        held = self.resident.find(name, self)
        if held is None:
            held = self.with_room(lambda: self._up(image, np.float32))
            if stays and self._spares(SPARE * held.nbytes):
                self.resident.keep(name, held, self)
        self._held[name] = held

    def refresh(self, name: str, image: np.ndarray, flaws: np.ndarray) -> None:
        """As `passes.Device`: a copy of what is held, for templates stay as they came; only those pixels go up."""
        held = self._held.get(name) if name else None
        if held is not None:
            self._held[name] = self.with_room(lambda: self._put(held, image, flaws))

    def _put(self, held: Any, image: np.ndarray, pixels: np.ndarray) -> Any:
        """A copy of a held image with the values that the host's has at pixels of those numbers."""
        made = self.launcher.copy(held)
        put_cuda(self.launcher, made, pixels, image.reshape(-1)[pixels])
        return made

    def _spares(self, size: int) -> bool:
        """Whether so many bytes are free, templates being let go for it."""
        while self.launcher.free() < size and self.resident.evict():
            pass
        return self.launcher.free() >= size

    def _there(self, plane: np.ndarray | Afar, dtype: Any) -> Any:
        """A plane on the device, (1, H, W), sent there if it is not."""
        return plane.there if isinstance(plane, Afar) else self._up(plane, dtype)

    def _up(self, plane: np.ndarray, dtype: Any) -> Any:
        return self.launcher.upload(plane[None], dtype)

    def _image(
        self, name: str, image: np.ndarray, bad: np.ndarray, flaws: np.ndarray | None = None
    ) -> tuple[Any, Any]:
        """(image, bad) on the device; of an image that is held only the bad pixels go up: no others changed.

        flaws : their numbers, where they are known
        """
        held = self._held.get(name) if name else None
        if held is None:
            return self._up(image, np.float32), self._up(bad, np.uint8)
        pixels = np.flatnonzero(bad) if flaws is None else flaws
        made, marks = self._put(held, image, pixels), self.launcher.zeros(held.shape, np.uint8)
        mark_cuda(self.launcher, marks, pixels)
        return made, marks

    def _factors(self, name: str, factors: Factors) -> tuple[Any, Any]:
        """A smooth plane's factors on the device; a plane kept pixel by pixel is held like its image."""
        rows, columns = factors
        if columns.shape[0] == 0 and name:
            own = f"{name} variance"
            stays = name in self.resident
            if own not in self._held:
                self.hold(own, rows, stays)
            return self._held[own], self._up(columns, np.float32)
        return self._up(rows, np.float32), self._up(columns, np.float32)

    def with_room(self, work: Callable[[], Made]) -> Made:
        """What `work` makes, templates being let go until there is room for it."""
        let_go = 0
        while True:
            try:
                made = work()
                break
            except DeviceFull as full:
                said = str(full)
            if not self.resident.evict():  # not in `except`: the error holds what was made before it
                raise DeviceFull(f"{said}; no template is left there to let go")
            let_go += 1
        if let_go:
            self.notes.append(f"GPU memory was full: {let_go} planes of templates were let go")
        return made

    # ------------------------------------------------------------ the passes
    def decode(self, raw: np.ndarray, mask: np.ndarray | None, signature: Signature, marks: Marks) -> Decoded:
        masks = None if mask is None else mask[None]
        made = self.with_room(lambda: decode_cuda(self.launcher, raw[None], masks, [signature], marks))
        image, variance, bits = (self.launcher.download(plane)[0] for plane in made)
        return image, variance, bits

    def mesh(
        self, image: np.ndarray, unusable: np.ndarray, cell: int, step: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `passes.Device`: the rows that are looked at go up; on the host where that were all of them."""
        if step == 1:
            return clipped_mesh(image, unusable, cell)
        rows = sampled_rows(len(image), cell, step)
        seen = image[rows][None], unusable[rows][None]
        level, sigma = self.with_room(lambda: mesh_cuda(self.launcher, *seen, cell, step, len(image)))
        return level[0], sigma[0]

    def peaks(self, image: np.ndarray, threshold: float, name: str = "") -> Positions:
        """As `passes.Device`: where the image is held; else on the host, for it would go up for this alone."""
        held = self._held.get(name) if name else None
        if held is None:
            return peaks(image, threshold)
        return self.with_room(lambda: peaks_cuda(self.launcher, held, [threshold])[0])

    def suspects(
        self, image: np.ndarray, sky_sigma: float, gain: float, ratios: Sequence[float], name: str = ""
    ) -> np.ndarray:
        """As `passes.Device`: where the image is held; else on the host."""
        held = self._held.get(name) if name else None
        if held is None:
            return suspects(image, sky_sigma)
        return self.with_room(lambda: suspects_cuda(self.launcher, held, sky_sigma, gain, ratios))

    def moments(
        self, image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int, start: float, name: str = ""
    ) -> np.ndarray:
        """As `passes.Device`; of an image that is not held the stamps go up."""
        return self.with_room(lambda: moments_cuda(self.launcher, self._cut(image, y, x, half, name), start))

    def _cut(self, image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int, name: str) -> Any:
        """Stamps of an image, there where it is held, else on the host."""
        held = self._held.get(name) if name else None
        return stamps(image, y, x, half) if held is None else stamps_there(self.launcher, held, y, x, half)

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
        """As `passes.Device`; of an image that is not held the stamps go up."""
        given = places, half, terms, noise, reach
        return self.with_room(
            lambda: of_stars_cuda(self.launcher, self._cut(image, *places[:2], half, name), *given)
        )

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
        def work() -> tuple[Any, Any, Any]:
            planes = self._image(names[0], image, bad)
            return resample_cuda(self.launcher, *planes, mask[None], [places], [sigma])

        made = self.with_room(work)
        if names[1]:
            self._held[names[1]] = made[0]
        values, lost, bits = (self.launcher.download(plane)[0] for plane in made)
        return values, lost.view(bool), bits.astype(mask.dtype)

    def convolved(self, basis: Basis, stamps: np.ndarray, size: int, threads: int) -> "_Stamps":
        return _Stamps(self, self.with_room(lambda: convolve_cuda(self.launcher, basis, stamps, size)))

    def subtracted(
        self,
        pair: Pair,
        found: Found,
        variances: tuple[Factors, Factors],
        pieces: Sequence[Tile],
        limit: float,
        reach: int,
        known: Known | None = None,
    ) -> tuple[list[Any], np.ndarray]:
        made = self._subtracted(pair, found, variances, pieces)

        def quiet() -> tuple[Any, np.ndarray]:
            if known is None:
                return quiet_sky_cuda(self.launcher, made, pieces, [limit], [reach])
            (rows, columns), gone = known[0], self._there(known[1], np.uint8)
            return quiet_sky_again_cuda(self.launcher, made, pieces, [limit], (rows[None], columns[None]), gone)

        blank, sums = self.with_room(quiet)
        flags = [Afar(self, plane, bool) for plane in (made[3], blank)]
        return [*(Afar(self, plane) for plane in made[:3]), *flags], sums[0]

    def _subtracted(
        self, pair: Pair, found: Found, variances: tuple[Factors, Factors], pieces: Sequence[Tile]
    ) -> tuple[Any, Any, Any, Any]:
        def work() -> tuple[Any, Any, Any, Any]:
            target, target_bad = self._image(pair.target_name, pair.target, pair.target_bad, pair.target_flaws)
            convolved, convolved_bad = self._image(
                pair.convolved_name, pair.convolved, pair.convolved_bad, pair.convolved_flaws
            )
            names = pair.target_name, pair.convolved_name
            factors = [self._factors(name, each) for name, each in zip(names, variances, strict=True)]
            there = OnDevice(target, convolved, target_bad, convolved_bad, (*factors[0], *factors[1]))
            return subtract_tiles_cuda(self.launcher, [pair], [variances], [found], pieces, there=there)

        return self.with_room(work)

    def scored(
        self,
        image: np.ndarray,
        variance: np.ndarray,
        lost: np.ndarray,
        make: Callable[[int], Filters],
        pieces: Sequence[Tile],
    ) -> list[Any]:
        made = make(SQUARE)

        def work() -> tuple[Any, Any, Any, Any]:
            there, level = self._there(image, np.float32), self._there(variance, np.float32)
            gone = self._there(lost, np.uint8)
            return score_tiles_cuda(self.launcher, there, level, gone, [made], pieces, [variance], True)

        self._held.clear()  # nothing is subtracted after this
        planes = self.with_room(work)
        gone = Afar(self, planes[3], bool)
        return [*(Afar(self, plane, holes=gone) for plane in planes[:2]), Afar(self, planes[2]), gone]

    def extrema(self, score: np.ndarray, threshold: float, fwhm: float) -> tuple[np.ndarray, np.ndarray]:
        [found] = self.with_room(
            lambda: tops_cuda(self.launcher, self._there(score, np.float32), threshold),
        )
        return thinned(*found, fwhm)

    # ------------------------------------------------------------ stamps of sources
    def shifted(self, images: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
        return self.launcher.download(self.with_room(lambda: shifted_cuda(self.launcher, images, dy, dx)))

    def fit_points(self, data: np.ndarray, weight: np.ndarray, psf: np.ndarray) -> PointFit:
        return self.with_room(lambda: fit_points_cuda(self.launcher, data, weight, psf))

    def forced(self, data: np.ndarray, weight: np.ndarray, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.with_room(lambda: forced_cuda(self.launcher, data, weight, profile))

    def aperture(
        self, data: np.ndarray, variance: np.ndarray, dy: np.ndarray, dx: np.ndarray, radius: float
    ) -> tuple[np.ndarray, np.ndarray]:
        return self.with_room(lambda: aperture_cuda(self.launcher, data, variance, dy, dx, radius))


@dataclass(frozen=True)
class _Stamps:
    """A `passes.Convolved`.  values : (N, M + 1, n) float32, on the device"""

    device: Gpu
    values: Any

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> Equations:
        return self.device.with_room(lambda: grams_cuda(self.device.launcher, self.values, target, weights))

    def models(self, coefficients: np.ndarray) -> np.ndarray:
        return self.device.with_room(lambda: models_cuda(self.device.launcher, self.values, coefficients))
