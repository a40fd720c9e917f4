"""Streams without a GPU: what they are given is done when a scheduler picks it, in any order that events allow."""

import random
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from emulated import Emulated

from gpudiff.model.errors import DeviceFull


class Event:
    """recorded, done : how many times; a wait is for the count at its time."""

    def __init__(self) -> None:
        self.recorded = self.done = 0


class Streamed:
    """A stand-in for a launcher with streams; arrays are NumPy's.

    seed : of the order; each step is the next of a stream picked at random among those that may go on
    ignored : name of an operation, "wait" or "synchronize", that does nothing: to show that a test can fail
    capacity : detectors' worth of first axes that `empty` gives in all
    """

    def __init__(self, seed: int = 0, ignored: str = "", capacity: int = 1 << 30) -> None:
        self.random, self.ignored, self.capacity = random.Random(seed), ignored, capacity
        self.queues: list[deque[Callable[[], bool]]] = []
        self.current: deque | None = None
        self.sent = 0

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if shape[0] > self.capacity:
            raise DeviceFull(f"no room for {shape}")
        array = np.full(shape, 77, dtype)
        self._taken(shape[0])
        weakref.finalize(array, self._taken, -shape[0])
        return array

    def _taken(self, size: int) -> None:
        self.capacity -= size

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.full(shape, 55, dtype)

    def stream(self) -> deque:
        self.queues.append(deque())
        return self.queues[-1]

    def event(self) -> Event:
        return Event()

    @contextmanager
    def on(self, stream: deque) -> Iterator[None]:
        self.current = stream
        yield
        self.current = None

    def launch(self, work: Callable[[], None]) -> None:
        """A kernel, on the stream of `on`."""
        assert self.current is not None
        self._given(self.current, work)

    def _given(self, stream: deque, work: Callable[[], None]) -> None:
        def step() -> bool:
            work()
            return True

        stream.append(step)

    def send(self, here: np.ndarray, there: np.ndarray, stream: deque) -> None:
        self.sent += 1
        self._given(stream, lambda: np.copyto(there, here))

    def fetch(self, there: np.ndarray, here: np.ndarray, stream: deque) -> None:
        self._given(stream, lambda: np.copyto(here, there))

    def record(self, event: Event, stream: deque) -> None:
        event.recorded += 1
        at = event.recorded

        def step() -> bool:
            event.done = at
            return True

        stream.append(step)

    def wait(self, stream: deque, event: Event) -> None:
        at = event.recorded
        if self.ignored != "wait":
            stream.append(lambda: event.done >= at)

    def synchronize(self, event: Event) -> None:
        at = event.recorded
        while self.ignored != "synchronize" and event.done < at:
            self.step()

    def step(self) -> None:
        """One step of a stream that may go on."""
        waiting = [queue for queue in self.queues if queue]
        self.random.shuffle(waiting)
        for queue in waiting:
            if queue[0]():
                queue.popleft()
                return
        raise AssertionError("every stream waits for another")


class EmulatedStreams(Emulated):
    """Kernels run on the CPU, with streams whose work is done when they are given it."""

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def event(self) -> None: ...

    def send(self, here: np.ndarray, there: np.ndarray, stream: Any) -> None:
        np.copyto(there, here)

    def fetch(self, there: np.ndarray, here: np.ndarray, stream: Any) -> None:
        np.copyto(here, there)

    def record(self, event: Any, stream: Any) -> None: ...

    def wait(self, stream: Any, event: Any) -> None: ...

    def finish(self) -> None: ...

    def trim(self) -> None: ...

    def used(self) -> int:
        return 0
