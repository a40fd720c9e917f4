"""How long work takes on a device: for bench/gpu.py."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

from gpudiff.arrays.device import Cuda


class Timed:
    """A launcher that notes how long each kernel took, in ms."""

    def __init__(self, launcher: Any):
        self.launcher = launcher
        self.times: dict[str, list[float]] = defaultdict(list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.launcher, name)

    def launch(self, stem: str, kernel: str, *rest: Any, **options: Any) -> None:
        launch = partial(self.launcher.launch, stem, kernel, *rest, **options)
        self.times[kernel].append(milliseconds(self.launcher, launch))

    def medians(self) -> dict[str, float]:
        """Of each kernel, the first launch left out: it loads the code."""
        return {kernel: statistics.median(values[1:] or values) for kernel, values in self.times.items()}


def milliseconds(launcher: Any, work: Callable[[], Any]) -> float:
    """How long the work takes on the device; on the host where there is none."""
    if not isinstance(launcher, Cuda):
        start = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - start)
    events = launcher.cupy.cuda.Event(), launcher.cupy.cuda.Event()
    events[0].record()
    work()
    events[1].record()
    events[1].synchronize()
    return float(launcher.cupy.cuda.get_elapsed_time(*events))


def median_of(launcher: Any, work: Callable[[], Any], repeats: int = 11) -> float:
    """ms, the first run left out."""
    work()
    return statistics.median(milliseconds(launcher, work) for _ in range(repeats))
