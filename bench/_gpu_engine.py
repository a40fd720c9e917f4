"""A visit's detectors through the whole engine, from frames on the host to sources, so many at work at a time: for
bench/gpu.py."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.lanes import Lanes
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Frame
from gpudiff.model.tables import Table
from gpudiff.science.subtract import subtract

AT_A_TIME = 1, 2, 4
ENOUGH_S = 45.0
"""A run begins no frame after this: those that were done tell how long the visit takes."""


class Engine:
    """pair : science and template that all detectors are, each under names of its own: both go up for each"""

    def __init__(self, launcher: Any, pair: Sequence[Frame], half: int) -> None:
        self.launcher, self.pair = launcher, pair
        self.configuration = override(Configuration(), "match", half_width=half)
        self.expected = self._sources(Gpu(launcher), "first")  # the kernels are loaded

    def _sources(self, device: Gpu, name: str) -> Table:
        science, template = (replace(frame, digest=f"{frame.digest} {name}") for frame in self.pair)
        return subtract(science, template, self.configuration, device)[1]

    def measured(self, most: int, count: int, enough_s: float = ENOUGH_S) -> dict[str, Any]:
        """Seconds of up to `count` detectors, `most` at work at a time.

        Each has the very sources that one alone has, or this raises AssertionError.
        """
        self.launcher.trim()
        device, notes = Gpu(self.launcher), list[str]()
        lanes = Lanes(self.launcher, most, notes.append)
        start = time.perf_counter()

        def work(n: int) -> float | None:
            begun = time.perf_counter()
            if begun - start > enough_s:
                return None
            _check_same(self._sources(device, str(n)), self.expected)
            return time.perf_counter() - begun

        took = [one for one in lanes.over(work, range(count)) if one is not None]
        seconds = time.perf_counter() - start
        return {
            "at_a_time": most,
            "detectors": len(took),
            "seconds": seconds,
            "visit_s": seconds / len(took) * count,
            "one_s_median": statistics.median(took),
            "one_s_slowest": max(took),
            "memory_gb": self.launcher.used() / 1e9,
            "notes": notes,
        }


def _check_same(sources: Table, expected: Table) -> None:
    for name, column in expected.columns.items():
        np.testing.assert_array_equal(sources[name], column)
