"""From a batch on its way out to framed messages: whole alerts, or notices of about 200 bytes.

Confluent framing: a zero byte, the schema's number as 4 bytes big-endian, the Avro body.

A notice says in published units what the alert says: its values come from the batch's rows, and what these have in
other units, or not at all, from its published columns.  Where the batch has none they are read from each alert's
diaSource, without the rest of the alert; the unit, which all of a frame share, is read from the first one.
"""

import io
import json
import struct
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import fastavro
import numpy as np

from gpudiff.edges.alert_schema import NOTICE_ID, notice_schema
from gpudiff.edges.avro_rows import UNDECODABLE, encode_rows
from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.outgoing import PUBLISHED, OutgoingBatch
from gpudiff.model.tables import Table

TIERS = ("full", "notice")
FROM_ROWS = (
    *("diaSourceId", "revision", "visit", "detector", "flags", "flagged", "probability", "nDiaSources"),
    *("midpointMjdTai", "ra", "dec", "raErr", "decErr", "snr", "reliability", "isNegative", "isDipole"),
)
LAST = "ssObjectId"
"""The last field of a diaSource that a notice needs of each alert: what comes behind it all of a frame share."""
Refused = tuple[int, str]


class Message(NamedTuple):
    """One alert or notice, framed, with what subscribers choose by."""

    dia_source_id: int
    dia_object_id: int
    revision: int
    kind: str
    band: str
    data: bytes


def messages(batch: OutgoingBatch, tier: str) -> tuple[list[Message], list[Refused]]:
    """A message for each alert, "full" or "notice", and (diaSourceId, reason) of those that have none.

    A whole alert is passed on as it is; a notice is refused for an alert whose first fields do not decode.
    """
    refused: list[Refused] = []
    rows = batch.rows
    if tier == "full":
        data: Sequence[bytes] = [framed(batch.schema_id, one) for one in batch.alerts]
    elif tier == "notice":
        rows, told, head, refused = _told(batch)
        data = _notices(rows, told, head, bytes.fromhex(batch.fingerprint))
    else:
        raise BadConfiguration(f"tier {tier!r}: expected one of {TIERS}")
    ids, objects, revisions = (rows[name].tolist() for name in ("diaSourceId", "diaObjectId", "revision"))
    kinds = np.array(KINDS)[rows["kind"]].tolist()
    found = zip(ids, objects, revisions, kinds, rows["band"].tolist(), data, strict=True)
    return [Message(*one) for one in found], refused


def framed(number: int, body: bytes) -> bytes:
    """The body in Confluent framing."""
    return struct.pack(">bi", 0, number) + body


def sources(
    batch: OutgoingBatch, last: str = "", most: int | None = None
) -> tuple[list[int], list[dict[str, Any]], list[Refused]]:
    """The diaSource records of the batch's alerts as dicts: the rows that have one, these, and who has none.

    last : the field with which all records but the first end here, '' for none; most : of the alerts, None for all
    """
    records, whole = (batch.alerts, True) if batch.sources is None else (batch.sources, False)
    schema = _schema(batch.schema, whole, "")
    kept: list[int] = []
    read: list[dict[str, Any]] = []
    refused: list[Refused] = []
    ids = batch.rows["diaSourceId"][:most].tolist()
    for row, (one, record) in enumerate(zip(ids, records if most is None else records[:most], strict=True)):
        try:
            found: Any = fastavro.schemaless_reader(io.BytesIO(record), schema, None)
        except UNDECODABLE as error:
            refused.append((one, f"{len(record)} bytes do not decode: {type(error).__name__} {error}"))
            continue
        read.append(found["diaSource"] if whole else found)
        kept.append(row)
        schema = _schema(batch.schema, whole, last)
    return kept, read, refused


@cache
def _schema(schema: str, whole: bool, last: str) -> Any:
    """An alert's schema up to and with diaSource, as what comes after is not read; or that of diaSource alone.

    last : the field with which diaSource ends; all of it where that is '', or not there
    """
    alert = json.loads(schema)
    *before, field = _through(alert["fields"], "diaSource")
    source = {**field["type"], "fields": _through(field["type"]["fields"], last)}
    if not whole:
        return fastavro.parse_schema(source)
    return fastavro.parse_schema({**alert, "fields": [*before, {**field, "type": source}]})


def _through(fields: list[dict[str, Any]], last: str) -> list[dict[str, Any]]:
    """The fields up to and with the one of that name; all where there is none."""
    names = [field["name"] for field in fields]
    return fields[: names.index(last) + 1] if last in names else fields


def _told(batch: OutgoingBatch) -> tuple[Table, Table, dict[str, Any], list[Refused]]:
    """Rows and Table of PUBLISHED of alerts that have a notice, the first diaSource, and who has none."""
    if batch.published is not None:
        _, heads, _ = sources(batch, most=1)
        if heads:
            return batch.rows, batch.published, heads[0], []
    kept, heads, refused = sources(batch, LAST)
    columns: dict[str, Any] = {c.name: [head.get(c.name) for head in heads] for c in PUBLISHED}
    columns["ssObjectId"] = [one or 0 for one in columns["ssObjectId"]]
    rows = batch.rows.take(kept) if refused else batch.rows
    return rows, Table(PUBLISHED, columns), heads[0] if heads else {}, refused


def _notices(rows: Table, told: Table, head: dict[str, Any], fingerprint: bytes) -> list[bytes]:
    columns = {name: rows[name] for name in FROM_ROWS}
    columns["diaObjectId"] = np.ma.masked_equal(rows["diaObjectId"], 0)
    columns["kind"] = np.array(KINDS)[rows["kind"]]
    first = rows["firstDiaSourceMjdTai"]
    columns["firstDiaSourceMjdTai"] = np.ma.masked_array(first, np.isnan(first))
    columns |= {**told.columns, "ssObjectId": np.ma.masked_equal(told["ssObjectId"], 0)}
    shared = {"band": head.get("band"), "fluxUnit": head.get("fluxUnit") or ""}
    return [framed(NOTICE_ID, one + fingerprint) for one in encode_rows(_NOTICE, columns, shared)]


_NOTICE = {"fields": notice_schema()["fields"][:-1]}
"""All but the fingerprint, which all notices of a batch share."""
