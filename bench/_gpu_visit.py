"""A visit's detectors from pinned memory to detections, and one alone: for bench/gpu.py."""

import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.arrays import score_tiles, subtract_tiles
from gpudiff.arrays.components import in_order, listed_cuda
from gpudiff.arrays.rafts import RAFT, Rafts
from gpudiff.arrays.subtract_tiles import Factors, Found, OnDevice, Pair
from gpudiff.arrays.tiles import tiles

DETECTORS = 189
THRESHOLD = 5.0


class Visit:
    """The passes of `science.difference` over a raft of made detectors, their kernels and filters given.

    pairs, found, factors : of up to RAFT detectors, all of one shape, used in turn
    """

    def __init__(
        self,
        launcher: Any,
        pairs: Sequence[Pair],
        found: Sequence[Found],
        factors: Sequence[tuple[Factors, Factors]],
        filters: score_tiles.Filters,
        halos: tuple[int, int],
    ):
        self.launcher, self.pairs, self.found, self.factors = launcher, pairs, found, factors
        self.shape = pairs[0].target.shape
        self.filters, self.halos = filters, halos
        self.variance = np.full(self.shape, 30, np.float32)  # what the score's floors are taken from
        self.templates: tuple[Any, Any] | None = None
        self.capacity = max(256, self.shape[0] * self.shape[1] // 256)

    def hold_templates(self) -> None:
        """Send the templates of a raft up, to stay."""
        upload = self.launcher.upload
        self.templates = (
            upload(np.stack([pair.convolved for pair in self.pairs]), np.float32),
            upload(np.stack([pair.convolved_bad for pair in self.pairs]), np.uint8),
        )
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
        """Subtract, whiten, score, list: counts, places, values of the tops, on the device."""
        count = len(planes[0])
        pairs, found, factors = (one[:count] for one in (self.pairs, self.found, self.factors))
        template = planes[2:] or [plane[:count] for plane in self.templates or ()]
        smooth = [self._sent(factors, side, part) for side in (0, 1) for part in (0, 1)]
        there = OnDevice(planes[0], template[0], planes[1], template[1], (*smooth,))  # type: ignore[arg-type]
        narrow, wide = (tiles(self.shape, 256, halo) for halo in self.halos)
        made = subtract_tiles.subtract_tiles_cuda(self.launcher, pairs, factors, found, narrow, there=there)
        seen = [self.variance] * count
        scored = score_tiles.score_tiles_cuda(
            self.launcher, made[0], made[1], made[3], [self.filters] * count, wide, seen
        )
        return list(listed_cuda(self.launcher, scored[2], THRESHOLD, self.capacity))

    def _sent(self, factors: Sequence[tuple[Factors, Factors]], side: int, part: int) -> Any:
        return self.launcher.upload(np.stack([one[side][part] for one in factors]), np.float32)

    def rafts(self, cold: bool, size: int) -> Rafts:
        """The ring that takes frames in and gives lists of tops out."""
        plane = [(self.shape, np.float32), (self.shape, np.uint8)]
        tops = [((), np.int32), ((self.capacity,), np.int32), ((self.capacity,), np.float32)]
        return Rafts(self.launcher, plane * (1 + cold), tops, self.compute, size, pinned=True)

    def run(self, rafts: Rafts, frames: list[list[np.ndarray]]) -> tuple[float, list[tuple[np.ndarray, ...]]]:
        """(seconds, the tops of each detector)."""
        start = time.perf_counter()
        found = [
            in_order(int(count), places, values, self.shape[1]) for count, places, values in rafts.run(frames)
        ]
        return time.perf_counter() - start, found


def measured(visit: Visit, count: int = DETECTORS, repeats: int = 11) -> dict[str, Any]:
    """Seconds of a visit, cold (templates go up with it) and warm, of one detector alone, and memory.

    The detectors' lists are the same cold, warm and one by one, or this raises AssertionError.
    """
    raft = min(RAFT, len(visit.pairs))
    visit.hold_templates()
    seconds, lists, notes = {}, {}, []
    for name, cold in (("cold", True), ("warm", False)):
        rafts, frames = visit.rafts(cold, raft), visit.frames(count, cold)
        visit.run(rafts, frames[:raft])  # the kernels are loaded
        seconds[name], lists[name] = visit.run(rafts, frames)
        notes += rafts.notes
    alone, one = visit.rafts(False, 1), visit.frames(1, False)
    times = sorted(visit.run(alone, one)[0] for _ in range(repeats + 1))[:-1]
    _, single = visit.run(alone, one)
    for a, b in ((lists["cold"], lists["warm"]), (single, lists["warm"][:1])):
        for left, right in zip(a, b, strict=True):
            for mine, other in zip(left, right, strict=True):
                np.testing.assert_array_equal(mine, other)
    return {
        "detectors": count,
        "cold_s": seconds["cold"],
        "warm_s": seconds["warm"],
        "one_ms_median": 1e3 * statistics.median(times),
        "one_ms_slowest": 1e3 * times[-1],
        "memory_gb": visit.launcher.used() / 1e9,
        "tops": sum(len(one[0]) for one in lists["warm"]),
        "notes": notes,
    }
