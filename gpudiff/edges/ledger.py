"""The ledger: what was detected, what it belongs to, and which alerts are still to be published.

One writer.  Everything that one frame changes is one part of a transaction: its DIASources, the DIAObjects they
touch, where its alerts lie in the archive, its state; several frames that wait share a transaction.  So after a
crash a frame is in the ledger whole or not at all.  The alerts themselves are in the archive alone, synced there
before the transaction is committed: what the archive holds beyond the size that the ledger knows is cut off.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.ledger_commit import (
    Commit,
    batch_rows,
    counts_of,
    forced_rows,
    object_rows,
    objects_of,
    outgoing,
    source_rows,
)
from gpudiff.edges.ledger_database import Taken, connect
from gpudiff.edges.ledger_reader import FRAME, IDS, LIVE, SPAN, ArchiveFile, LedgerReader, key, span
from gpudiff.edges.ledger_tables import (
    BATCH_COLUMNS,
    CREATE,
    FORCED_COLUMNS,
    INDEXES,
    LAYOUT,
    OBJECT_COLUMNS,
    SOURCE_COLUMNS,
    VERSION,
    pack,
)
from gpudiff.model import states
from gpudiff.model.association import Association, together
from gpudiff.model.errors import BadMessage, StoreFailed
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import Table

DROPPED = "dropped"
"""Why alerts are held that shall never leave; the archive has them."""


@dataclass(frozen=True)
class Delivered:
    """How far a sink is: it has everything up to `seq` since `at_tai`, but for what it refused.

    refused : (diaSourceId, revision, reason) of alerts it never took
    """

    sink: str
    seq: int
    at_tai: float
    refused: Sequence[tuple[int, int, str]] = ()


@dataclass(frozen=True)
class Published:
    """A frame whose alerts have left: how many, when their latency began (None: unknown) and ended, MJD TAI."""

    visit: int
    alerts: int
    reference_tai: float | None
    at_tai: float


class Ledger(LedgerReader):
    """The ledger of the one program that writes it; made when it is not there.

    Every method raises StoreFailed when it cannot be read or written (a full disk, a lock that does not go away);
    the transaction is then undone.
    """

    def __init__(self, where: Path | str):
        self.where = where
        self._db = connect(where, write=True)
        self._inside = False
        self._stored: set[tuple[str, str]] = set()  # what need not be looked up again
        self._when: dict[int, float] = {}  # when the last sink so far had a place of the outbox, MJD TAI
        if self._db.version() == 0:
            self._create()
        self._check_version()
        for statement in (*INDEXES, *self._db.GIVEN_UP):
            self._db.run(statement)

    def rest(self) -> None:
        """Do now what would hold up a later transaction: to be called when no frame comes, outside of one."""
        self._db.rest()

    # ------------------------------------------------------------ transactions
    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: what happens inside is undone when anything fails.

        Inside another one it is a part of that: it can be undone alone, and is on disk when the outer one ends.
        """
        outer = not self._inside
        begin, end, undo = ("", "COMMIT", ["ROLLBACK"]) if outer else PART
        if outer:
            self._db.begin()
        else:
            self._db.run(begin)
        self._inside = True
        try:
            yield
            self._inside = not outer
            self._db.run(end)
        except BaseException:
            self._inside = not outer
            self._undo(undo)
            raise

    def _undo(self, statements: Sequence[str]) -> None:
        self._stored.clear()
        with suppress(StoreFailed):  # a full disk has undone it by itself
            for statement in statements:
                self._db.run(statement)

    # ------------------------------------------------------------ frames
    def commit(self, *frames: Commit) -> None:
        """Store everything that frames change; several at once where no DIAObject is told of by two of them.

        An earlier revision's DIASources stay, marked as withdrawn; alerts of it that are held are dropped.  Raises
        BadMessage when a diaSourceId is taken by another frame, or the visit is sealed; then nothing is changed.
        """
        with self.transaction():
            for what in frames:
                self._move_visit(what.frame.visit, "COLLECTING", what.now, "frame")
                self._move_detector(what.frame, "COMMITTED", what.now, what.fingerprint)
                self._withdraw(what)
                self._replace_objects(what.rebuilt)
            found = together([what.association for what in frames])
            try:
                self._store_sources(frames, found)
                self._store_objects(frames, found)
                for what in frames:
                    self._store_forced(what.frame, what.forced, what.forced_records)
            except Taken:
                names = ", ".join(str(what.frame) for what in frames)
                said = "an id is taken by another frame; ids do not hold the snap: one visit number an exposure"
                raise BadMessage(f"detections {names}: {said}") from None
            self._store_alerts(frames)
            for what in frames:
                self._store_counts(what)

    def make_up(self, what: MadeUp, records: Sequence[bytes]) -> bool:
        """Store the forced photometry of a frame that was committed without it; whether that is new.

        records : the encoded diaForcedSource of each row.  A repeat changes nothing.  Raises BadMessage when the
        frame is not committed under this fingerprint: it is not, any more or not yet, the same frame.
        """
        with self.transaction():
            stored = self.standing(what.frame)
            if stored is None or stored.fingerprint != what.fingerprint:
                raise BadMessage(
                    f"forced {what.frame}: expected a frame that is committed under {what.fingerprint or 'none'},"
                    f" got {stored.fingerprint if stored else 'none'}"
                )
            if not len(what.forced) or self._has_forced(what.frame):
                return False
            self._db.run(
                f"UPDATE batch SET forced = ? WHERE {FRAME} AND {LIVE}", (*pack(what.forced), *key(what.frame))
            )
            self._store_forced(what.frame, what.forced, records)
        return True

    def move_detector(self, frame: FrameId, state: str, now: float, reason: str = "") -> None:
        """Write a detector's change of state; raises BadMessage when it cannot follow the present one."""
        with self.transaction():
            self._move_detector(frame, state, now, reason)

    def move_visit(self, visit: int, state: str, now: float, reason: str = "") -> None:
        """Write a visit's change of state; raises BadMessage when it cannot follow the present one."""
        with self.transaction():
            self._move_visit(visit, state, now, reason)

    def expect(self, visit: int, readout_end_tai: float) -> None:
        """Note when the readout of a visit ends, MJD TAI; the visit has a state already."""
        with self.transaction():
            self._db.run("UPDATE visit SET readout_end_tai = ? WHERE visit = ?", (readout_end_tai, visit))

    def summarise(self, visit: int, summary: dict[str, Any]) -> None:
        """Keep the summary of a closed visit beside it."""
        with self.transaction():
            self._db.run("UPDATE visit SET summary = ? WHERE visit = ?", (json.dumps(summary), visit))

    def new_archive_file(self, file: ArchiveFile) -> None:
        """Note that a file is about to be made: from now on what it holds beyond its size may be cut off."""
        with self.transaction():
            columns = ("file", "visit", "schema_fingerprint", "size", "alerts")
            self._db.insert("archive", columns, [(file.name, file.visit, file.schema, file.size, 0)])

    # ------------------------------------------------------------ the outbox
    def delivered(self, done: Sequence[Delivered], sinks: Sequence[str], now: float) -> list[Published]:
        """Note how far sinks are; what all of `sinks` have, or, without any, the archive, is published and leaves
        the outbox: those frames.  Writes nothing where there is nothing to note."""
        if not (done or self._left_over(self._slowest(sinks))):
            return []
        with self.transaction():
            for one in done:
                self._db.run("DELETE FROM sink WHERE name = ?", (one.sink,))
                self._db.insert("sink", ("name", "seq"), [(one.sink, one.seq)])
                columns = ("sink", "diaSourceId", "revision", "reason", "at_tai")
                rows = [(one.sink, *what, one.at_tai) for what in one.refused]
                self._db.insert("dead_alert", columns, rows)
            for one in done:
                self._when[one.seq] = max(one.at_tai, self._when.get(one.seq, one.at_tai))
            return self._publish(self._slowest(sinks), max((one.at_tai for one in done), default=now))

    def _slowest(self, sinks: Sequence[str]) -> int:
        """Up to which number of the outbox all of them have everything; its last one without any."""
        marks = self.watermarks()
        return min((marks.get(name, 0) for name in sinks), default=self.last_seq())

    def _left_over(self, seq: int) -> bool:
        """Whether up to this number of the outbox anything may leave."""
        return bool(self._rows("SELECT 1 FROM outbox WHERE seq <= ? AND held = '' LIMIT 1", (seq,)))

    def _publish(self, seq: int, at_tai: float) -> list[Published]:
        """at_tai : for frames of which nobody said when the last of the sinks had them"""
        sql = "SELECT seq, visit, snap, detector FROM outbox WHERE seq <= ? AND held = '' ORDER BY seq"
        frames = {tuple(frame): self._when.get(one, at_tai) for one, *frame in self._rows(sql, (seq,))}
        change = f"UPDATE detector SET published_tai = ? WHERE {FRAME} RETURNING sources, reference_tai"
        left = [
            Published(frame[0], alerts, reference_tai, when)
            for frame, when in frames.items()
            for alerts, reference_tai in self._rows(change, (when, *frame))
        ]
        if frames:
            self._db.run("DELETE FROM outbox WHERE seq <= ? AND held = ''", (seq,))
        self._when = {one: when for one, when in self._when.items() if one > seq}
        return left

    def release(self, visit: int, detector: int | None, drop: bool, now: float) -> int:
        """Let held alerts of a visit (of one of its detectors) go, or drop them; how many frames that were.

        Released ones join the end of the outbox.  Dropped ones stay, marked: the archive has their alerts.
        """
        with self.transaction():
            held = self.held(visit, detector)
            for one in held:
                if drop:
                    self._db.run("UPDATE outbox SET held = ? WHERE seq = ?", (DROPPED, one.seq))
                else:
                    self._db.run("DELETE FROM outbox WHERE seq = ?", (one.seq,))
                    self._wait([(one.frame, one.revision, one.schema, one.file, one.offsets, one.lengths, "")])
                word = "dropped" if drop else "released"
                self._note(key(one.frame), "COMMITTED", "COMMITTED", now, f"alerts {word}")
        return len(held)

    def _wait(self, frames: Sequence[tuple[Any, ...]]) -> None:
        """Let the alerts of frames join the outbox: each a frame, its revision, schema, file, offsets and lengths
        in it, and why they are held."""
        columns = ("visit", "snap", "detector", "revision", "schema_fingerprint", "file", "offsets", "lengths")
        rows = [
            (*key(frame), *names, _bytes(offsets), _bytes(lengths), held)
            for frame, *names, offsets, lengths, held in frames
        ]
        self._db.insert("outbox", (*columns, "held"), rows)

    # ------------------------------------------------------------ parts of a transaction
    def _move_visit(self, visit: int, state: str, now: float, reason: str) -> None:
        before = self.state(visit)
        if before == state:
            return
        states.check(states.VISIT, f"visit {visit}", before, state)
        if before:
            self._db.run("UPDATE visit SET state = ? WHERE visit = ?", (state, visit))
        else:
            self._db.insert("visit", ("visit", "state"), [(visit, state)])
        self._note((visit, None, None), before, state, now, reason)

    def _move_detector(self, frame: FrameId, state: str, now: float, reason: str) -> None:
        before = self.state(*key(frame))
        states.check(states.DETECTOR, f"detector {frame}", before, state)
        if before:
            self._db.run(f"UPDATE detector SET state = ? WHERE {FRAME}", (state, *key(frame)))
        else:
            self._db.insert("detector", ("visit", "snap", "detector", "state"), [(*key(frame), state)])
        self._note(key(frame), before, state, now, reason)

    def _note(self, who: tuple[int | None, ...], before: str, after: str, now: float, reason: str) -> None:
        columns = ("visit", "snap", "detector", "before_state", "after_state", "at_tai", "reason")
        self._db.insert("transition", columns, [(*who, before, after, now, reason)])

    def _withdraw(self, what: Commit) -> None:
        if what.revision:
            now, frame = what.now, what.frame
            self._db.run(f"UPDATE dia_source SET withdrawn_at = ? WHERE {SPAN} AND {LIVE}", (now, *span(frame)))
            for table in ("batch", "dia_forced_source"):
                self._db.run(f"UPDATE {table} SET withdrawn_at = ? WHERE {FRAME} AND {LIVE}", (now, *key(frame)))
            self._db.run(f"UPDATE outbox SET held = ? WHERE {FRAME} AND held != ''", (DROPPED, *key(frame)))
        if len(what.withdrawn):
            ids = json.dumps(list(what.withdrawn))
            self._db.run(f"UPDATE dia_object SET withdrawn_at = ? WHERE diaObjectId {IDS}", (what.now, ids))

    def _store_objects(self, frames: Sequence[Commit], found: Association) -> None:
        changed, fresh = objects_of(frames, found)
        self._replace_objects(changed)
        self._insert_objects(fresh)

    def _replace_objects(self, objects: Table) -> None:
        if len(objects):
            ids = json.dumps(objects["diaObjectId"].tolist())
            self._db.run(f"DELETE FROM dia_object WHERE diaObjectId {IDS}", (ids,))
            self._insert_objects(objects)

    def _insert_objects(self, objects: Table) -> None:
        self._db.insert("dia_object", OBJECT_COLUMNS, object_rows(objects))

    def _store_sources(self, frames: Sequence[Commit], found: Association) -> None:
        table = outgoing(frames, found)
        self._db.insert("dia_source", SOURCE_COLUMNS, source_rows(frames, table))
        self._db.insert("batch", BATCH_COLUMNS, batch_rows(frames, table))

    def _has_forced(self, frame: FrameId) -> bool:
        where = f"{FRAME} AND {LIVE} AND forced IS NOT NULL"
        return bool(self._rows(f"SELECT 1 FROM batch WHERE {where}", key(frame)))

    def _store_forced(self, frame: FrameId, forced: Table, records: Sequence[bytes]) -> None:
        if len(forced):
            self._db.insert("dia_forced_source", FORCED_COLUMNS, forced_rows(frame, forced, records))

    def _store_alerts(self, frames: Sequence[Commit]) -> None:
        waiting, grown = list[tuple[Any, ...]](), dict[str, tuple[int, int]]()
        for what in frames:
            self._store_once("alert_schema", "json", what.schema_fingerprint, what.schema)
            self._store_once("provenance", "steps", what.alert_fingerprint, json.dumps(list(what.steps)))
            places = what.appended.offsets, what.appended.lengths
            if len(what.sources) or what.revision:  # a revision without alerts withdraws those before it
                waiting.append((what.frame, what.revision, what.schema_fingerprint, what.file, *places, what.held))
            if not len(what.sources):
                continue
            before = grown.get(what.file, (0, 0))[1]
            grown[what.file] = what.appended.size, before + len(what.sources)
        self._wait(waiting)
        for file, (size, alerts) in grown.items():
            self._db.run("UPDATE archive SET size = ?, alerts = alerts + ? WHERE file = ?", (size, alerts, file))

    def _store_once(self, table: str, column: str, fingerprint: str, value: str) -> None:
        if (table, fingerprint) in self._stored:
            return
        if not self._rows(f"SELECT 1 FROM {table} WHERE fingerprint = ?", (fingerprint,)):
            self._db.insert(table, ("fingerprint", column), [(fingerprint, value)])
        self._stored.add((table, fingerprint))

    def _store_counts(self, what: Commit) -> None:
        counts = counts_of(what)
        changes = ", ".join(f"{name} = ?" for name in counts)
        self._db.run(f"UPDATE detector SET {changes} WHERE {FRAME}", (*counts.values(), *key(what.frame)))

    def _create(self) -> None:
        with self.transaction():
            self._db.create(CREATE)
            rows = [("version", str(VERSION)), ("dia_object", LAYOUT)]
            self._db.insert("meta", ("name", "value"), rows)


PART = ("SAVEPOINT part", "RELEASE SAVEPOINT part", ["ROLLBACK TO SAVEPOINT part", "RELEASE SAVEPOINT part"])


def _bytes(places: np.ndarray) -> bytes:
    return places.astype("<i8").tobytes()
