"""A visit's detectors from pinned memory to measured detections, and one alone: for bench/gpu.py."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from _gpu_rafts import RAFT, Rafts

from gpudiff.arrays import score_tiles, subtract_tiles
from gpudiff.arrays.components import Tops, in_order, listed_cuda
from gpudiff.arrays.measure import fitted_cuda, weighed_cuda
from gpudiff.arrays.subtract_tiles import Factors, Found, OnDevice, Pair
from gpudiff.arrays.tiles import tiles

DETECTORS = 189
THRESHOLD = 5.0
Fits = dict[int, np.ndarray]
"""Pixel number to a row of what `measure.fitted_cuda` makes."""


class Visit:
    """The passes of `science.difference` over a raft of made detectors, their kernels and filters given.

    pairs, found, factors : of up to RAFT detectors, all of one shape, used in turn
    psf : (S, S) that the detections are measured with
    """

    def __init__(
        self,
        launcher: Any,
        pairs: Sequence[Pair],
        found: Sequence[Found],
        factors: Sequence[tuple[Factors, Factors]],
        filters: score_tiles.Filters,
        halos: tuple[int, int],
        psf: np.ndarray,
    ):
        self.launcher, self.pairs, self.found, self.factors = launcher, pairs, found, factors
        self.shape = pairs[0].target.shape
        self.filters, self.halos = filters, halos
        self.variance = np.full(self.shape, 30, np.float32)  # what the score's floors are taken from
        self.templates: tuple[Any, Any] | None = None
        self.psfs: Any = None
        self.capacity = max(256, self.shape[0] * self.shape[1] // 256)
        self.most = max(4, self.capacity // 256)
        """Detections of a detector that are measured: the first that the list has, in whatever order it came."""
        self.psf = psf

    def hold_templates(self) -> None:
        """Send the templates of a raft, and the PSF for each detection, up to stay."""
        upload = self.launcher.upload
        self.templates = (
            upload(np.stack([pair.convolved for pair in self.pairs]), np.float32),
            upload(np.stack([pair.convolved_bad for pair in self.pairs]), np.uint8),
        )
        self.psfs = upload(np.repeat(self.psf[None], len(self.pairs) * self.most, 0), np.float32)
        self.launcher.finish()  # other streams do not wait for the one it went up on

    def frames(self, count: int, cold: bool) -> list[list[np.ndarray]]:
        """What goes up of each detector, in pinned memory: image and bad pixels, cold the template's too."""
        names = ("target", "target_bad", *(("convolved", "convolved_bad") if cold else ()))
        own = [[self._pinned(getattr(pair, name)) for name in names] for pair in self.pairs]
        return [own[n % len(own)] for n in range(count)]

    def _pinned(self, plane: np.ndarray) -> np.ndarray:
        made = self.launcher.pinned(plane.shape, np.uint8 if plane.dtype == bool else plane.dtype)
        made[:] = plane
        return made

    def compute(self, planes: list[Any]) -> list[Any]:
        """Subtract, whiten, score, list, measure: counts, places, values of the tops and fits, on the device."""
        count = len(planes[0])
        pairs, found, factors = (one[:count] for one in (self.pairs, self.found, self.factors))
        template = planes[2:] or [plane[:count] for plane in self.templates or ()]
        smooth = [self._sent(factors, side, part) for side in (0, 1) for part in (0, 1)]
        there = OnDevice(planes[0], template[0], planes[1], template[1], (*smooth,))  # type: ignore[arg-type]
        narrow, wide = (tiles(self.shape, 256, halo) for halo in self.halos)
        made = subtract_tiles.subtract_tiles_cuda(self.launcher, pairs, factors, found, narrow, there=there)
        seen = [self.variance] * count
        scored = score_tiles.score_tiles_cuda(
            self.launcher, made[0], made[1], made[3], [self.filters] * count, wide, seen, True
        )
        tops = listed_cuda(self.launcher, scored[2], THRESHOLD, self.capacity)
        half = len(self.psf) // 2
        cut = weighed_cuda(self.launcher, scored[0], scored[1], tops[0], tops[1], self.most, half)
        data, weight = (one.reshape(-1, *self.psf.shape) for one in cut)
        table, _ = fitted_cuda(self.launcher, data, weight, self.psfs[: len(data)])
        return [*tops, table.reshape(count, self.most, -1)]

    def _sent(self, factors: Sequence[tuple[Factors, Factors]], side: int, part: int) -> Any:
        return self.launcher.upload(np.stack([one[side][part] for one in factors]), np.float32)

    def rafts(self, cold: bool, size: int) -> Rafts:
        """The ring that takes frames in and gives lists of tops out."""
        plane = [(self.shape, np.float32), (self.shape, np.uint8)]
        tops = [((), np.int32), ((self.capacity,), np.int32), ((self.capacity,), np.float32)]
        tops.append(((self.most, 13), np.float64))
        return Rafts(self.launcher, plane * (1 + cold), tops, self.compute, size, pinned=True)

    def run(self, rafts: Rafts, frames: list[list[np.ndarray]]) -> tuple[float, list[Tops], list[Fits]]:
        """(seconds, the tops of each detector, the fits of those that were measured by pixel number)."""
        start = time.perf_counter()
        found, fits = [], []
        for count, places, values, table in rafts.run(frames):
            found.append(in_order(int(count), places, values, self.shape[1]))
            fits.append(dict(zip(places[:count].tolist(), table.copy(), strict=False)))
        return time.perf_counter() - start, found, fits


def measured(visit: Visit, count: int = DETECTORS, repeats: int = 11) -> dict[str, Any]:
    """Seconds of a visit, cold (templates go up with it) and warm, of one detector alone, and memory.

    The detectors' lists and fits are the same cold, warm and one by one, or this raises AssertionError.
    """
    raft = min(RAFT, len(visit.pairs))
    visit.hold_templates()
    seconds, lists, fits, notes = {}, {}, {}, []
    for name, cold in (("cold", True), ("warm", False)):
        rafts, frames = visit.rafts(cold, raft), visit.frames(count, cold)
        visit.run(rafts, frames[:raft])  # the kernels are loaded
        seconds[name], lists[name], fits[name] = visit.run(rafts, frames)
        notes += rafts.notes
    alone, one = visit.rafts(False, 1), visit.frames(1, False)
    times = sorted(visit.run(alone, one)[0] for _ in range(repeats + 1))[:-1]
    _, lists["alone"], fits["alone"] = visit.run(alone, one)
    for name in ("cold", "alone"):
        _check_same(lists[name], lists["warm"], fits[name], fits["warm"])
    return {
        "detectors": count,
        "cold_s": seconds["cold"],
        "warm_s": seconds["warm"],
        "one_ms_median": 1e3 * statistics.median(times),
        "one_ms_slowest": 1e3 * times[-1],
        "memory_gb": visit.launcher.used() / 1e9,
        "tops": sum(len(one[0]) for one in lists["warm"]),
        "measured": sum(len(one) for one in fits["warm"]),
        "notes": notes,
    }


def _check_same(tops: list[Tops], other_tops: list[Tops], fits: list[Fits], other_fits: list[Fits]) -> None:
    """The same tops of each detector, and of those that were measured both times the same fits."""
    for mine, other in zip(tops, other_tops, strict=False):
        for left, right in zip(mine, other, strict=True):
            np.testing.assert_array_equal(left, right)
    for some, others in zip(fits, other_fits, strict=False):
        for pixel in some.keys() & others.keys():
            np.testing.assert_array_equal(some[pixel], others[pixel])
