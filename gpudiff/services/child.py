"""A gpudiff command run as a child process: waited for until ready, and gone whatever happens."""

import ctypes
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gpudiff.model.errors import NeighbourLost

PR_SET_PDEATHSIG = 1


class Child:
    """A running `gpudiff` command.  `ready` is the line it printed then; `log` holds all it printed."""

    def __init__(self, arguments: Sequence[str], log: Path, ready: str, timeout_s: float):
        """Start `gpudiff ARGUMENTS` and wait for a line that starts with `ready`.

        Raises NeighbourLost, with the last line it printed, when it ends before, or is not ready in time.
        """
        self.log = log
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpudiff", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            preexec_fn=ending_with_its_parent(signal.SIGTERM),
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._copy, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        try:
            self.ready = self._wait_for(ready, timeout_s)
        except BaseException:
            self.stop(5.0)
            raise

    def _copy(self, output: IO[str]) -> None:
        """Everything the child prints goes to the log, and line by line to who waits."""
        with open(self.log, "w", buffering=1) as log:
            for line in output:
                log.write(line)
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _wait_for(self, start: str, timeout_s: float) -> str:
        last = "nothing"
        while True:
            try:
                line = self._lines.get(timeout=timeout_s)
            except queue.Empty:
                raise NeighbourLost(f"gpudiff: expected '{start}' within {timeout_s:g} s, got {last!r}") from None
            if line is None:
                raise NeighbourLost(f"gpudiff: expected '{start}', but it ended: {last} ({self.log})")
            if line.startswith(start):
                return line
            last = line

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def stop(self, timeout_s: float = 30.0) -> int:
        """Ask it to stop (SIGTERM), kill it if it does not in time; its exit status (negative: a signal)."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._reader.join(5.0)
        return status


def ending_with_its_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child does first: ask Linux for this signal when its parent dies, however it dies (prctl(2))."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, int(number))


@contextmanager
def child(arguments: Sequence[str], log: Path, ready: str, timeout_s: float = 60.0) -> Iterator[Child]:
    """A Child that is stopped at the end, on errors, on Ctrl-C, and when this process is asked to terminate.

    Only usable in the main thread, which is where signals arrive.
    """

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    started = None
    try:
        started = Child(arguments, log, ready, timeout_s)
        yield started
    finally:
        if started is not None:
            started.stop()
        signal.signal(signal.SIGTERM, before)
