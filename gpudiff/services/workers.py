"""The worker processes of a differencer, seen from the differencer."""

import dataclasses
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from gpudiff.edges.endpoint import endpoint_in
from gpudiff.edges.transport import Pair
from gpudiff.model.config import override
from gpudiff.model.errors import MustStop, NeighbourLost
from gpudiff.services.backlog import Owed
from gpudiff.services.intake import Held
from gpudiff.services.settings import MAKE_UP, STOP, WORK, Settings, to_json

ONE_THREAD = {
    name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
}
KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_ARENA_MAX": "1"}
"""For glibc (mallopt(3)): the memory of planes that are freed is kept for the next ones.  Else the system takes it
back and clears its pages each time, a seventh of the work of a frame.  A worker then has as much between frames as
it has at its busiest; that is no more than before."""
LEAVE_S = 5.0
"""How long a worker told to stop may take."""
PATIENCE_LEASES = 5
"""A frame that takes a worker more leases than these is taken from it."""
DEATHS_IN_A_ROW = 3


class Seat:
    """A place for one frame, or one frame's forced photometry, in a worker process, and the socket to it.

    ready : it has taken its settings; handing : it waits for the associator; since : its frame's start
    """

    def __init__(self, endpoint: str, worker: "WorkerProcess"):
        self.worker = worker
        self.held: Held | None = None
        self.owed: Owed | None = None
        self.ready, self.handing, self.since = False, False, time.monotonic()
        self.pair = Pair(bind=endpoint)

    @property
    def idle(self) -> bool:
        """Whether it can take something."""
        return self.ready and self.held is None and self.owed is None

    @property
    def associator(self) -> str | None:
        """The endpoint of the one that it works for now, None when it has nothing."""
        work = self.held or self.owed
        return work.associator if work else None

    def work(self, held: Held, forced: bytes) -> None:
        """Give it a frame.  forced : when its forced photometry is measured (services.settings)"""
        self.held, self.handing, self.since = held, False, time.monotonic()
        self.tell([WORK, repr(held.received_tai).encode(), forced, *held.parts])

    def make_up(self, owed: Owed) -> None:
        """Give it forced photometry that was put off."""
        self.owed, self.handing, self.since = owed, False, time.monotonic()
        self.tell([MAKE_UP, os.fsencode(owed.path)])

    def tell(self, parts: list[bytes | memoryview]) -> None:
        """Send a message; a worker that does not take it is ending, and its end will be noticed."""
        try:
            self.pair.send(parts)
        except NeighbourLost:
            self.worker.process.kill()

    def close(self) -> None:
        self.pair.close()
        with suppress(OSError):  # it is in nobody's way, and a disk that fails is named elsewhere
            Path(self.pair.endpoint.removeprefix("ipc://")).unlink()


class WorkerProcess:
    """One worker: its process, and a seat for each frame that it may have; on a CPU it takes the first one alone.

    alive : a file descriptor that becomes readable when the process is gone
    most : frames that may be on its device at a time, by what it last said; fewer than seats where memory is short
    """

    def __init__(self, settings: Settings, endpoints: Sequence[str]):
        self.seats = [Seat(endpoint, self) for endpoint in endpoints]
        self.most = len(endpoints)
        self.alive, theirs = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpudiff.services.worker", *(seat.pair.endpoint for seat in self.seats)],
            stdin=subprocess.PIPE,
            pass_fds=[theirs],
            env={**os.environ, **ONE_THREAD, **KEPT_MEMORY},
            text=True,
        )
        os.close(theirs)
        assert self.process.stdin is not None
        with suppress(OSError):  # it has died: `alive` tells
            print(to_json(settings), file=self.process.stdin, flush=True)  # for others see command lines, not this

    @property
    def pid(self) -> int:
        """Process id."""
        return self.process.pid

    @property
    def ready(self) -> bool:
        """Whether it can take frames."""
        return any(seat.ready for seat in self.seats)

    @property
    def room(self) -> int:
        """How many frames may be at work at a time, as far as it has said."""
        return min(self.most, sum(seat.ready for seat in self.seats))

    @property
    def at_work(self) -> int:
        """How many frames it has."""
        return sum(seat.associator is not None for seat in self.seats)

    @property
    def taken(self) -> bool:
        """Whether it has a frame that must be alone."""
        return any(seat.held is not None and seat.held.alone for seat in self.seats)

    def stop(self) -> None:
        """Ask it to end; one that is not ready yet, or has a frame, is ended by force."""
        if self.ready and not self.at_work:
            next(seat for seat in self.seats if seat.ready).tell([STOP])
        else:
            self.process.kill()

    def close(self, patience_s: float = 0.0) -> int:
        """End the process, by force after `patience_s`; its exit status."""
        try:
            self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
        assert self.process.stdin is not None
        with suppress(OSError):  # of one that died before it read its settings
            self.process.stdin.close()
        for seat in self.seats:
            seat.close()
        os.close(self.alive)
        return self.process.wait()


class WorkerPool:
    """As many workers as the settings say; one that dies is started anew."""

    def __init__(self, settings: Settings):
        service = settings.configuration.service
        match = settings.configuration.match
        self._seats = 1 if match.device == "cpu" else match.gpu_frames
        threads = match.threads or max(1, len(os.sched_getaffinity(0)) // settings.workers)
        self._settings = dataclasses.replace(
            settings,
            configuration=override(settings.configuration, "match", threads=threads),
        )
        self._limit_s = PATIENCE_LEASES * service.lease_s
        self._numbers = itertools.count()
        self._deaths_in_a_row = 0
        self.workers = [self._start() for _ in range(settings.workers)]

    def _start(self) -> WorkerProcess:
        names = (f"ipc://{{directory}}/worker-{next(self._numbers)}.ipc" for _ in range(self._seats))
        return WorkerProcess(self._settings, [endpoint_in(self._settings.directory, name) for name in names])

    @property
    def seats(self) -> list[Seat]:
        """Those of all workers."""
        return [seat for one in self.workers for seat in one.seats]

    @property
    def room(self) -> int:
        """How many frames may be at work at a time, as far as the workers have said."""
        return max(len(self.workers), sum(one.room for one in self.workers))

    def idle(self) -> Seat | None:
        """One that can take a frame, in the worker that has the fewest; None where there is none."""
        able = [seat for seat in self.seats if seat.idle and not seat.worker.taken]
        return min(able, key=lambda seat: seat.worker.at_work, default=None)

    def made_ready(self, seat: Seat) -> None:
        """Note that a worker has started."""
        seat.ready, self._deaths_in_a_row = True, 0

    def replace(self, dead: WorkerProcess) -> int:
        """Start another in a dead worker's place; the dead one's exit status, negative for a signal.

        Raises MustStop when workers die again and again before they are ready.
        """
        status = dead.close()
        self.workers.remove(dead)
        self._deaths_in_a_row += not dead.ready
        if self._deaths_in_a_row >= DEATHS_IN_A_ROW:
            raise MustStop(f"expected workers that start, {DEATHS_IN_A_ROW} died while starting, status {status}")
        self.workers.append(self._start())
        return status

    def kill_overdue(self) -> int:
        """Kill workers that compute on one frame for far too long (waiting for the associator is fine).

        Returns how many.
        """
        now, killed = time.monotonic(), 0
        for seat in self.seats:
            if seat.associator is not None and not seat.handing and now - seat.since > self._limit_s:
                seat.worker.process.kill()
                seat.since, killed = now, killed + 1
        return killed

    def close(self) -> None:
        """End all of them."""
        for one in self.workers:
            one.stop()
        for one in self.workers:
            one.close(LEAVE_S)
        self.workers = []
