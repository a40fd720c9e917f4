"""Seals the alert index of visits that are over, in a process of its own, at low priority: no visit waits for it.

The process is `python -m gpudiff.services.sealing FOLDER FILE...`: it seals these archive files' rows, merges
segments, and makes one segment of each night that is over.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from gpudiff.edges import alert_tail
from gpudiff.edges.alert_index import FOLDER, AlertIndex
from gpudiff.model.alert_index import night_of
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import GpudiffError, UnreadableFile

EVERY_S = 5.0
"""Between two looks at what there is to seal."""
NICE = 10
STOP_S = 5.0


class Sealer:
    """Starts a process whenever the visit of an unsealed archive file is over, one at a time.

    failed : how many of these processes ended with an error; what they were to seal is tried again when it grows,
        or beside what a later visit has to seal
    """

    def __init__(self, alerts: Path, clock: Callable[[], float] = time.monotonic):
        """alerts : folder of the archive files"""
        self.alerts, self.clock, self.failed = alerts, clock, 0
        self._next = clock()
        self._process: subprocess.Popen[bytes] | None = None
        self._tried: dict[str, int] = {}

    def turn(self, open_visits: Callable[[], Collection[str]]) -> bool:
        """Look after the process, and start one where there is something to seal; whether one is at work.

        open_visits : asked every EVERY_S
        """
        if self._process is not None:
            status = self._process.poll()
            if status is None:
                return True
            self.failed += status != 0
            self._process = None
        if self.clock() < self._next:
            return False
        self._next = self.clock() + EVERY_S
        waiting = self._waiting(open_visits())
        if waiting:
            self._tried = waiting
            command = [sys.executable, "-m", "gpudiff.services.sealing", str(self.alerts), *waiting]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        return self._process is not None

    def close(self) -> None:
        """Stop the process; what it has not sealed is sealed after the next start."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:  # the associator has a ledger to close
                self._process.kill()

    def _waiting(self, open_visits: Collection[str]) -> dict[str, int]:
        """Archive files with rows to seal whose visit is over, and how many bytes these are; not those of the
        last try that have not grown."""
        found = {}
        for path in sorted((self.alerts / FOLDER).glob(f"*{alert_tail.SUFFIX}")):
            name = path.name.removesuffix(alert_tail.SUFFIX)
            if name.partition(".")[0] not in open_visits:
                with suppress(FileNotFoundError):  # somebody else has sealed it since: gpudiff archive index
                    found[name] = path.stat().st_size
        return {name: size for name, size in found.items() if self._tried.get(name) != size}


def seal(alerts: Path, names: Sequence[str], now: float) -> list[UnreadableFile]:
    """Seal archive files, merge segments, of nights that are over all into one; what kept files from being sealed.

    now : MJD TAI.  Raises StoreFailed.
    """
    index, refused = AlertIndex(alerts), []
    for name in names:
        try:
            index.seal(name)
        except UnreadableFile as error:  # the others' rows are sealed all the same
            refused.append(error)
        index.consolidate()
    for night in sorted({one.coverage.night for one in index.segments}):
        if night < night_of(now):
            index.consolidate(night)
    return refused


def main(folder: str, *names: str) -> int:
    """0, or 3 when it cannot be done, or not for all."""
    failed: Sequence[GpudiffError]
    try:
        failed = seal(Path(folder), names, tai_now())
    except GpudiffError as error:
        failed = [error]
    for one in failed:
        print(f"{one.name}: {one}", file=sys.stderr)
    return 3 if failed else 0


if __name__ == "__main__":
    os.nice(NICE)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))  # not without removing what it was writing
    sys.exit(main(*sys.argv[1:]))
