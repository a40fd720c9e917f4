"""Publisher: each sink follows the ledger's outbox in a thread of its own, and reads the alerts from the archive.

At least once: a sink's watermark is written after the sink has everything up to it, by the ledger's one writer,
who asks for `progress`.  A sink that is slow, gone or broken holds up neither commits nor the other sinks.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges import aligned, archive
from gpudiff.edges.alert_schema import SCHEMA_ID
from gpudiff.edges.ledger import Delivered
from gpudiff.edges.ledger_reader import LedgerReader, Pending
from gpudiff.edges.sinks import refusals
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import BadMessage, GpudiffError, NeighbourLost, StoreFailed
from gpudiff.model.outgoing import OUTGOING, PUBLISHED, Delivery, OutgoingBatch, Sink
from gpudiff.model.tables import Table

PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
"""Between two offers of the same batch; doubled each time."""
REOPEN_S = 1.0
"""Before the ledger, or an archive file, that could not be read is opened again."""
ATTEMPTS = 3
"""How often a batch is offered that makes a sink fail in a way it does not name; then it is a dead letter."""
FRAMES = 16
"""Of the outbox, read at a time."""
FULL = "full"


@dataclass
class Follower:
    """One sink and how far it is.

    seq : everything up to this number of the outbox is delivered or refused
    deferred : whether to wait, for a sink of full alerts while the load is too high; idle : whether it does so
    alerts, refused : so many were delivered, will never be; errors : offers that failed
    trouble : why the last offer failed, '' when it did not
    done : what was delivered and is not in the ledger yet, with the moment, time.monotonic()
    """

    sink: Sink
    where: Path | str
    folder: Path
    seq: int
    clock: Callable[[], float] = tai_now
    deferred: bool = False
    idle: bool = False
    errors: int = 0
    alerts: int = 0
    refused: int = 0
    trouble: str = ""
    wake: threading.Event = field(default_factory=threading.Event)
    stopping: threading.Event = field(default_factory=threading.Event)
    memory: memoryview = field(default_factory=aligned.buffer)
    done: deque[tuple[float, Delivered]] = field(default_factory=deque)

    @property
    def settle_s(self) -> float:
        """How long the sink needs: when it is new, for its readers to come back; for what it took to leave."""
        return float(getattr(self.sink, "settle_s", 0.0))

    @property
    def state(self) -> "State":
        """How far it is."""
        return State(self.seq, self.alerts, self.errors, self.refused, self.trouble)

    def settled(self) -> list[Delivered]:
        """What has been delivered for long enough to be sure, taken out of `done`; all of it after the end."""
        last = time.monotonic() - (0.0 if self.stopping.is_set() else self.settle_s)
        found = []
        while self.done and self.done[0][0] <= last:
            found.append(self.done.popleft()[1])
        return found

    def run(self) -> None:
        """Follow until told to stop, with another connection to the ledger where one has failed."""
        self.stopping.wait(self.settle_s)
        while not self.stopping.is_set():
            try:
                with closing(LedgerReader(self.where)) as reader:
                    self._follow(reader)
            except Exception as error:  # nobody else would see that this thread has ended
                self._failed(error)
                self.stopping.wait(REOPEN_S)

    def _follow(self, reader: LedgerReader) -> None:
        """Deliver what waits until told to stop; raises StoreFailed where the ledger or archive cannot be read."""
        while not self.stopping.is_set():
            self.wake.clear()
            self.idle = self.deferred
            waiting = [] if self.deferred else reader.pending(self.seq, FRAMES)
            for one in waiting:
                if not self._deliver(reader, one):
                    return
            if not waiting:
                self.wake.wait(LONGEST_PAUSE_S)

    def _deliver(self, reader: LedgerReader, one: Pending) -> bool:
        """Offer one frame's alerts until they are delivered or refused; False when told to stop before that."""
        pause, failures = PAUSE_S, 0
        while not self.stopping.is_set():
            try:
                batch = outgoing(reader, self.folder, one, self.memory)
                self._withdraw(one)
                self._note(one, batch, self.sink.publish(batch))
                return True
            except StoreFailed:
                raise
            except NeighbourLost as error:  # not the alerts' fault: they are offered again
                self._failed(error)
            except Exception as error:  # whatever a sink trips over is its own, not the others'
                self._failed(error)
                failures += 1
                if failures == ATTEMPTS:
                    self._bury(reader, one, error)
                    return True
            self.stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)
        return False

    def _withdraw(self, one: Pending) -> None:
        """Tell the readers that a revision takes the place of those before it, also where it has no alerts."""
        if one.revision:
            with suppress(BadMessage):  # they do not want to know
                self.sink.tell("withdrawn", asdict(one.frame) | {"revision": one.revision})

    def _failed(self, error: Exception) -> None:
        self.errors += 1
        self.trouble = told(error)

    def _note(self, one: Pending, batch: OutgoingBatch, delivery: Delivery) -> None:
        self.alerts += delivery.delivered
        self.trouble = ""
        refused = [(which, one.revision, reason) for which, reason in delivery.refused]
        self._advance(one, refused)

    def _bury(self, reader: LedgerReader, one: Pending, error: Exception) -> None:
        ids = reader.batch_sources(one.frame, one.revision)["diaSourceId"].tolist()
        self._advance(one, [(which, one.revision, told(error)) for which in ids])

    def _advance(self, one: Pending, refused: list[tuple[int, int, str]]) -> None:
        self.refused += len(refused)
        self.done.append((time.monotonic(), Delivered(self.sink.name, one.seq, self.clock(), refused)))
        self.seq = one.seq


@dataclass(frozen=True)
class State:
    """A sink: everything up to `seq` of the outbox is delivered or refused; the rest as Follower has it."""

    seq: int
    alerts: int
    errors: int
    refused: int
    trouble: str


def lag_of(states: Mapping[str, State], last: int) -> dict[str, dict[str, Any]]:
    """Of each sink: how far it is `behind` the outbox's end (`last`), and the rest of its State."""

    def lag(one: State) -> dict[str, Any]:
        said = asdict(one)
        return {"behind": max(0, last - said.pop("seq"))} | said

    return {name: lag(one) for name, one in states.items()}


class Publisher:
    """All sinks' followers."""

    def __init__(
        self,
        where: Path | str,
        folder: Path,
        sinks: Sequence[Sink],
        marks: dict[str, int],
        clock: Callable[[], float] = tai_now,
    ):
        """where : the ledger; folder : of the archive; marks : how far each sink was, by name (a sink that is not
        there begins with what waits in the outbox)"""
        self.followers = [Follower(sink, where, folder, marks.get(sink.name, 0), clock) for sink in sinks]
        self._threads = [
            threading.Thread(target=one.run, name=f"sink {one.sink.name}", daemon=True) for one in self.followers
        ]
        for thread in self._threads:
            thread.start()

    @property
    def names(self) -> list[str]:
        """Of the sinks."""
        return [one.sink.name for one in self.followers]

    def wake(self) -> None:
        """Something was committed."""
        for one in self.followers:
            one.wake.set()

    def progress(self) -> list[Delivered]:
        """What was delivered for sure since the last time, in order, sink by sink."""
        return [done for one in self.followers for done in one.settled()]

    def defer_full(self, deferred: bool) -> None:
        """Whether the sinks of full alerts must wait."""
        for one in self.followers:
            one.deferred = deferred and getattr(one.sink, "tier", "") == FULL
        self.wake()

    def states(self) -> dict[str, State]:
        """How far each sink is, by its name."""
        return {one.sink.name: one.state for one in self.followers}

    def lag(self, last: int) -> dict[str, dict[str, Any]]:
        """As lag_of, of the sinks now."""
        return lag_of(self.states(), last)

    def refused(self) -> Counter[str]:
        """Subscribers that the sinks did not let in since last asked, by reason."""
        return refusals(one.sink for one in self.followers)

    def close(self) -> None:
        """Stop after the batches in hand, close the sinks."""
        for one in self.followers:
            one.stopping.set()
            one.wake.set()
        for thread, one in zip(self._threads, self.followers, strict=True):
            thread.join()
            one.sink.close()


def told(error: Exception) -> str:
    """The error's name and what it says."""
    return f"{error.name if isinstance(error, GpudiffError) else type(error).__name__}: {error}"


def outgoing(reader: LedgerReader, folder: Path, one: Pending, memory: memoryview | None = None) -> OutgoingBatch:
    """A frame's alerts on their way out: rows from the ledger, bytes, when asked for, from the archive.

    memory : as archive.bodies takes it
    """
    rows = reader.batch_sources(one.frame, one.revision)
    return OutgoingBatch(
        rows=Table(OUTGOING, {c.name: rows[c.name] for c in OUTGOING}),
        alerts=archive.Bodies(folder / one.file, one.offsets, one.lengths, memory),
        schema=reader.schema(one.schema),
        schema_id=SCHEMA_ID,
        fingerprint=reader.alert_fingerprint(one.frame, one.revision),
        sources=reader.source_records(one.frame, one.revision),
        published=published(rows),
    )


def published(rows: Table) -> Table | None:
    """Table of PUBLISHED, of a frame's rows of ledger_tables.DIA_SOURCE; None where they do not have all of it."""
    trails = {"trailLength": rows["skyTrailLength"], "trailAngle": rows["skyTrailAngle"]}
    if any(np.isnan(column).any() for column in trails.values()):
        return None
    scale = float(rows["fluxScale"][0]) if len(rows) else 1.0
    fluxes = {name: rows[name] * scale for name in ("psfFlux", "psfFluxErr")}
    return Table(PUBLISHED, {**fluxes, **trails, "ssObjectId": rows["ssObjectId"]})
