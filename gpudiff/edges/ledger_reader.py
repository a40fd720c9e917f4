"""Reading the ledger: for reports, beside the running writer, and as the writer's own eyes."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.ledger_tables import DIA_SOURCE, VERSION
from gpudiff.model.errors import StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import DIAOBJECT, DIASOURCE, Column, Table

HISTORY_DAYS = 365.25
BUSY_S = 10.0
"""How long to wait for somebody else who holds the file (a backup, say) before it fails."""
FRAME = "visit = ? AND snap = ? AND detector = ?"
IDS = "IN (SELECT value FROM json_each(?))"
LIVE = "withdrawn_at IS NULL"


@dataclass(frozen=True)
class Standing:
    """What is stored of a frame.  latency_s : None while its alerts wait, or when its times are unknown."""

    fingerprint: str
    revision: int
    sources: int
    known: int
    latency_s: float | None


@dataclass(frozen=True)
class Pending:
    """An alert that waits in the outbox; schema : the fingerprint of the one it was written in."""

    seq: int
    visit: int
    schema: str
    alert: bytes


@dataclass(frozen=True)
class ArchiveFile:
    """A file of the alert archive; size : bytes up to which it holds alerts that left the outbox."""

    name: str
    visit: int
    schema: str
    size: int

    def grown(self, size: int) -> "ArchiveFile":
        """The same file with more in it."""
        return replace(self, size=size)


class LedgerReader:
    """A ledger to read.  Every method raises StoreFailed when the file cannot be read."""

    def __init__(self, path: Path):
        """Raises StoreFailed when there is no ledger at `path`."""
        if not path.is_file():
            raise StoreFailed(f"{path}: expected a ledger, there is none")
        self.path = path
        with self._failing():
            self._db = self._open()
            self._check_version()

    def close(self) -> None:
        """Close the file."""
        with self._failing():
            self._db.close()

    def standing(self, frame: FrameId) -> Standing | None:
        """What is stored of a frame; None when nothing was committed."""
        rows = self._rows(f"SELECT * FROM detector WHERE {FRAME} AND state = 'COMMITTED'", key(frame))
        if not rows:
            return None
        row = rows[0]
        latency = _seconds(row["reference_tai"], row["published_tai"])
        return Standing(row["fingerprint"], row["revision"], row["sources"], row["known"], latency)

    def state(self, visit: int, snap: int | None = None, detector: int | None = None) -> str:
        """The state of a visit, or of one of its detectors; '' when nobody spoke of it."""
        if detector is None:
            rows = self._rows("SELECT state FROM visit WHERE visit = ?", (visit,))
        else:
            rows = self._rows(f"SELECT state FROM detector WHERE {FRAME}", (visit, snap, detector))
        return rows[0]["state"] if rows else ""

    # ------------------------------------------------------------ the known sky
    def objects(self) -> Table:
        """All DIAObjects that were not withdrawn, Table of model.tables.DIAOBJECT."""
        return self._table(DIAOBJECT, f"FROM dia_object WHERE {LIVE} ORDER BY diaObjectId", ())

    def history(self, objects: Sequence[int], frame: FrameId, mjd_tai: float) -> dict[int, list[bytes]]:
        """diaObjectId -> its stored diaSource records, in order of time: other frames', of 12 months.

        objects : ids; 0 (no object) has no history
        mjd_tai : from when the 12 months count back; NaN for all.
        """
        since = None if np.isnan(mjd_tai) else mjd_tai - HISTORY_DAYS
        found: dict[int, list[bytes]] = {}
        for row in self._rows(
            f"SELECT diaObjectId, record FROM dia_source WHERE diaObjectId {IDS} AND {LIVE} AND NOT ({FRAME})"
            " AND (? IS NULL OR midpointMjdTai IS NULL OR midpointMjdTai >= ?)"
            " ORDER BY midpointMjdTai, diaSourceId",
            (json.dumps([one for one in objects if one]), *key(frame), since, since),
        ):
            found.setdefault(row["diaObjectId"], []).append(row["record"])
        return found

    def left_without(self, frame: FrameId) -> tuple[list[int], Table, np.ndarray]:
        """The objects that a frame's present DIASources belong to, and what they have beside them.

        Returns the objects' ids; their other DIASources in order of time; and the object of each of those.
        """
        own = f"SELECT diaObjectId FROM dia_source WHERE {FRAME} AND {LIVE} AND diaObjectId > 0"
        ids = [row["diaObjectId"] for row in self._rows(own, key(frame))]
        left = self._table(
            DIA_SOURCE,
            f"FROM dia_source WHERE diaObjectId {IDS} AND {LIVE} AND NOT ({FRAME})"
            " ORDER BY midpointMjdTai, diaSourceId",
            (json.dumps(ids), *key(frame)),
        )
        return ids, Table(DIASOURCE, {c.name: left[c.name] for c in DIASOURCE}), left["diaObjectId"]

    # ------------------------------------------------------------ the outbox and the archive
    def pending(self, limit: int = 1000) -> list[Pending]:
        """The alerts that wait to be published, first come first."""
        rows = self._rows("SELECT seq, visit, schema, alert FROM outbox ORDER BY seq LIMIT ?", (limit,))
        return [Pending(*row) for row in rows]

    def schema(self, fingerprint: str) -> str:
        """The schema of stored alerts, JSON, by its fingerprint."""
        rows = self._rows("SELECT schema FROM alert_schema WHERE fingerprint = ?", (fingerprint,))
        if not rows:
            raise StoreFailed(f"{self.path}: no alert schema {fingerprint}")
        return rows[0]["schema"]

    def archive_files(self, visit: int) -> dict[str, ArchiveFile]:
        """The archive files of a visit, by the fingerprint of their schema."""
        rows = self._rows("SELECT file, visit, schema, size FROM archive WHERE visit = ?", (visit,))
        return {row["schema"]: ArchiveFile(*row) for row in rows}

    # ------------------------------------------------------------ reports
    def visits(self) -> list[dict[str, Any]]:
        """One dict a visit: visit, state, detectors (committed ones), sources, known, new."""
        rows = self._rows(
            "SELECT v.visit, v.state, count(d.visit) AS detectors, coalesce(sum(d.sources), 0) AS sources,"
            " coalesce(sum(d.known), 0) AS known, coalesce(sum(d.sources - d.known), 0) AS new"
            " FROM visit v LEFT JOIN detector d ON d.visit = v.visit AND d.state = 'COMMITTED'"
            " GROUP BY v.visit ORDER BY v.visit",
            (),
        )
        return [dict(row) for row in rows]

    def sources(self, visit: int | None = None) -> Table:
        """The DIASources of a visit (None: of all) that were not withdrawn.

        Table of ledger_tables.DIA_SOURCE: DIASOURCE and diaObjectId, known, runnerUp, probability, revision.
        """
        where = f"FROM dia_source WHERE {LIVE} AND (? IS NULL OR visit = ?) ORDER BY diaSourceId"
        return self._table(DIA_SOURCE, where, (visit, visit))

    def latencies(self, visit: int | None = None) -> np.ndarray:
        """Seconds from the end of readout (or arrival) to publication, one value an alert; of a visit or all.

        Alerts that still wait, or whose times nobody knew, are not among them.
        """
        rows = self._rows(
            "SELECT (published_tai - reference_tai) * 86400 AS seconds, sources FROM detector"
            " WHERE (? IS NULL OR visit = ?) AND published_tai IS NOT NULL AND reference_tai IS NOT NULL"
            " ORDER BY visit, snap, detector",
            (visit, visit),
        )
        return np.repeat([row["seconds"] for row in rows], [row["sources"] for row in rows]).astype(float)

    def transitions(self, visit: int) -> list[dict[str, Any]]:
        """Every change of state of a visit and its detectors, in order; detector is None for the visit's."""
        rows = self._rows("SELECT * FROM transition WHERE visit = ? ORDER BY seq", (visit,))
        return [dict(row) for row in rows]

    def steps(self, fingerprint: str) -> list[dict[str, Any]]:
        """The provenance steps behind a fingerprint (hex), [] when it is not known here."""
        rows = self._rows("SELECT steps FROM provenance WHERE fingerprint = ?", (fingerprint,))
        return json.loads(rows[0]["steps"]) if rows else []

    # ------------------------------------------------------------ SQLite
    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, BUSY_S, isolation_level=None)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA query_only = ON")
        return db

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version != VERSION:
            raise StoreFailed(f"{self.path}: expected a ledger of version {VERSION}, got {version}")

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreFailed(f"{self.path}: {error}") from None

    def _rows(self, sql: str, values: Sequence[Any]) -> list[sqlite3.Row]:
        with self._failing():
            return self._db.execute(sql, values).fetchall()

    def _table(self, schema: tuple[Column, ...], sql: str, values: Sequence[Any]) -> Table:
        rows = self._rows(f"SELECT {', '.join(c.name for c in schema)} {sql}", values)
        columns = zip(*rows, strict=True) if rows else [()] * len(schema)
        pairs = zip(schema, columns, strict=True)
        return Table(schema, {c.name: np.array(column, dtype=c.dtype) for c, column in pairs})


def key(frame: FrameId) -> tuple[int, int, int]:
    """The frame as SQL parameters for FRAME."""
    return frame.visit, frame.snap, frame.detector


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 86400
