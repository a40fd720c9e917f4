"""The ledger's tables: columns that are searched, and beside them whole tables of columns as bytes.

A frame's DIASources are one Arrow table in `batch`, read back whole for reports, publishing and revisions; a row
of `dia_source` has only what is looked up singly.  A DIAObject is a packed row of model.tables.DIAOBJECT beside
what it is searched by.  A dia_source's frame is in its id: visit << 24 | detector << 16 | n.  The indexes by
object are in a history's order, so that it need not be sorted; older ledgers' have the object alone, and do too.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from gpudiff.model.outgoing import OUTGOING
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.tables import DIAOBJECT, Column, Table

VERSION = 3
"""Of the tables below."""

DIA_SOURCE: tuple[Column, ...] = (
    *OUTGOING,
    Column("known", "?", "", "joined an object that was known before"),
    Column("runnerUp", "i8", "", "diaObjectId of the next best candidate, 0 for none"),
    Column("ssObjectId", "i8", "", "the Solar System object, 0 for none"),
    Column("trackletId", "i8", "", "the tracklet, 0 for none"),
    Column("fluxScale", "f8", "nJy", "in one image unit of flux; 1 where nobody knows"),
    Column(
        "skyTrailLength", "f4", "arcsec", "trailLength as published; NaN without a WCS, or where it is not kept"
    ),
    Column("skyTrailAngle", "f4", "deg", "trailAngle as published, likewise"),
)
"""What the ledger knows of a DIASource."""
LATER = frozenset(("skyTrailLength", "skyTrailAngle"))
"""Columns that frames stored by earlier versions lack."""

OBJECT_DTYPE = np.dtype([(c.name, "<" + c.dtype if c.dtype != "?" else "?") for c in DIAOBJECT])
"""One packed DIAObject."""
LAYOUT = digest(canonical([[c.name, c.dtype] for c in DIAOBJECT]))
"""Which columns a packed DIAObject has; a ledger of other ones is refused."""

SOURCE_COLUMNS = (
    *("diaSourceId", "revision", "snap", "diaObjectId", "ra", "decl", "midpointMjdTai", "kind", "flagged"),
    "record",
)
BATCH_COLUMNS = ("visit", "snap", "detector", "revision", "alert_fingerprint", "sources", "forced")
FORCED_COLUMNS = ("diaObjectId", "visit", "snap", "detector", "midpointMjdTai", "record")
OBJECT_COLUMNS = ("diaObjectId", "ra", "decl", "nDiaSources", "lastDiaSourceMjdTai", "columns")

CREATE = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE visit (visit {INTEGER} PRIMARY KEY, state TEXT NOT NULL, readout_end_tai {REAL}, summary TEXT)",
    "CREATE TABLE detector (visit {INTEGER}, snap {INTEGER}, detector {INTEGER}, state TEXT NOT NULL,"
    " fingerprint TEXT, revision {INTEGER}, sources {INTEGER}, known {INTEGER}, tonight {INTEGER},"
    " moving {INTEGER}, suspect {INTEGER} DEFAULT 0, is_delayed {INTEGER} DEFAULT 0, committed_tai {REAL},"
    " reference_tai {REAL}, published_tai {REAL}, PRIMARY KEY (visit, snap, detector))",
    "CREATE TABLE transition (seq {SERIAL}, visit {INTEGER}, snap {INTEGER}, detector {INTEGER},"
    " before_state TEXT, after_state TEXT, at_tai {REAL}, reason TEXT)",
    "CREATE TABLE batch (visit {INTEGER}, snap {INTEGER}, detector {INTEGER}, revision {INTEGER},"
    " alert_fingerprint TEXT, sources {BLOB}, forced {BLOB}, withdrawn_at {REAL},"
    " PRIMARY KEY (visit, snap, detector, revision))",
    "CREATE TABLE dia_source (diaSourceId {INTEGER}, revision {INTEGER}, snap {INTEGER}, diaObjectId {INTEGER},"
    " ra {REAL}, decl {REAL}, midpointMjdTai {REAL}, kind {INTEGER}, flagged {INTEGER}, withdrawn_at {REAL},"
    " record {BLOB}, PRIMARY KEY (diaSourceId, revision)){CLUSTERED}",
    "CREATE INDEX dia_source_of_object ON dia_source (diaObjectId, midpointMjdTai) WHERE withdrawn_at IS NULL",
    "CREATE TABLE dia_forced_source (diaObjectId {INTEGER}, visit {INTEGER}, snap {INTEGER}, detector {INTEGER},"
    " midpointMjdTai {REAL}, withdrawn_at {REAL}, record {BLOB})",
    "CREATE INDEX dia_forced_source_of_object ON dia_forced_source (diaObjectId, midpointMjdTai, visit)"
    " WHERE withdrawn_at IS NULL",
    "CREATE TABLE dia_object (diaObjectId {INTEGER} PRIMARY KEY, ra {REAL}, decl {REAL}, nDiaSources {INTEGER},"
    " lastDiaSourceMjdTai {REAL}, withdrawn_at {REAL}, columns {BLOB})",
    "CREATE TABLE outbox (seq {SERIAL}, visit {INTEGER}, snap {INTEGER}, detector {INTEGER},"
    " revision {INTEGER}, schema_fingerprint TEXT, file TEXT, offsets {BLOB}, lengths {BLOB},"
    " held TEXT NOT NULL)",
    "CREATE TABLE archive (file TEXT PRIMARY KEY, visit {INTEGER}, schema_fingerprint TEXT, size {INTEGER},"
    " alerts {INTEGER})",
    "CREATE TABLE sink (name TEXT PRIMARY KEY, seq {INTEGER} NOT NULL)",
    "CREATE TABLE dead_alert (sink TEXT, diaSourceId {INTEGER}, revision {INTEGER}, reason TEXT, at_tai {REAL})",
    "CREATE TABLE alert_schema (fingerprint TEXT PRIMARY KEY, json TEXT)",
    "CREATE TABLE provenance (fingerprint TEXT PRIMARY KEY, steps TEXT)",
)
BY_VISIT = ("outbox", "transition", "archive")
INDEXES = tuple(f"CREATE INDEX IF NOT EXISTS {table}_of_visit ON {table} (visit)" for table in BY_VISIT)
"""Of what is asked for visit by visit at every commit: while a sink is a night behind, or when the ledger has many
nights, a search row by row takes seconds.  Ledgers of earlier versions have none: they get those they lack."""


def pack(table: Table, sizes: Sequence[int] | None = None) -> list[bytes]:
    """A table as Arrow IPC streams: one, or one for each piece of so many rows."""
    arrays = [pa.array(column) for column in table.columns.values()]
    record, made, start = pa.RecordBatch.from_arrays(arrays, list(table.columns)), list[bytes](), 0
    for size in [len(table)] if sizes is None else sizes:
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, record.schema) as writer:
            writer.write_batch(record.slice(start, size))
        made.append(out.getvalue().to_pybytes())
        start += size
    return made


def unpack(data: bytes, schema: tuple[Column, ...]) -> Table:
    """The table in its bytes; columns of LATER that it lacks are NaN."""
    found = pa.ipc.open_stream(data).read_all()
    there = set(found.column_names)
    columns = {
        c.name: found[c.name].to_numpy(zero_copy_only=False).astype(c.dtype, copy=False)
        if c.name in there or c.name not in LATER
        else np.full(len(found), np.nan, c.dtype)
        for c in schema
    }
    return Table(schema, columns)


def pack_objects(objects: Table) -> list[bytes]:
    """Each DIAObject as the bytes of one OBJECT_DTYPE."""
    rows = np.empty(len(objects), OBJECT_DTYPE)
    for name, column in objects.columns.items():
        rows[name] = column
    data, size = rows.tobytes(), OBJECT_DTYPE.itemsize
    return [data[start : start + size] for start in range(0, len(data), size)]


def unpack_objects(rows: list[bytes]) -> Table:
    """The DIAObjects of packed rows."""
    found = np.frombuffer(b"".join(rows), OBJECT_DTYPE)
    return Table(DIAOBJECT, {name: found[name].copy() for name in OBJECT_DTYPE.names or ()})
