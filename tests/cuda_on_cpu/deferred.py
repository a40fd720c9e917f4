"""An emulated device that does nothing before the host waits for it: what was not waited for is not there."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from emulated import Emulated, OnDevice

Stream = deque[Callable[[], Any]]


class Pinned(np.ndarray):
    """What a copy goes to, and from, without another copy: what the host writes there before a copy up has ended
    goes up."""


@dataclass
class Event:
    """Where in a stream it stands, and whether it has happened."""

    stream: Stream
    done: bool = False

    def happen(self) -> None:
        self.done = True


class Deferred(Emulated):
    """A stream does what it was given, in order, when the host waits for it, or another stream does.

    ignored : "after", when streams are not to wait for each other: to show that a test can fail
    sent : shapes of what went up from the host
    """

    def __init__(self, ignored: str = "") -> None:
        super().__init__()
        self.ignored = ignored
        self.sent: list[tuple[int, ...]] = []
        self._default: Stream = deque()
        self._thread = threading.local()
        self._stepping = threading.RLock()

    def stream(self) -> Stream:
        return deque()

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self._thread.stream = self._current, stream
        try:
            yield
        finally:
            self._thread.stream = before

    @property
    def _current(self) -> Stream:
        return getattr(self._thread, "stream", self._default)

    def mark(self) -> Event:
        event = Event(self._current)
        event.stream.append(event.happen)
        return event

    def after(self, mark: Event) -> None:
        if self.ignored != "after":
            self._current.append(partial(self.synchronize, mark))

    def synchronize(self, event: Event) -> None:
        while not event.done:
            self._step(event.stream)

    def _step(self, stream: Stream) -> None:
        with self._stepping:
            if stream:
                stream.popleft()()

    # ------------------------------------------------------------ what a launcher does, in its stream's turn
    def upload(self, array: Any, dtype: Any) -> OnDevice:
        if isinstance(array, OnDevice) and array.dtype == dtype and array.flags.c_contiguous:
            return array
        if not isinstance(array, OnDevice):
            array = np.asarray(array, dtype)
            if not (array.flags.c_contiguous and _pinned(array)):  # CuPy sends what is pinned from where it lies
                array = array.copy()
            self.sent.append(array.shape)
        return self._filled(array.shape, dtype, array)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> OnDevice:
        return self._filled(shape, dtype, 0)

    def copy(self, array: Any) -> OnDevice:
        return self._filled(array.shape, array.dtype, array)

    def _filled(self, shape: tuple[int, ...], dtype: Any, values: Any) -> OnDevice:
        there = self.empty(shape, dtype)
        self._current.append(lambda: np.copyto(there, values, casting="unsafe"))
        return there

    def launch(self, *given: Any, **options: Any) -> None:
        self._current.append(partial(super().launch, *given, **options))

    def download(self, array: Any) -> np.ndarray:
        stream = self._current
        while stream:
            self._step(stream)
        out = Pinned(array.shape, array.dtype)
        out[...] = super().download(array)
        return out


def _pinned(array: Any) -> bool:
    """Whether an array lies in memory that came from `download`."""
    while array is not None and not isinstance(array, Pinned):
        array = getattr(array, "base", None)
    return array is not None
