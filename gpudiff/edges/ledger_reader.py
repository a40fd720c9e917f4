"""Reading the ledger: for reports, beside the running writer, and as the writer's own eyes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.ledger_database import Rows, connect
from gpudiff.edges.ledger_tables import DIA_SOURCE, LAYOUT, VERSION, unpack, unpack_objects
from gpudiff.model.errors import StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.model.photometry import Light
from gpudiff.model.tables import DIAOBJECT, DIASOURCE, FORCED_SOURCE, Column, Table, concatenate

HISTORY_DAYS = 365.25
FRAME = "visit = ? AND snap = ? AND detector = ?"
IDS = "{IDS}"
LIVE = "withdrawn_at IS NULL"
SPAN = "diaSourceId BETWEEN ? AND ? AND snap = ?"
"""The DIASources of a frame."""


@dataclass(frozen=True)
class Standing:
    """What is stored of a frame.

    suspect : its alerts are held by the breaker
    latency_s : None while its alerts wait, or when its times are unknown
    """

    fingerprint: str
    revision: int
    sources: int
    known: int
    latency_s: float | None
    suspect: bool = False


@dataclass(frozen=True)
class Pending:
    """A frame's alerts that wait in the outbox: where they lie in the archive, and the schema they are in.

    held : why they must wait, '' when they may leave
    """

    seq: int
    frame: FrameId
    revision: int
    schema: str
    file: str
    offsets: np.ndarray
    lengths: np.ndarray
    held: str = ""


@dataclass(frozen=True)
class ArchiveFile:
    """A file of the alert archive; size : bytes up to which it holds alerts that count."""

    name: str
    visit: int
    schema: str
    size: int

    def grown(self, size: int) -> "ArchiveFile":
        """The same file with more in it."""
        return replace(self, size=size)


class LedgerReader:
    """A ledger to read.  Every method raises StoreFailed when it cannot be read."""

    def __init__(self, where: Path | str):
        """where : the file, or a postgresql:// URL; raises UnreadableFile when the file is not there."""
        self.where = where
        self._db = connect(where, write=False)
        self._check_version()

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def standing(self, frame: FrameId) -> Standing | None:
        """What is stored of a frame; None when nothing was committed."""
        rows = self._rows(
            "SELECT fingerprint, revision, sources, known, reference_tai, published_tai, suspect FROM detector"
            f" WHERE {FRAME} AND state = 'COMMITTED'",
            key(frame),
        )
        if not rows:
            return None
        fingerprint, revision, sources, known, start, end, suspect = rows[0]
        return Standing(fingerprint, revision, sources, known, _seconds(start, end), bool(suspect))

    def state(self, visit: int, snap: int | None = None, detector: int | None = None) -> str:
        """The state of a visit, or of one of its detectors; '' when nobody spoke of it."""
        if detector is None:
            rows = self._rows("SELECT state FROM visit WHERE visit = ?", (visit,))
        else:
            rows = self._rows(f"SELECT state FROM detector WHERE {FRAME}", (visit, snap, detector))
        return rows[0][0] if rows else ""

    # ------------------------------------------------------------ the known sky
    def objects(self) -> Table:
        """All DIAObjects that were not withdrawn, Table of model.tables.DIAOBJECT."""
        rows = self._rows(f"SELECT columns FROM dia_object WHERE {LIVE} ORDER BY diaObjectId")
        return unpack_objects([row[0] for row in rows]) if rows else Table.empty(DIAOBJECT)

    def history(self, objects: Sequence[int], frame: FrameId, mjd_tai: float) -> dict[int, list[bytes]]:
        """diaObjectId -> its stored diaSource records, in order of time: other frames', of 12 months.

        objects : ids; 0 (no object) has no history
        mjd_tai : from when the 12 months count back; NaN for all.
        """
        where = f"FROM dia_source WHERE diaObjectId {IDS} AND {LIVE} AND NOT ({SPAN})"
        return self._records(where, "diaSourceId", objects, span(frame), mjd_tai)

    def forced_history(self, objects: Sequence[int], mjd_tai: float) -> dict[int, list[bytes]]:
        """diaObjectId -> its stored diaForcedSource records, in order of time, of 12 months; see `history`."""
        where = f"FROM dia_forced_source WHERE diaObjectId {IDS} AND {LIVE}"
        return self._records(where, "visit", objects, (), mjd_tai)

    def _records(
        self, where: str, last: str, objects: Sequence[int], values: Sequence[Any], mjd_tai: float
    ) -> dict[int, list[bytes]]:
        """Records by object, in order of time and `last`, as the index has them."""
        since = -1e9 if np.isnan(mjd_tai) else mjd_tai - HISTORY_DAYS
        sql = f"SELECT diaObjectId, record {where} AND coalesce(midpointMjdTai, ?) >= ?"
        sql += f" ORDER BY diaObjectId, midpointMjdTai NULLS FIRST, {last}"
        found: dict[int, list[bytes]] = {}
        for one, record in self._rows(sql, (json.dumps([one for one in objects if one]), *values, since, since)):
            found.setdefault(one, []).append(record)
        return found

    def left_without(self, frame: FrameId) -> tuple[list[int], Table, np.ndarray, Light]:
        """The objects that a frame's present DIASources belong to, and what they have beside them.

        Returns the objects' ids; their other DIASources in order of time; object and light of each of those.
        """
        own = f"SELECT diaObjectId FROM dia_source WHERE {SPAN} AND {LIVE} AND diaObjectId > 0"
        ids = [row[0] for row in self._rows(own, span(frame))]
        rows = self._rows(
            f"SELECT diaSourceId, snap FROM dia_source WHERE diaObjectId {IDS} AND {LIVE} AND NOT ({SPAN})"
            " ORDER BY (midpointMjdTai IS NOT NULL), midpointMjdTai, diaSourceId",
            (json.dumps(ids), *span(frame)),
        )
        left = self._these(rows)
        light = Light(left["band"], left["fluxScale"])
        return ids, Table(DIASOURCE, {c.name: left[c.name] for c in DIASOURCE}), left["diaObjectId"], light

    def _these(self, rows: Rows) -> Table:
        """The DIASources of (id, snap), in that order, out of their frames' tables."""
        frames = sorted({(one >> 24, snap, one >> 16 & 0xFF) for one, snap in rows})
        tables = [self.batch_sources(FrameId(*frame)) for frame in frames]
        if not tables:
            return Table.empty(DIA_SOURCE)
        together = concatenate(tables)
        ids = together["diaSourceId"]
        order = np.argsort(ids)
        wanted = np.array([one for one, _ in rows], np.int64)
        return together.take(order[np.searchsorted(ids, wanted, sorter=order)])

    # ------------------------------------------------------------ the outbox and the archive
    def pending(self, after: int = 0, limit: int = 1000) -> list[Pending]:
        """The frames whose alerts wait to be published and may be, first come first."""
        return self._outbox("seq > ? AND held = '' ORDER BY seq LIMIT ?", (after, limit))

    def held(self, visit: int, detector: int | None = None) -> list[Pending]:
        """The frames of a visit (of one of its detectors) whose alerts are held for a rule."""
        which, values = ("", ()) if detector is None else ("AND detector = ?", (detector,))
        return self._outbox(f"visit = ? AND held NOT IN ('', 'dropped') {which} ORDER BY seq", (visit, *values))

    def _outbox(self, where: str, values: Sequence[Any]) -> list[Pending]:
        rows = self._rows(
            "SELECT seq, visit, snap, detector, revision, schema_fingerprint, file, offsets, lengths, held"
            f" FROM outbox WHERE {where}",
            values,
        )
        return [
            Pending(seq, FrameId(*frame), *names, _places(offsets), _places(lengths), why)
            for seq, *frame, revision, schema, file, offsets, lengths, why in rows
            for names in [(revision, schema, file)]
        ]

    def batch_sources(self, frame: FrameId, revision: int | None = None) -> Table:
        """The DIASources of one revision of a frame (None: the present one), Table of DIA_SOURCE."""
        what, values = (LIVE, ()) if revision is None else ("revision = ?", (revision,))
        rows = self._rows(f"SELECT sources FROM batch WHERE {FRAME} AND {what}", (*key(frame), *values))
        return unpack(rows[0][0], DIA_SOURCE) if rows else Table.empty(DIA_SOURCE)

    def source_records(self, frame: FrameId, revision: int) -> list[bytes]:
        """The encoded diaSource of each DIASource of a frame's revision, in the order of `batch_sources`."""
        sql = f"SELECT record FROM dia_source WHERE {SPAN} AND revision = ? ORDER BY diaSourceId"
        return [row[0] for row in self._rows(sql, (*span(frame), revision))]

    def alert_fingerprint(self, frame: FrameId, revision: int) -> str:
        """The provenance of a frame's alerts, up to and including them, hex."""
        where = f"FROM batch WHERE {FRAME} AND revision = ?"
        return self._rows(f"SELECT alert_fingerprint {where}", (*key(frame), revision))[0][0]

    def watermarks(self) -> dict[str, int]:
        """Up to which sequence number of the outbox each sink has everything."""
        return dict(self._rows("SELECT name, seq FROM sink"))

    def last_seq(self) -> int:
        """The highest sequence number given so far that is still to be seen; 0 when there is none."""
        return self._rows("SELECT coalesce(max(seq), 0) FROM outbox")[0][0]

    def schema(self, fingerprint: str) -> str:
        """The schema of stored alerts, JSON, by its fingerprint."""
        rows = self._rows("SELECT json FROM alert_schema WHERE fingerprint = ?", (fingerprint,))
        if not rows:
            raise StoreFailed(f"{self._db.name}: no alert schema {fingerprint}")
        return rows[0][0]

    def archive_file(self, name: str) -> ArchiveFile:
        """One file of the archive, by its name."""
        return self._archive_files("WHERE file = ?", name)[0]

    def all_archive_files(self) -> list[ArchiveFile]:
        """Every file of the archive."""
        return self._archive_files("ORDER BY file")

    def archive_files(self, visit: int) -> dict[str, ArchiveFile]:
        """The archive files of a visit, by the fingerprint of their schema."""
        return {one.schema: one for one in self._archive_files("WHERE visit = ?", visit)}

    def _archive_files(self, which: str, *values: Any) -> list[ArchiveFile]:
        sql = f"SELECT file, visit, schema_fingerprint, size FROM archive {which}"
        return [ArchiveFile(*row) for row in self._rows(sql, values)]

    # ------------------------------------------------------------ reports
    def visits(self) -> list[dict[str, Any]]:
        """One dict a visit: visit, state, detectors (committed ones), sources, known, new (or moving)."""
        names = ("visit", "state", "detectors", "sources", "known", "new")
        rows = self._rows(
            "SELECT v.visit, v.state, count(d.visit), coalesce(sum(d.sources), 0), coalesce(sum(d.known), 0),"
            " coalesce(sum(d.sources - d.known), 0)"
            " FROM visit v LEFT JOIN detector d ON d.visit = v.visit AND d.state = 'COMMITTED'"
            " GROUP BY v.visit, v.state ORDER BY v.visit"
        )
        return [dict(zip(names, (row[0], row[1], *map(int, row[2:])), strict=True)) for row in rows]

    def sources(self, visit: int | None = None) -> Table:
        """The DIASources of a visit (None: of all) that were not withdrawn.

        Table of ledger_tables.DIA_SOURCE: DIASOURCE and diaObjectId, kind, known, probability, revision ...
        """
        return self._batches("sources", visit, DIA_SOURCE)

    def forced(self, visit: int | None = None) -> Table:
        """The forced photometry of a visit (None: of all) that was not withdrawn: Table of FORCED_SOURCE."""
        return self._batches("forced", visit, FORCED_SOURCE)

    def outbox(self, after: int) -> dict[str, Any]:
        """What waits in the outbox behind a sequence number: frames, alerts, since_tai (MJD TAI, when the first of
        them was committed, None when nothing waits), and held, alerts that wait for a rule."""
        frames, alerts, held, since = self._rows(
            "SELECT coalesce(sum(CASE WHEN o.held = '' THEN 1 ELSE 0 END), 0),"
            " coalesce(sum(CASE WHEN o.held = '' THEN length(o.offsets) / 8 ELSE 0 END), 0),"
            " coalesce(sum(CASE WHEN o.held NOT IN ('', 'dropped') THEN length(o.offsets) / 8 ELSE 0 END), 0),"
            " min(CASE WHEN o.held = '' THEN d.committed_tai END)"
            " FROM outbox o LEFT JOIN detector d"
            " ON d.visit = o.visit AND d.snap = o.snap AND d.detector = o.detector WHERE o.seq > ?",
            (after,),
        )[0]
        return {"frames": int(frames), "alerts": int(alerts), "held": int(held), "since_tai": since}

    def waits(self, seqs: Sequence[int]) -> dict[int, tuple[float | None, float | None]]:
        """Of these numbers of the outbox, those still there: MJD TAI of the frame's commit, and of the start of
        its latency, None when nobody knows."""
        rows = self._rows(
            "SELECT o.seq, d.committed_tai, d.reference_tai FROM outbox o JOIN detector d"
            f" ON d.visit = o.visit AND d.snap = o.snap AND d.detector = o.detector WHERE o.seq {IDS}",
            (json.dumps(list(seqs)),),
        )
        return {seq: (committed, reference) for seq, committed, reference in rows}

    def committed_since(self, mjd_tai: float) -> dict[str, int]:
        """How many visits, frames and alerts were committed since a moment, MJD TAI."""
        rows = self._rows(
            "SELECT count(DISTINCT visit), count(*), coalesce(sum(sources), 0) FROM detector"
            " WHERE state = 'COMMITTED' AND committed_tai >= ?",
            (mjd_tai,),
        )
        return dict(zip(("visits", "frames", "alerts"), map(int, rows[0]), strict=True))

    def latencies(self, visit: int | None = None, since_tai: float | None = None) -> np.ndarray:
        """Seconds from the end of readout (or arrival) to publication, one value an alert; of a visit or all, or
        of what was committed since a moment, MJD TAI.

        Published is what the slowest sink has, or, without sinks, what is in the archive.  Alerts that still
        wait, or whose times nobody knew, are not among them.
        """
        where, values = ("", ()) if visit is None else ("AND visit = ?", (visit,))
        if since_tai is not None:
            where, values = f"{where} AND committed_tai >= ?", (*values, since_tai)
        rows = self._rows(
            "SELECT (published_tai - reference_tai) * 86400, sources FROM detector"
            f" WHERE published_tai IS NOT NULL AND reference_tai IS NOT NULL {where}"
            " ORDER BY visit, snap, detector",
            values,
        )
        return np.repeat([row[0] for row in rows], [row[1] for row in rows]).astype(float)

    def transitions(self, visit: int) -> list[dict[str, Any]]:
        """Every change of state of a visit and its detectors, in order; detector is None for the visit's."""
        names = ("seq", "visit", "snap", "detector", "before", "after", "at_tai", "reason")
        sql = "SELECT seq, visit, snap, detector, before_state, after_state, at_tai, reason FROM transition"
        rows = self._rows(f"{sql} WHERE visit = ? ORDER BY seq", (visit,))
        return [dict(zip(names, row, strict=True)) for row in rows]

    def detectors(self, visit: int) -> dict[tuple[int, int], str]:
        """(snap, detector) -> state, of all of a visit that anybody spoke of."""
        rows = self._rows("SELECT snap, detector, state FROM detector WHERE visit = ?", (visit,))
        return {(snap, detector): state for snap, detector, state in rows}

    def counts(self, visit: int) -> dict[str, int]:
        """Detectors that are ok, missing, failed, suspect, delayed; sources known, tonight, moving, new."""
        rows = self._rows("SELECT state, count(*) FROM detector WHERE visit = ? GROUP BY state", (visit,))
        states: dict[str, int] = dict(rows)
        sums = self._rows(
            "SELECT coalesce(sum(suspect), 0), coalesce(sum(is_delayed), 0), coalesce(sum(sources), 0),"
            " coalesce(sum(known - tonight), 0), coalesce(sum(tonight), 0), coalesce(sum(moving), 0),"
            " coalesce(sum(sources - known - moving), 0) FROM detector WHERE visit = ? AND state = 'COMMITTED'",
            (visit,),
        )[0]
        names = ("suspect", "delayed", "sources", "known", "tonight", "moving", "new")
        ok = {"ok": states.get("COMMITTED", 0), "missing": states.get("MISSING", 0)}
        return {**ok, "failed": states.get("FAILED", 0), **dict(zip(names, map(int, sums), strict=True))}

    def revised(self) -> np.ndarray:
        """(N, 2) int64: diaSourceId >> 16 and present revision of the frames that were committed again."""
        rows = self._rows("SELECT visit * 256 + detector, revision FROM detector WHERE revision > 0")
        return np.array(rows, np.int64).reshape(-1, 2)

    def waiting(self, visit: int) -> int:
        """How many frames of a visit have alerts that are still to reach a sink, held ones among them."""
        sql = "SELECT count(*) FROM outbox WHERE visit = ? AND held != 'dropped'"
        return self._rows(sql, (visit,))[0][0]

    def steps(self, fingerprint: str) -> list[dict[str, Any]]:
        """The provenance steps behind a fingerprint (hex), [] when it is not known here."""
        rows = self._rows("SELECT steps FROM provenance WHERE fingerprint = ?", (fingerprint,))
        return json.loads(rows[0][0]) if rows else []

    # ------------------------------------------------------------ the database
    def _check_version(self) -> None:
        version = self._db.version()
        if version != VERSION:
            raise StoreFailed(f"{self._db.name}: expected a ledger of version {VERSION}, got {version}")
        if self._rows("SELECT value FROM meta WHERE name = 'dia_object'")[0][0] != LAYOUT:
            raise StoreFailed(f"{self._db.name}: expected a ledger whose DIAObjects have this version's columns")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        return self._db.rows(sql, values)

    def _batches(self, column: str, visit: int | None, schema: tuple[Column, ...]) -> Table:
        """A column of packed tables put together, of a visit or of all."""
        where, values = ("", ()) if visit is None else ("AND visit = ?", (visit,))
        sql = f"SELECT {column} FROM batch WHERE {LIVE} {where} ORDER BY visit, detector, snap"
        tables = [unpack(row[0], schema) for row in self._rows(sql, values) if row[0] is not None]
        return concatenate(tables) if tables else Table.empty(schema)


def key(frame: FrameId) -> tuple[int, int, int]:
    """The frame as SQL parameters for FRAME."""
    return frame.visit, frame.snap, frame.detector


def span(frame: FrameId) -> tuple[int, int, int]:
    """The frame as SQL parameters for SPAN."""
    first = frame.visit << 24 | frame.detector << 16
    return first, first + 0xFFFF, frame.snap


def _places(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i8")


def _seconds(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else (end - start) * 86400
