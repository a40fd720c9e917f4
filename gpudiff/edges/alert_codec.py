"""Alerts <-> Avro bytes.  A DIASource is encoded once, when it is stored; alerts are spliced from such bytes.

Avro (specification 1.11) writes a record as its fields one after the other, without tags or lengths.  So the
bytes of an alert are the bytes of its parts: `splice` writes exactly what a general encoder would, from
records that were encoded before.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
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
from gpudiff.edges.avro_rows import NULL, VALUE, encode_rows, long
from gpudiff.edges.cutout_fits import write_cutouts
from gpudiff.model.alert import AlertBatch
from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadMessage
from gpudiff.model.tables import BANDS, FLAGS, Table

NOT_MEASURED = {"trailNdata": 0, "bboxSize": 0}
EMPTY_BANDS = {f"{band}_psfFluxNdata": 0 for band in BANDS}

_HEAD = {"fields": alert_schema()["fields"][:3]}


def encode_sources(alerts: AlertBatch) -> list[bytes]:
    """The diaSource record of each DIASource of a frame: what the ledger keeps, and later alerts repeat."""
    columns = dict(alerts.sources.columns)
    columns["diaObjectId"] = _or_null(alerts.association.object_ids)
    columns["ssObjectId"] = _or_null(alerts.association.ss_object_ids)
    flags = alerts.sources["flags"]
    for field, name in FLAG_FIELDS.items():
        columns[field] = ((flags >> FLAGS[name]) & 1).astype(bool)
    shared = {**NOT_MEASURED, **alerts.common}
    return encode_rows(_parsed("diaSource"), columns, shared)


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
    alerts: AlertBatch,
    sources: Sequence[bytes],
    history: Sequence[Sequence[bytes]],
    forced: Sequence[Sequence[bytes]] | None = None,
    bare: np.ndarray | None = None,
) -> Iterator[bytes]:
    """The alert of each DIASource, one after the other.

    sources : `encode_sources` of the same batch; history, forced : the stored diaSource and diaForcedSource
        records of each one's object, none of forced when None
    bare : (N,) bool, which alerts leave out their cutouts; none when None
    """
    x, y = alerts.sources["x"], alerts.sources["y"]
    planes = alerts.cutouts, alerts.variance, alerts.mask, alerts.psf
    said, before = (alerts.wcs, alerts.image_unit), lambda size: VALUE + long(size)
    cutouts = write_cutouts(*planes, x, y, *said, before, alerts.own)
    if bare is not None and bare.any():
        pairs = zip(bare.tolist(), cutouts, strict=True)
        cutouts = (memoryview(3 * NULL) if skip else one for skip, one in pairs)
    yield from map(
        splice,
        encode_rows(_HEAD, {"diaSourceId": alerts.sources["diaSourceId"]}, {}),
        sources,
        history,
        forced if forced is not None else [()] * len(sources),
        _objects(alerts),
        cutouts,
        _tails(alerts),
    )


def splice(
    head: bytes,
    source: bytes,
    history: Sequence[bytes],
    forced: Sequence[bytes],
    objects: bytes,
    cutouts: bytes | memoryview,
    tail: bytes,
) -> bytes:
    """One alert's bytes from those of its parts, in the order of the schema's fields.

    head : id, reason, target; objects : diaObject, ssSource, mpc_orbits; cutouts : difference, science, template;
    tail : association and provenance; each with the bytes that say whether it is there
    """
    return b"".join([head, source, *_array(history), *_array(forced), objects, cutouts, tail])


def _array(records: Sequence[bytes]) -> list[bytes]:
    """An array that may be null, null when there is nothing in it."""
    return [VALUE, long(len(records)), *records, NULL] if records else [NULL]


def _objects(alerts: AlertBatch) -> list[bytes]:
    """The fields diaObject, ssSource and mpc_orbits of each alert; the last, always null, takes no byte."""
    found, solar = alerts.association, alerts.solar_system
    columns = dict(solar.columns)
    columns["designation"] = np.ma.masked_equal(solar["designation"], "")
    columns["diaDistanceRank"] = _or_null(solar["diaDistanceRank"])
    records = encode_rows(_parsed("ssSource"), columns, {})
    known = dict(zip(solar["diaSourceId"].tolist(), records, strict=True))
    rows = zip(
        alerts.sources["diaSourceId"].tolist(),
        (found.moving | (found.object_ids == 0)).tolist(),
        encode_objects(found.objects),
        strict=True,
    )
    return [
        (NULL if nobodys else VALUE + record) + (VALUE + known[one] if one in known else NULL)
        for one, nobodys, record in rows
    ]


def decode_alert(data: bytes, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """The alert in its bytes, as nested dicts; raises BadMessage when they are not one.

    schema : the one it was written in, ours when None
    """
    written = _parsed("alert") if schema is None else fastavro.parse_schema(schema)
    try:
        alert: Any = fastavro.schemaless_reader(io.BytesIO(data), written, None)
    except (EOFError, ValueError, IndexError, UnicodeDecodeError, MemoryError, OverflowError) as error:
        raise BadMessage(f"alert: {len(data)} bytes do not decode: {type(error).__name__} {error}") from None
    return alert


def _or_null(ids: np.ndarray) -> np.ndarray:
    """The ids, with 0 masked."""
    return np.ma.masked_equal(ids, 0)


def _tails(alerts: AlertBatch) -> list[bytes]:
    """The last two fields of each alert: association, and the provenance that all share."""
    found = alerts.association
    columns = {
        "known": found.known,
        "kind": np.array(KINDS)[found.kind],
        "probability": found.probability,
        "runnerUpDiaObjectId": _or_null(found.runner_up),
        "trackletId": _or_null(found.tracklet_ids),
    }
    out = io.BytesIO()
    fields = {field["name"]: field["type"] for field in _parsed("alert")["fields"][-2:]}
    origin = {
        "fingerprint": bytes.fromhex(alerts.fingerprint),
        "revision": alerts.revision,
        "latency_s": alerts.latency_s,
    }
    fastavro.schemaless_writer(out, fields["provenance"], origin)
    return [VALUE + row + out.getvalue() for row in encode_rows(fields["association"][1], columns, {})]


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
