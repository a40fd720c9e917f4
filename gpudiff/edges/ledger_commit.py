"""What frames change in the ledger, and the rows that it comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from gpudiff.edges.archive import Appended
from gpudiff.edges.ledger_reader import key
from gpudiff.edges.ledger_tables import DIA_SOURCE, OBJECT_COLUMNS, SOURCE_COLUMNS, pack, pack_objects
from gpudiff.model.association import MOVING, NEW, TONIGHT, Association
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import FORCED_SOURCE, Table, concatenate


@dataclass(frozen=True)
class Commit:
    """Everything one frame changes.

    fingerprint : provenance up to detection: what makes a repeat a repeat
    sources, association : the DIASources and what became of them
    records : the encoded diaSource of each
    file, appended : the archive file that has the frame's alerts, and where in it
    held : why the alerts must not leave yet, '' when they may
    withdrawn, rebuilt : ids of the objects that lose detections of the frame's earlier revision, and those of
        them that have others left, as they are without
    schema, schema_fingerprint : of the alerts, JSON and its digest; steps : behind `alert_fingerprint`
    reference_tai : start of the latency, NaN when unknown; now : MJD TAI
    forced, forced_records : Table of FORCED_SOURCE, and the encoded diaForcedSource of each row
    delayed : the frame came after it was given up; flux_scale : nJy in one image unit, 1 where nobody knows
    sky_trails : (2, N) float32, lengths and angles of trails as published; None where they are not kept
    """

    frame: FrameId
    fingerprint: str
    revision: int
    band: str
    sources: Table
    association: Association
    records: Sequence[bytes]
    file: str
    appended: Appended
    withdrawn: Sequence[int]
    rebuilt: Table
    schema: str
    schema_fingerprint: str
    alert_fingerprint: str
    steps: Sequence[dict[str, Any]]
    reference_tai: float
    now: float
    held: str = ""
    delayed: bool = False
    forced: Table = field(default_factory=lambda: Table.empty(FORCED_SOURCE))
    forced_records: Sequence[bytes] = ()
    flux_scale: float = 1.0
    sky_trails: np.ndarray | None = None


def outgoing(frames: Sequence[Commit], found: Association) -> Table:
    """The DIASources of frames with what became of all of them: Table of ledger_tables.DIA_SOURCE."""
    trails = np.concatenate([_sky_trails(what) for what in frames], axis=1)
    return Table(
        DIA_SOURCE,
        {
            **concatenate([what.sources for what in frames]).columns,
            "diaObjectId": found.object_ids,
            "kind": found.kind,
            "probability": found.probability,
            "revision": _each(frames, [what.revision for what in frames]),
            "band": _each(frames, [what.band for what in frames]),
            "nDiaSources": found.objects["nDiaSources"],
            "firstDiaSourceMjdTai": found.objects["firstDiaSourceMjdTai"],
            "known": found.known,
            "runnerUp": found.runner_up,
            "ssObjectId": found.ss_object_ids,
            "trackletId": found.tracklet_ids,
            "fluxScale": _each(frames, [what.flux_scale for what in frames]),
            "skyTrailLength": trails[0],
            "skyTrailAngle": trails[1],
        },
    )


def source_rows(frames: Sequence[Commit], table: Table) -> Iterator[tuple[Any, ...]]:
    """Rows of SOURCE_COLUMNS.  table : `outgoing` of the frames"""
    columns = [_values(table[name.replace("decl", "dec")]) for name in SOURCE_COLUMNS[:-1]]
    return zip(*columns, chain.from_iterable(what.records for what in frames), strict=True)


def batch_rows(frames: Sequence[Commit], table: Table) -> list[tuple[Any, ...]]:
    """A row of BATCH_COLUMNS for each frame.  table : `outgoing` of the frames"""
    packed = pack(table, [len(what.sources) for what in frames])
    forced = [pack(what.forced)[0] if len(what.forced) else None for what in frames]
    said = [(*key(what.frame), what.revision, what.alert_fingerprint) for what in frames]
    return [(*one, *tables) for one, *tables in zip(said, packed, forced, strict=True)]


def objects_of(frames: Sequence[Commit], found: Association) -> tuple[Table, Table]:
    """The DIAObjects that the frames' sources belong to: (those that may be stored already, new ones)."""
    first = _each(frames, [what.revision == 0 for what in frames])
    owned = found.object_ids > 0
    fresh = first & (found.kind == NEW)  # an earlier revision's objects may have had the same names
    return _taken(found.objects, owned & ~fresh), _taken(found.objects, owned & fresh)


def object_rows(objects: Table) -> Iterator[tuple[Any, ...]]:
    """Rows of OBJECT_COLUMNS."""
    columns = [_values(objects[name.replace("decl", "dec")]) for name in OBJECT_COLUMNS[:-1]]
    return zip(*columns, pack_objects(objects), strict=True)


def forced_rows(frame: FrameId, forced: Table, records: Sequence[bytes]) -> list[tuple[Any, ...]]:
    """Rows of FORCED_COLUMNS.  records : the encoded diaForcedSource of each"""
    columns = [_values(forced[name]) for name in ("diaObjectId", "midpointMjdTai")]
    return [(one, *key(frame), when, record) for one, when, record in zip(*columns, records, strict=True)]


def counts_of(what: Commit) -> dict[str, Any]:
    """A frame's columns in `detector`.  Of one without sources nothing is published: it is done at once."""
    reference = None if np.isnan(what.reference_tai) else what.reference_tai
    kind, count = what.association.kind, len(what.sources)
    return {
        "fingerprint": what.fingerprint,
        "revision": what.revision,
        "sources": count,
        "known": int(what.association.known.sum()),
        "tonight": int((kind == TONIGHT).sum()),
        "moving": int((kind == MOVING).sum()),
        "suspect": int(bool(what.held)),
        "is_delayed": int(what.delayed),
        "committed_tai": what.now,
        "reference_tai": reference,
        "published_tai": None if count else what.now,
    }


def _sky_trails(what: Commit) -> np.ndarray:
    return np.full((2, len(what.sources)), np.nan, "f4") if what.sky_trails is None else what.sky_trails


def _each(frames: Sequence[Commit], values: Sequence[Any]) -> np.ndarray:
    """A value of each frame, for each of its DIASources."""
    return np.repeat(np.array(values), [len(what.sources) for what in frames])


def _taken(table: Table, rows: np.ndarray) -> Table:
    """The rows of a mask; the table itself where that is all of them, which is usual."""
    return table if rows.all() else table.take(rows)


def _values(column: np.ndarray) -> list[Any]:
    """A column as Python values that both databases take: None for NaN, whole numbers for truth."""
    if column.dtype.kind == "f":
        return [None if value != value else value for value in column.tolist()]
    return column.astype(np.int64).tolist()
