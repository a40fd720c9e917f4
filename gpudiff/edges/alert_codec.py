"""Alerts <-> Avro bytes.  A DIASource is encoded once, when it is stored; alerts are spliced from such bytes.

Avro (specification 1.11) writes a record as its fields one after the other, without tags or lengths.  So the
bytes of an alert are the bytes of its parts: `splice` writes exactly what a general encoder would, from
records that were encoded before.
"""

import io
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import fastavro

from gpudiff.edges.alert_schema import (
    FLAG_FIELDS,
    REQUIRED,
    alert_schema,
    dia_object_schema,
    dia_source_schema,
)
from gpudiff.edges.avro_rows import NULL, VALUE, encode_rows, long
from gpudiff.edges.cutout_fits import write_cutouts
from gpudiff.model.alert import AlertBatch
from gpudiff.model.errors import BadMessage
from gpudiff.model.tables import FLAGS, Table

NOT_MEASURED = {"trailNdata": 0, "bboxSize": 0}
NOT_MEASURED |= {f"{band}_psfFluxNdata": 0 for band in "ugrizy"}


def encode_sources(alerts: AlertBatch) -> list[bytes]:
    """The diaSource record of each DIASource of a frame: what the ledger keeps, and later alerts repeat."""
    columns = nullable(alerts.sources)
    columns["diaObjectId"] = [one or None for one in alerts.association.object_ids.tolist()]
    columns["ssObjectId"] = [one or None for one in alerts.association.ss_object_ids.tolist()]
    flags = alerts.sources["flags"]
    for field, name in FLAG_FIELDS.items():
        columns[field] = ((flags >> FLAGS[name]) & 1).astype(bool).tolist()
    shared = {**NOT_MEASURED, **alerts.common}
    return encode_rows(_parsed("diaSource"), columns, shared)


def encode_objects(objects: Table) -> list[bytes]:
    """The diaObject record of each row."""
    return encode_rows(_parsed("diaObject"), nullable(objects), NOT_MEASURED)


def encode_alerts(
    alerts: AlertBatch, sources: Sequence[bytes], history: Sequence[Sequence[bytes]]
) -> Iterable[bytes]:
    """The alert of each DIASource, one after the other.

    sources : `encode_sources` of the same batch; history : the stored diaSource records of each one's object
    """
    x, y = alerts.sources["x"], alerts.sources["y"]
    cutouts = write_cutouts(alerts.cutouts, x, y, alerts.wcs, alerts.image_unit)
    moving = alerts.association.moving.tolist()
    records = encode_objects(alerts.association.objects)
    objects = [NULL if moves else VALUE + one for moves, one in zip(moving, records, strict=True)]
    ids = alerts.sources["diaSourceId"].tolist()
    tails = _tails(alerts)
    for parts in zip(ids, sources, history, objects, cutouts, tails, strict=True):
        yield splice(*parts)


def splice(
    dia_source_id: int,
    source: bytes,
    history: Sequence[bytes],
    dia_object: bytes,
    cutouts: Sequence[bytes],
    tail: bytes,
) -> bytes:
    """One alert's bytes from those of its parts, in the order of the schema's fields.

    dia_object : with the byte that says whether there is one
    cutouts : difference, science, template; tail : association and provenance
    """
    earlier = [VALUE, long(len(history)), *history, NULL] if history else [NULL]
    stamps = [part for cutout in cutouts for part in (VALUE, long(len(cutout)), cutout)]
    no_reason_no_target, no_forced = NULL + NULL, NULL
    return b"".join(
        [
            long(dia_source_id),
            no_reason_no_target,
            source,
            *earlier,
            no_forced,
            dia_object,
            *stamps,
            tail,
        ]
    )


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


def nullable(table: Table) -> dict[str, list[Any]]:
    """The columns as lists of Python values, with None for NaN where the schema allows null."""
    columns = {}
    for name, column in table.columns.items():
        values = column.tolist()
        if column.dtype.kind == "f" and name not in REQUIRED:
            values = [None if value != value else value for value in values]
        columns[name] = values
    return columns


def _tails(alerts: AlertBatch) -> list[bytes]:
    """The last two fields of each alert: association, and the provenance that all share."""
    found = alerts.association
    columns = {
        "known": found.known.tolist(),
        "probability": found.probability.tolist(),
        "runnerUpDiaObjectId": [one or None for one in found.runner_up.tolist()],
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
    }
    return fastavro.parse_schema(made[name]())
