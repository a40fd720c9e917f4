"""Frames at work on one device at a time, each in a thread with a stream of its own: while one goes up or comes
down another is computed, and the host works for a third."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gpudiff.arrays.device import InOrder, Launcher
from gpudiff.model.errors import DeviceFailed, DeviceFull

Item = TypeVar("Item")
Made = TypeVar("Made")


class Lanes:
    """So many frames at work at a time, and no more; for as many threads as like.

    launcher : of `arrays.device`
    most : frames at a time; halved for good where memory is short, which `say` is told
    A frame's results are the same whoever works beside it: it shares with others only what nobody writes to.
    """

    def __init__(
        self, launcher: Launcher | InOrder, most: int, say: Callable[[str], Any] = lambda note: None
    ) -> None:
        self.launcher, self.most, self.say = launcher, most, say
        self._turn = threading.Condition()
        self._at_work = 0
        self._idle: list[Any] = []
        """Streams to be used again: of each the device keeps memory."""
        self._failed = ""

    def run(self, work: Callable[[], Made]) -> Made:
        """What `work` makes of a frame, in this thread, when it is its turn; all of it is done on the device then.

        Where memory is short because of others, `work` is called again when they are fewer.  Raises DeviceFull
        where a frame alone has no room, and DeviceFailed from the time on that the device failed: in every thread
        at work, and in those that wait.
        """
        while True:
            most = self._enter()
            try:
                return self._on_a_stream(work)
            except DeviceFull:
                if most == 1:
                    raise
            except DeviceFailed as error:
                self._failed = str(error)
                raise
            finally:
                self._leave()
            self._narrow(most)  # not in `except`: the error holds what was made before it

    def over(self, work: Callable[[Item], Made], frames: Iterable[Item]) -> Iterator[Made]:
        """What `work` makes of each frame, in their order, by threads of its own.  Raises as `run` does."""
        with ThreadPoolExecutor(self.most) as pool:
            yield from pool.map(lambda frame: self.run(lambda: work(frame)), frames)

    def _on_a_stream(self, work: Callable[[], Made]) -> Made:
        with self._turn:
            stream = self._idle.pop() if self._idle else self.launcher.stream()
        try:
            with self.launcher.on(stream):
                made = work()
                self.launcher.synchronize(self.launcher.mark())
                return made
        finally:
            self._idle.append(stream)

    def _enter(self) -> int:
        """Wait for a turn; how many frames may be at work: where it is 1, no other is."""
        with self._turn:
            self._turn.wait_for(lambda: self._failed or self._at_work < self.most)
            if self._failed:
                raise DeviceFailed(self._failed)
            self._at_work += 1
            return self.most

    def _leave(self) -> None:
        with self._turn:
            self._at_work -= 1
            self._turn.notify_all()

    def _narrow(self, most: int) -> None:
        """Halve the number, unless another frame that was at work under the same did."""
        with self._turn:
            if self.most == most:
                self.most //= 2
                self.say(f"GPU memory was short: {self.most} frames at a time from here on")
