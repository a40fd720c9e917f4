"""From a batch on its way out to framed messages: whole alerts, or notices of about 200 bytes.

Confluent framing: a zero byte, the schema's number as 4 bytes big-endian, the Avro body.

A notice says in published units what the alert says: its values come from the alert's diaSource, which is read
without the rest, and from the batch's rows.
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
from gpudiff.edges.avro_rows import encode_rows
from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.outgoing import OutgoingBatch
from gpudiff.model.tables import Table

TIERS = ("full", "notice")
FROM_ROWS = ["diaSourceId", "revision", "visit", "detector", "flags", "flagged", "probability", "nDiaSources"]
FROM_ALERT = {
    "diaObjectId": "i8",
    "ssObjectId": "i8",
    "band": "U16",
    "midpointMjdTai": "f8",
    "ra": "f8",
    "dec": "f8",
    "raErr": "f4",
    "decErr": "f4",
    "psfFlux": "f4",
    "psfFluxErr": "f4",
    "fluxUnit": "U32",
    "snr": "f4",
    "reliability": "f4",
    "isNegative": "?",
    "isDipole": "?",
    "trailLength": "f4",
    "trailAngle": "f4",
}
"""Fields of a notice that are its diaSource's, and their types here."""
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
        kept, heads, refused = sources(batch)
        rows = rows.take(kept) if refused else rows
        data = _notices(rows, heads, bytes.fromhex(batch.fingerprint))
    else:
        raise BadConfiguration(f"tier {tier!r}: expected one of {TIERS}")
    ids, objects, revisions = (rows[name].tolist() for name in ("diaSourceId", "diaObjectId", "revision"))
    kinds = np.array(KINDS)[rows["kind"]].tolist()
    found = zip(ids, objects, revisions, kinds, rows["band"].tolist(), data, strict=True)
    return [Message(*one) for one in found], refused


def framed(number: int, body: bytes) -> bytes:
    """The body in Confluent framing."""
    return struct.pack(">bi", 0, number) + body


def sources(batch: OutgoingBatch) -> tuple[list[int], list[dict[str, Any]], list[Refused]]:
    """The diaSource records of the batch's alerts as dicts: the rows that have one, these, and who has none."""
    records = batch.alerts if batch.sources is None else batch.sources
    schema = _schema(batch.schema, batch.sources is None)
    kept: list[int] = []
    read: list[dict[str, Any]] = []
    refused: list[Refused] = []
    for row, (one, record) in enumerate(zip(batch.rows["diaSourceId"].tolist(), records, strict=True)):
        try:
            found: Any = fastavro.schemaless_reader(io.BytesIO(record), schema, None)
            read.append(found["diaSource"] if batch.sources is None else found)
            kept.append(row)
        except (EOFError, ValueError, IndexError, UnicodeDecodeError, MemoryError, OverflowError) as error:
            refused.append((one, f"{len(record)} bytes do not decode: {type(error).__name__} {error}"))
    return kept, read, refused


@cache
def _schema(schema: str, whole: bool) -> Any:
    """An alert's schema up to and with diaSource, as what comes after is not read; or that of diaSource alone."""
    alert = json.loads(schema)
    names = [field["name"] for field in alert["fields"]]
    at = names.index("diaSource")
    return fastavro.parse_schema(
        {**alert, "fields": alert["fields"][: at + 1]} if whole else alert["fields"][at]["type"]
    )


def _notices(rows: Table, heads: list[dict[str, Any]], fingerprint: bytes) -> list[bytes]:
    columns = {name: rows[name] for name in FROM_ROWS}
    columns["kind"] = np.array(KINDS)[rows["kind"]]
    first = rows["firstDiaSourceMjdTai"]
    columns["firstDiaSourceMjdTai"] = np.ma.masked_array(first, np.isnan(first))
    for name, dtype in FROM_ALERT.items():
        values = [head.get(name) for head in heads]
        empty = np.zeros((), dtype).item()
        known = [empty if value is None else value for value in values]
        columns[name] = np.ma.masked_array(np.array(known, dtype), [value is None for value in values])
    return [framed(NOTICE_ID, one + fingerprint) for one in encode_rows(_NOTICE, columns, {})]


_NOTICE = {"fields": notice_schema()["fields"][:-1]}
"""All but the fingerprint, which all notices of a batch share."""
