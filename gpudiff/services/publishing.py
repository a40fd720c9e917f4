"""The publisher in a process of its own: what sinks and filters need of a core is not taken from the associator.

Started as `python -m gpudiff.services.publishing PIPE`.  It hears lines of JSON on its standard input: its
settings, then {"say": "wake", "defer": false} and {"say": "stop"}.  It tells on the pipe of that number:
{"names": [...]} or {"error", "reason"} once, then what was delivered and how the sinks are.  It ends when its
standard input does.  One that dies is started again, and goes on from what it has told.
"""

import dataclasses
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from gpudiff.edges.ledger import Delivered
from gpudiff.model.config import Configuration, from_tables
from gpudiff.model.errors import GpudiffError, NeighbourLost
from gpudiff.services import log
from gpudiff.services.handover import error_named
from gpudiff.services.outlets import sinks_of
from gpudiff.services.publisher import Publisher, State, lag_of

REPORT_S = 0.05
"""How often what was delivered is told."""
START_S = 60.0
"""What a process has to say at its start it has said by then, on a machine that is busy too; else it is ended."""
AGAIN_S = 2.0
"""Between the death of a publisher and the start of the next: what it had bound may be held for a moment."""
CLOSE_S = 45.0
"""A Kafka broker that is away is given up after 33 s; `gpudiff run` kills an associator that needs 60 s to end."""
END_S = 5.0
"""What one that tells no more may take to end: it may be saying why, on its standard error."""
NICE = 5
"""Where cores are short, detections are committed first: what they made can leave in the pauses."""


class PublisherProcess:
    """What Publisher is to an associator, done by another process.

    Raises, as the making of the sinks does, BadConfiguration; NeighbourLost when the process does not start.
    """

    def __init__(
        self, directory: Path, configuration: Configuration, where: Path | str, folder: Path, marks: dict[str, int]
    ):
        """directory : the associator's; where : the ledger; folder, marks : as Publisher has them"""
        self._settings = {
            "directory": str(directory),
            "configuration": dataclasses.asdict(configuration),
            "where": str(where),
            "folder": str(folder),
        }
        self._marks, self._deferred, self._closed = dict(marks), False, False
        self._untold = False
        self._states: dict[str, State] = {}
        self._done: SimpleQueue[Delivered] = SimpleQueue()
        self._refused: Counter[str] = Counter()
        self._not_before = float("-inf")
        pipe = self._start()
        self.names = self._names(pipe)
        self._attend(self._listen, pipe)

    def wake(self) -> None:
        """Something was committed."""
        self._untold = not self._tell({"say": "wake", "defer": self._deferred})

    def progress(self) -> list[Delivered]:
        """What was delivered since the last time; starts the process again when it has died."""
        died = not (self._closed or self._listener.is_alive())
        done = [self._done.get() for _ in range(self._done.qsize())]
        self._marks |= {one.sink: one.seq for one in done}
        if died:
            self._restart()
        elif self._untold:
            self.wake()
        return done

    def defer_full(self, deferred: bool) -> None:
        """Whether the sinks of full alerts must wait."""
        self._deferred = deferred
        self.wake()

    def lag(self, last: int) -> dict[str, dict[str, Any]]:
        """As Publisher.lag."""
        return lag_of(self._states, last)

    def refused(self) -> Counter[str]:
        """Subscribers not let in since last asked, by reason."""
        found, self._refused = self._refused, Counter()
        return found

    def close(self) -> None:
        """Stop after the batches in hand; by force after CLOSE_S: what was not noted by then leaves once more."""
        self._closed = True
        self._tell({"say": "stop"})
        try:
            self._process.wait(CLOSE_S)
        except subprocess.TimeoutExpired:
            log.warn("publisher hangs", NeighbourLost(f"the publisher did not end within {CLOSE_S:g} s"))
            self._process.kill()
            self._process.wait()
        self._listener.join()

    # ------------------------------------------------------------ inside
    def _start(self) -> IO[str]:
        """Start a process; the pipe on which it tells."""
        ours, theirs = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpudiff.services.publishing", str(theirs)],
            stdin=subprocess.PIPE,
            text=True,
            pass_fds=[theirs],
        )
        os.close(theirs)
        self._tell(self._settings | {"marks": self._marks})
        self.wake()
        return os.fdopen(ours)

    def _names(self, pipe: IO[str]) -> list[str]:
        """The sinks that a process has made, which is the first that it tells; raises why it made none."""
        late = threading.Timer(START_S, self._process.kill)
        late.start()
        said = pipe.readline()
        late.cancel()
        first = json.loads(said or "{}")
        if "names" not in first:
            pipe.close()
            status = self._process.wait()
            name = first.get("error", "NeighbourLost")
            raise error_named(name)(first.get("reason", f"the publisher ended with {status}"))
        return first["names"]

    def _attend(self, hear: Callable[[IO[str]], None], pipe: IO[str]) -> None:
        self._listener = threading.Thread(target=hear, args=(pipe,), name="publisher", daemon=True)
        self._listener.start()

    def _restart(self) -> None:
        """Start another one, which no frame waits for; not again at once when that one does not start either."""
        now = time.monotonic()
        if now < self._not_before:
            return
        self._not_before = now + AGAIN_S
        self._process.kill()  # it may hang at its end, and nobody hears it any more
        log.warn("publisher died", NeighbourLost(f"the publisher ended with {self._process.wait()}"))
        with suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._attend(self._hear, self._start())

    def _hear(self, pipe: IO[str]) -> None:
        """Take in what a process that was started again tells."""
        try:
            self._names(pipe)
        except GpudiffError as error:
            log.warn("publisher does not start", error)
            return
        self._listen(pipe)

    def _listen(self, pipe: IO[str]) -> None:
        """Take in what the process tells, until it ends."""
        with pipe:
            for line in pipe:
                if not line.endswith("\n"):
                    return  # it died in the middle: what it would have told is delivered once more
                said = json.loads(line)
                for sink, seq, at, refused in said["done"]:
                    self._done.put(Delivered(sink, seq, at, [(which, rev, why) for which, rev, why in refused]))
                    if refused:
                        why = refused[0][2]
                        log.say("alerts refused", level=log.WARNING, sink=sink, alerts=len(refused), reason=why)
                before, self._states = (
                    self._states,
                    {name: State(**values) for name, values in said["sinks"].items()},
                )
                _say_troubles(before, self._states)
                self._refused.update(said["refused"])
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)

    def _tell(self, what: dict[str, Any]) -> bool:
        """Say something; False for one that hangs and has thousands of lines unread: it is not waited for."""
        with suppress(OSError, ValueError):  # it has died: `progress` sees to that
            room = select.poll()
            room.register(self._process.stdin, select.POLLOUT)  # type: ignore[arg-type]
            if not room.poll(0):
                return False
            print(json.dumps(what, default=str), file=self._process.stdin, flush=True)
        return True


def _say_troubles(before: Mapping[str, State], now: Mapping[str, State]) -> None:
    """Log which sinks have begun to fail, and which take alerts again."""
    for name, one in now.items():
        failed = name in before and before[name].trouble
        if one.trouble and not failed:
            log.say("sink fails", level=log.WARNING, sink=name, reason=one.trouble)
        elif failed and not one.trouble:
            log.say("sink is back", sink=name)


def main(pipe_number: int) -> int:
    """Publish until told to stop; end at once, like _obey, when nobody reads the pipe any more."""
    try:
        return _publish(pipe_number)
    except BrokenPipeError:
        os._exit(1)


def _publish(pipe_number: int) -> int:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the associator decides when its publisher ends
    os.nice(NICE)
    settings = json.loads(sys.stdin.readline())
    configuration, where = from_tables(settings["configuration"]), settings["where"]
    with os.fdopen(pipe_number, "w", buffering=1) as pipe:
        try:
            sinks = sinks_of(configuration, Path(settings["directory"]))
        except GpudiffError as error:
            print(json.dumps({"error": error.name, "reason": str(error)}), file=pipe)
            return 1
        ledger = where if "://" in where else Path(where)
        publisher = Publisher(ledger, Path(settings["folder"]), sinks, settings["marks"])
        print(json.dumps({"names": publisher.names}), file=pipe)
        stop = threading.Event()
        threading.Thread(target=_obey, args=(publisher, stop), daemon=True).start()
        before = ""
        while not stop.wait(REPORT_S):
            before = _report(publisher, pipe, before)
        publisher.close()
        _report(publisher, pipe, before)
    return 0


def _obey(publisher: Publisher, stop: threading.Event) -> None:
    """Do what the associator says; end at once when it has ended."""
    for line in sys.stdin:
        said = json.loads(line)
        if said["say"] == "stop":
            stop.set()
            return
        publisher.defer_full(said["defer"])
    os._exit(1)


def _report(publisher: Publisher, pipe: IO[str], before: str) -> str:
    """Tell what is new; the line that says how the sinks are."""
    done = [(one.sink, one.seq, one.at_tai, one.refused) for one in publisher.progress()]
    refused, states = publisher.refused(), publisher.states()
    said = json.dumps({name: dataclasses.asdict(one) for name, one in states.items()})
    if done or refused or said != before:
        print(f'{{"done": {json.dumps(done)}, "refused": {json.dumps(refused)}, "sinks": {said}}}', file=pipe)
    return said


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
