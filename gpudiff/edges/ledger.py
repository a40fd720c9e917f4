"""The ledger: what was detected, what it belongs to, and which alerts are still to be published.

One SQLite file, one writer.  Everything that one frame changes is one transaction: its DIASources, the
DIAObjects they touch, its alerts in the outbox, its state.  So after a crash a frame is in the ledger whole
or not at all, and an alert is in the outbox if and only if its DIASource was just stored.

Journal WAL, synchronous FULL: a commit is on disk when it returns, because the frame's sender is then told
that it may forget the frame.  NORMAL would survive a crash of the program, but not of the machine.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.ledger_reader import BUSY_S, FRAME, IDS, LIVE, ArchiveFile, LedgerReader, key
from gpudiff.edges.ledger_tables import CREATE, DIA_SOURCE, VERSION, insert
from gpudiff.model import states
from gpudiff.model.association import Association
from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import DIAOBJECT, Table


@dataclass(frozen=True)
class Commit:
    """Everything one frame changes.

    fingerprint : provenance up to detection: what makes a repeat a repeat
    sources, association : the DIASources and what became of them
    records : the encoded diaSource of each; alerts : the encoded alert of each, made as they are stored
    withdrawn, rebuilt : ids of the objects that lose detections of the frame's earlier revision, and those of
        them that have others left, as they are without
    schema, schema_fingerprint : of the alerts, JSON and its digest; steps : behind `alert_fingerprint`
    reference_tai : start of the latency, NaN when unknown; now : MJD TAI
    """

    frame: FrameId
    fingerprint: str
    revision: int
    band: str
    sources: Table
    association: Association
    records: Sequence[bytes]
    alerts: Iterable[bytes]
    withdrawn: Sequence[int]
    rebuilt: Table
    schema: str
    schema_fingerprint: str
    alert_fingerprint: str
    steps: Sequence[dict[str, Any]]
    reference_tai: float
    now: float


class Ledger(LedgerReader):
    """The ledger of the one program that writes it; made when it is not there.

    Every method raises StoreFailed when the file cannot be read or written (a full disk, a lock that does not
    go away); the transaction is then undone.
    """

    def __init__(self, path: Path):
        self.path = path
        with self._failing():
            self._db = self._open()
            if self._db.execute("PRAGMA user_version").fetchone()[0] == 0:
                self._create()
            self._check_version()

    # ------------------------------------------------------------ frames
    def commit(self, what: Commit) -> None:
        """Store everything one frame changes, in one transaction.

        An earlier revision's DIASources stay, marked as withdrawn.  Raises BadMessage when a diaSourceId is
        taken by another frame, or the visit is sealed; then nothing is changed.
        """
        with self._transaction():
            self._move_visit(what.frame.visit, "COLLECTING", what.now, "frame")
            self._move_detector(what.frame, "COMMITTED", what.now, what.fingerprint)
            self._withdraw(what)
            self._store_objects(what)
            self._store_sources(what)
            self._store_alerts(what)
            self._store_counts(what)

    def move_detector(self, frame: FrameId, state: str, now: float, reason: str = "") -> None:
        """Write a detector's change of state; raises BadMessage when it cannot follow the present one."""
        with self._transaction():
            self._move_detector(frame, state, now, reason)

    def move_visit(self, visit: int, state: str, now: float, reason: str = "") -> None:
        """Write a visit's change of state; raises BadMessage when it cannot follow the present one."""
        with self._transaction():
            self._move_visit(visit, state, now, reason)

    def new_archive_file(self, file: ArchiveFile) -> None:
        """Note that a file is about to be made: from now on what it holds beyond its size may be cut off."""
        with self._transaction() as db:
            db.execute(insert("archive", 5), (file.name, file.visit, file.schema, file.size, 0))

    def published(self, seqs: Sequence[int], file: ArchiveFile, now: float) -> None:
        """Take alerts out of the outbox: `file` holds them, synced, within its first `file.size` bytes."""
        taken = (json.dumps(list(seqs)),)
        with self._transaction() as db:
            frames = db.execute(f"SELECT DISTINCT visit, snap, detector FROM outbox WHERE seq {IDS}", taken)
            changes = [(now, *frame) for frame in frames.fetchall()]
            db.executemany(f"UPDATE detector SET published_tai = ? WHERE {FRAME}", changes)
            db.execute(f"DELETE FROM outbox WHERE seq {IDS}", taken)
            db.execute(
                "UPDATE archive SET size = ?, alerts = alerts + ? WHERE file = ?",
                (file.size, len(seqs), file.name),
            )

    # ------------------------------------------------------------ parts of a transaction
    def _move_visit(self, visit: int, state: str, now: float, reason: str) -> None:
        before = self.state(visit)
        if before == state:
            return
        states.check(states.VISIT, f"visit {visit}", before, state)
        self._db.execute("INSERT OR REPLACE INTO visit VALUES (?, ?)", (visit, state))
        self._note((visit, None, None), before, state, now, reason)

    def _move_detector(self, frame: FrameId, state: str, now: float, reason: str) -> None:
        before = self.state(*key(frame))
        states.check(states.DETECTOR, f"detector {frame}", before, state)
        self._db.execute(
            "INSERT INTO detector (visit, snap, detector, state) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (visit, snap, detector) DO UPDATE SET state = excluded.state",
            (*key(frame), state),
        )
        self._note(key(frame), before, state, now, reason)

    def _note(self, who: tuple[int | None, ...], before: str, after: str, now: float, reason: str) -> None:
        self._db.execute(insert("transition", 8), (None, *who, before, after, now, reason))

    def _withdraw(self, what: Commit) -> None:
        self._db.execute(
            f"UPDATE dia_source SET withdrawn_at = ? WHERE {FRAME} AND {LIVE}", (what.now, *key(what.frame))
        )
        self._db.execute(
            f"UPDATE dia_object SET withdrawn_at = ? WHERE diaObjectId {IDS}",
            (what.now, json.dumps(list(what.withdrawn))),
        )

    def _store_objects(self, what: Commit) -> None:
        for objects in (what.rebuilt, what.association.stored_objects):
            rows = zip(*_lists(objects), [None] * len(objects), strict=True)
            self._db.executemany(insert("dia_object", len(DIAOBJECT) + 1, "INSERT OR REPLACE"), rows)

    def _store_sources(self, what: Commit) -> None:
        count, found = len(what.sources), what.association
        rows = zip(
            *_lists(what.sources),
            found.object_ids.tolist(),
            found.known.tolist(),
            found.runner_up.tolist(),
            found.probability.tolist(),
            [what.revision] * count,
            [what.band] * count,
            [None] * count,
            what.records,
            strict=True,
        )
        try:
            self._db.executemany(insert("dia_source", len(DIA_SOURCE) + 3), rows)
        except sqlite3.IntegrityError:
            raise BadMessage(f"detections {what.frame}: a diaSourceId is taken by another frame") from None

    def _store_alerts(self, what: Commit) -> None:
        schema = (what.schema_fingerprint, what.schema)
        self._db.execute(insert("alert_schema", 2, "INSERT OR IGNORE"), schema)
        steps = (what.alert_fingerprint, json.dumps(list(what.steps)))
        self._db.execute(insert("provenance", 2, "INSERT OR IGNORE"), steps)
        ids = what.sources["diaSourceId"].tolist()
        rows = (
            (None, *key(what.frame), dia_source_id, what.revision, what.schema_fingerprint, alert)
            for dia_source_id, alert in zip(ids, what.alerts, strict=True)
        )
        self._db.executemany(insert("outbox", 8), rows)

    def _store_counts(self, what: Commit) -> None:
        """Of a frame without sources nothing is published: it is done at once."""
        reference = None if np.isnan(what.reference_tai) else what.reference_tai
        count, known = len(what.sources), int(what.association.known.sum())
        published = None if count else what.now
        self._db.execute(
            "UPDATE detector SET fingerprint = ?, revision = ?, sources = ?, known = ?, committed_tai = ?,"
            f" reference_tai = ?, published_tai = ? WHERE {FRAME}",
            (
                what.fingerprint,
                what.revision,
                count,
                known,
                what.now,
                reference,
                published,
                *key(what.frame),
            ),
        )

    # ------------------------------------------------------------ SQLite
    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, BUSY_S, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA page_size = 16384")  # an alert is 33 kB: fewer pages to chain and to free
        db.execute("PRAGMA secure_delete = OFF")  # published alerts need not be overwritten with zeros
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        return db

    def _create(self) -> None:
        with self._transaction() as db:
            for statement in CREATE:
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing: what happens inside is undone when anything fails."""
        with self._failing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _lists(table: Table) -> list[list[Any]]:
    """The columns as lists of Python values; SQLite stores NaN as NULL."""
    return [column.tolist() for column in table.columns.values()]
