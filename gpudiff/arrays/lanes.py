"""Frames at work on one device at a time, each in a thread with a stream of its own: while one goes up or comes
down another is computed, and the host works for a third."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from gpudiff.arrays.device import InOrder, Launcher
from gpudiff.model.errors import DeviceFailed, DeviceFull

AGAIN = 200
"""Frames that are done, about those of a visit, after which one more at a time is tried: where that has no room, a
frame in two hundred is computed twice."""

Item = TypeVar("Item")
Made = TypeVar("Made")


class Lanes:
    """So many frames at work at a time, and no more; for as many threads as like.

    launcher : of `arrays.device`
    most : frames at a time; now : how many of them at present
    Where memory is short `now` is one fewer, and one more, up to `most`, once AGAIN frames were done since;
    `say` is told of both.
    A frame's results are the same whoever works beside it: it shares with others only what nobody writes to.
    """

    def __init__(
        self, launcher: Launcher | InOrder, most: int, say: Callable[[str], Any] = lambda note: None
    ) -> None:
        self.launcher, self.most, self.now, self.say = launcher, most, most, say
        self._turn = threading.Condition()
        self._at_work = self._done = 0
        """Frames at work, and done since `now` was last changed."""
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
            now = self._enter()
            try:
                made = self._on_a_stream(work)
                self._widen()
                return made
            except DeviceFull:
                if now == 1:
                    raise
            except DeviceFailed as error:
                self._failed = str(error)
                raise
            finally:
                self._leave()
            self._narrow(now)  # not in `except`: the error holds what was made before it

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
            self._turn.wait_for(lambda: self._failed or self._at_work < self.now)
            if self._failed:
                raise DeviceFailed(self._failed)
            self._at_work += 1
            return self.now

    def _leave(self) -> None:
        with self._turn:
            self._at_work -= 1
            self._turn.notify_all()

    def _narrow(self, now: int) -> None:
        """One fewer, unless another frame that was at work under the same number said so."""
        with self._turn:
            if self.now == now:
                self._change(-1, "GPU memory was short")

    def _widen(self) -> None:
        """Count a frame that is done, before it leaves: who enters under a `now` of 1 is then alone to its end."""
        with self._turn:
            self._done += 1
            if self.now < self.most and self._done >= AGAIN:
                self._change(1, f"{self._done} frames had room")

    def _change(self, by: int, why: str) -> None:
        self.now, self._done = self.now + by, 0
        self._turn.notify_all()
        self.say(f"{why}: {self.now} frames at a time from here on")
