"""Batches of detectors through a GPU: one goes up and one comes down while another is computed.  For bench/gpu.py.

The service has no batches: one detector fills a GPU, and its frames come one by one, each on a stream of its own
(`gpudiff.arrays.lanes`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from gpudiff.model.errors import DeviceFull

RAFT, RING = 9, 3
"""Detectors of a batch; batches that are on their way at a time."""


class Streams(Protocol):
    """What a launcher of `gpudiff.arrays.device` with streams of its own offers beside memory and kernels."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any: ...

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Host memory that copies run from and to beside the host's own work."""
        ...

    def stream(self) -> Any: ...

    def event(self) -> Any: ...

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Kernels launched within go to that stream."""
        ...

    def send(self, here: np.ndarray, there: Any, stream: Any) -> None:
        """Copy pinned memory to the device, in the stream's turn."""
        ...

    def fetch(self, there: Any, here: np.ndarray, stream: Any) -> None:
        """Copy from the device to pinned memory, in the stream's turn."""
        ...

    def record(self, event: Any, stream: Any) -> None:
        """The event has happened once all that the stream was given before is done."""
        ...

    def wait(self, stream: Any, event: Any) -> None:
        """What the stream is given from now on comes after the event as it was last recorded."""
        ...

    def synchronize(self, event: Any) -> None:
        """Let the host wait for the event as it was last recorded; at once for one that never was."""
        ...


Kinds = Sequence[tuple[tuple[int, ...], Any]]
"""(shape, dtype) of each plane of one detector."""


@dataclass
class _Slot:
    """The buffers of a batch on its way, and what has become of them: `up`, `computed`, `down` are events."""

    here: list[np.ndarray]
    there: list[Any]
    back: list[np.ndarray]
    up: Any
    computed: Any
    down: Any
    made: list[Any] = field(default_factory=list)
    count: int = 0


class Rafts:
    """A ring of batches on three streams: up, compute, down.

    kinds, results : of what goes up of one detector, and of what comes down
    compute(planes) : kernels launched on device arrays (n, ...) of each kind; returns the results' (n, ...)
    size : detectors of a batch; halved where memory is short, which `notes` says
    pinned : the detectors' planes lie in pinned memory, in C order: they go up from there, and must not change
        until their results are given; else they are copied into such memory first
    """

    def __init__(
        self,
        launcher: Streams,
        kinds: Kinds,
        results: Kinds,
        compute: Callable[[list[Any]], Sequence[Any]],
        size: int = RAFT,
        ring: int = RING,
        pinned: bool = False,
    ) -> None:
        self.launcher, self.compute, self.size, self.notes = launcher, compute, size, list[str]()
        self._kinds, self._results, self._ring, self._pinned = kinds, results, ring, pinned
        self._up, self._work, self._down = (launcher.stream() for _ in range(3))
        self._slots: list[_Slot] = []

    def run(self, detectors: Sequence[Sequence[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """The results of each detector, in order: views of pinned memory, good until the next is asked for.

        detectors : of each, one plane of each kind.  Raises DeviceFull where one alone has no room.
        """
        done = 0
        while done < len(detectors):
            try:
                for results in self._run(detectors[done:]):
                    yield results
                    done += 1
            except DeviceFull:
                if self.size == 1:
                    raise
            else:
                return
            finally:
                self._drain()
            self._slots = []
            self.size //= 2
            self.notes.append(f"GPU memory was short: batches of {self.size} detectors from here on")

    def _run(self, detectors: Sequence[Sequence[np.ndarray]]) -> Iterator[list[np.ndarray]]:
        """The same with batches of one size; one goes up before the one before it is computed.

        A slot is filled again only after its results were given: nothing on the device uses it then.
        """
        self._slots = self._slots or [self._slot() for _ in range(self._ring)]
        batches = [detectors[at : at + self.size] for at in range(0, len(detectors), self.size)]
        turns = [self._slots[n % self._ring] for n in range(len(batches))]
        behind = self._ring - 1
        for n in range(len(batches) + behind):
            if n < len(batches):
                self._send(turns[n], batches[n])
            if 0 < n <= len(batches):
                self._work_on(turns[n - 1])
            if n >= behind:
                yield from self._results_of(turns[n - behind])

    def _slot(self) -> _Slot:
        def buffers(make: Callable[..., Any], kinds: Kinds) -> list[Any]:
            return [make((self.size, *shape), dtype) for shape, dtype in kinds]

        events = (self.launcher.event() for _ in range(3))
        here = [] if self._pinned else buffers(self.launcher.pinned, self._kinds)
        there = buffers(self.launcher.empty, self._kinds)
        return _Slot(here, there, buffers(self.launcher.pinned, self._results), *events)

    def _send(self, slot: _Slot, batch: Sequence[Sequence[np.ndarray]]) -> None:
        """Have a batch copied up from pinned memory, its own or the slot's."""
        slot.count = len(batch)
        for place, planes in enumerate(batch):
            for n, plane in enumerate(planes):
                if not self._pinned:
                    slot.here[n][place] = plane
                source = plane if self._pinned else slot.here[n][place]
                self.launcher.send(source, slot.there[n][place], self._up)
        self.launcher.record(slot.up, self._up)

    def _work_on(self, slot: _Slot) -> None:
        """Have the slot's batch computed, and its results copied down."""
        self.launcher.wait(self._work, slot.up)
        with self.launcher.on(self._work):
            slot.made = list(self.compute([there[: slot.count] for there in slot.there]))
        self.launcher.record(slot.computed, self._work)
        self.launcher.wait(self._down, slot.computed)
        for made, back in zip(slot.made, slot.back, strict=True):
            self.launcher.fetch(made, back[: slot.count], self._down)
        self.launcher.record(slot.down, self._down)

    def _results_of(self, slot: _Slot) -> Iterator[list[np.ndarray]]:
        self.launcher.synchronize(slot.down)
        slot.made = []
        for place in range(slot.count):
            yield [back[place] for back in slot.back]

    def _drain(self) -> None:
        """Wait until no copy uses the slots' pinned memory any more."""
        for slot in self._slots:
            self.launcher.synchronize(slot.up)
            self.launcher.synchronize(slot.down)
