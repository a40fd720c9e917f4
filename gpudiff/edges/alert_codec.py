"""Alerts <-> Avro bytes.  A DIASource is encoded once, when it is stored; alerts are spliced from such bytes.

Avro (specification 1.11) writes a record as its fields one after the other, without tags or lengths.  So the
bytes of an alert are the bytes of its parts, put together to exactly what a general encoder would write, from
records that were encoded before.  The frames of a group are encoded together: what is done for each field costs
as much for one row as for a thousand.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import fastavro
import numpy as np

from gpudiff.edges.alert_schema import (
    FLAG_FIELDS,
    REQUIRED,
    alert_schema,
    dia_object_schema,
    dia_source_schema,
    forced_source_schema,
    solar_system_schema,
)
from gpudiff.edges.avro_rows import NULL, UNDECODABLE, VALUE, Records, encode_rows, long
from gpudiff.edges.cutout_fits import write_cutouts
from gpudiff.model.alert import AlertBatch
from gpudiff.model.association import KINDS, Association, together
from gpudiff.model.errors import BadMessage
from gpudiff.model.tables import BANDS, FLAGS, Table, concatenate

NOT_MEASURED = {"trailNdata": 0, "bboxSize": 0}
EMPTY_BANDS = {f"{band}_psfFluxNdata": 0 for band in BANDS}

_HEAD = {"fields": alert_schema()["fields"][:3]}


def encode_sources(frames: Sequence[AlertBatch]) -> list[list[bytes]]:
    """The diaSource record of each DIASource of each frame: what the ledger keeps, and later alerts repeat."""
    made: list[list[bytes]] = []
    for common, run in groupby(frames, lambda one: one.common):
        some = list(run)
        sources, found = _joined(some)
        columns = dict(sources.columns)
        columns["diaObjectId"] = _or_null(found.object_ids)
        columns["ssObjectId"] = _or_null(found.ss_object_ids)
        for field, name in FLAG_FIELDS.items():
            columns[field] = ((sources["flags"] >> FLAGS[name]) & 1).astype(bool)
        made += _split(encode_rows(_parsed("diaSource"), columns, {**NOT_MEASURED, **common}), some)
    return made


def _joined(frames: Sequence[AlertBatch]) -> tuple[Table, Association]:
    """The DIASources of all the frames, and what became of them."""
    return concatenate([one.sources for one in frames]), together([one.association for one in frames])


def _split(rows: Sequence[bytes], frames: Sequence[AlertBatch]) -> list[list[bytes]]:
    """The rows of all, frame by frame."""
    ends = np.cumsum([len(one.sources) for one in frames]).tolist()
    return [list(rows[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def encode_objects(objects: Table) -> list[bytes]:
    """The diaObject record of each row.  Columns that are empty in all rows are written as constants."""
    empty = {name for name, column in objects.columns.items() if len(column) and _is_empty(name, column)}
    columns = {name: column for name, column in objects.columns.items() if name not in empty}
    return encode_rows(_parsed("diaObject"), columns, EMPTY_BANDS)


def _is_empty(name: str, column: np.ndarray) -> bool:
    if name in EMPTY_BANDS:
        return not column.any()
    return name not in REQUIRED and column.dtype.kind == "f" and bool(np.isnan(column).all())


def encode_forced(forced: Table, common: Mapping[str, Any]) -> list[bytes]:
    """The diaForcedSource record of each row: what the ledger keeps of a frame's forced photometry.

    forced : Table of FORCED_SOURCE in published units, all rows of one frame; common : as in AlertBatch
    A record's id is visit << 24 | detector << 16 | its row.
    """
    columns = dict(forced.columns)
    columns["band"] = np.ma.masked_equal(forced["band"], "")
    first = forced["visit"] << 24 | forced["detector"].astype(np.int64) << 16
    columns["diaForcedSourceId"] = first + np.arange(len(forced))
    return encode_rows(_parsed("diaForcedSource"), columns, common)


def encode_alerts(
    frames: Sequence[AlertBatch],
    sources: Sequence[Sequence[bytes]],
    history: Sequence[Sequence[Sequence[bytes]]],
    forced: Sequence[Sequence[Sequence[bytes]]],
    bare: np.ndarray | None = None,
) -> Iterator[Records]:
    """The alert of each DIASource, a frame after the other.

    sources : `encode_sources` of the same frames; history, forced : the stored diaSource and diaForcedSource
        records of each one's object
    bare : (N,) bool, which alerts, of all frames together, leave out their cutouts; none when None
    """
    names = np.concatenate([one.sources["diaSourceId"] for one in frames])
    ids = _split(encode_rows(_HEAD, {"diaSourceId": names}, {}), frames)
    found = together([one.association for one in frames])
    objects, tails, first = _objects(frames, names, found), _tails(frames, found), 0
    for n, one in enumerate(frames):
        count = len(one.sources)
        skip = [False] * count if bare is None else bare[first : first + count].tolist()
        heads = list(map(_before_cutouts, ids[n], sources[n], history[n], forced[n], objects[n]))
        yield _spliced(heads, *_cutouts(one, skip), tails[n])
        first += count


def _cutouts(alerts: AlertBatch, skip: Sequence[bool]) -> tuple[list[int], Iterator[memoryview]]:
    """The three cutouts of each alert of a frame, with the bytes that say whether they are there; their sizes."""
    x, y = alerts.sources["x"], alerts.sources["y"]
    planes = alerts.cutouts, alerts.variance, alerts.mask, alerts.psf
    said, before = (alerts.wcs, alerts.image_unit), lambda size: VALUE + long(size)
    size, cutouts = write_cutouts(*planes, x, y, *said, before, alerts.own)
    none = memoryview(3 * NULL)
    sizes = [len(none) if one else size for one in skip]
    return sizes, (none if one else files for one, files in zip(skip, cutouts, strict=True))


def _before_cutouts(
    head: bytes, source: bytes, history: Sequence[bytes], forced: Sequence[bytes], objects: bytes
) -> bytes:
    """An alert's bytes up to its cutouts, in the order of the schema's fields.

    head : id, reason, target; objects : diaObject, ssSource, mpc_orbits, and whether they are there
    """
    return b"".join([head, source, *_array(history), *_array(forced), objects])


def _spliced(
    heads: Sequence[bytes], sizes: Sequence[int], cutouts: Iterator[memoryview], tails: Sequence[bytes]
) -> Records:
    """Alerts from what stands before their cutouts, these and their sizes, and what stands behind them."""

    def pieces() -> Iterator[bytes | memoryview]:
        behind = b""
        for head, cutout, tail in zip(heads, cutouts, tails, strict=True):
            yield behind + head
            yield cutout
            behind = tail
        yield behind

    lengths = [len(head) + size + len(tail) for head, size, tail in zip(heads, sizes, tails, strict=True)]
    return Records(lengths, pieces())


def _array(records: Sequence[bytes]) -> list[bytes]:
    """An array that may be null, null when there is nothing in it."""
    return [VALUE, long(len(records)), *records, NULL] if records else [NULL]


def _objects(frames: Sequence[AlertBatch], ids: np.ndarray, found: Association) -> list[list[bytes]]:
    """The fields diaObject, ssSource and mpc_orbits of each alert; the last, always null, takes no byte.

    ids, found : diaSourceIds of all the frames, and what became of them
    """
    solar = concatenate([one.solar_system for one in frames])
    columns = dict(solar.columns)
    columns["designation"] = np.ma.masked_equal(solar["designation"], "")
    columns["diaDistanceRank"] = _or_null(solar["diaDistanceRank"])
    records = encode_rows(_parsed("ssSource"), columns, {})
    known = dict(zip(solar["diaSourceId"].tolist(), records, strict=True))
    rows = zip(
        ids.tolist(), (found.moving | (found.object_ids == 0)).tolist(), encode_objects(found.objects), strict=True
    )
    made = [
        (NULL if nobodys else VALUE + record) + (VALUE + known[one] if one in known else NULL)
        for one, nobodys, record in rows
    ]
    return _split(made, frames)


def decode_alert(data: bytes, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """The alert in its bytes, as nested dicts; raises BadMessage when they are not one.

    schema : the one it was written in, ours when None
    """
    written = _parsed("alert") if schema is None else fastavro.parse_schema(schema)
    try:
        alert: Any = fastavro.schemaless_reader(io.BytesIO(data), written, None)
    except UNDECODABLE as error:
        raise BadMessage(f"alert: {len(data)} bytes do not decode: {type(error).__name__} {error}") from None
    return alert


def _or_null(ids: np.ndarray) -> np.ndarray:
    """The ids, with 0 masked."""
    return np.ma.masked_equal(ids, 0)


def _tails(frames: Sequence[AlertBatch], found: Association) -> list[list[bytes]]:
    """The last two fields of each alert: association, and the provenance that all of a frame share."""
    columns = {
        "known": found.known,
        "kind": np.array(KINDS)[found.kind],
        "probability": found.probability,
        "runnerUpDiaObjectId": _or_null(found.runner_up),
        "trackletId": _or_null(found.tracklet_ids),
    }
    fields = {field["name"]: field["type"] for field in _parsed("alert")["fields"][-2:]}
    rows = _split(encode_rows(fields["association"][1], columns, {}), frames)
    origins = [_origin(one, fields["provenance"]) for one in frames]
    return [[VALUE + row + origin for row in some] for some, origin in zip(rows, origins, strict=True)]


def _origin(alerts: AlertBatch, schema: Any) -> bytes:
    """The provenance of a frame's alerts."""
    out = io.BytesIO()
    fingerprint = bytes.fromhex(alerts.fingerprint)
    origin = {"fingerprint": fingerprint, "revision": alerts.revision, "latency_s": alerts.latency_s}
    fastavro.schemaless_writer(out, schema, origin)
    return out.getvalue()


@cache
def _parsed(name: str) -> Any:
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "alert": alert_schema,
        "diaSource": dia_source_schema,
        "diaObject": dia_object_schema,
        "diaForcedSource": forced_source_schema,
        "ssSource": solar_system_schema,
    }
    return fastavro.parse_schema(made[name]())
