"""Alerts as a table and as files: one row an alert, columns by the published names, nulls where it has none."""

import io
import json
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import fastavro

from gpudiff.edges import archive
from gpudiff.edges.alert_archive import Stored
from gpudiff.edges.alert_blocks import narrow
from gpudiff.edges.alert_schema import schema_text
from gpudiff.edges.atomic import atomically
from gpudiff.edges.avro_rows import UNDECODABLE, Records
from gpudiff.model.errors import BadConfiguration, UnreadableFile

ARROW = {
    "long": "int64",
    "int": "int32",
    "double": "float64",
    "float": "float32",
    "boolean": "bool",
    "string": "string",
}
"""Names in pyarrow of the Avro types that become columns."""
BESIDE = {
    "association": ("known", "kind", "probability", "runnerUpDiaObjectId"),
    "provenance": ("revision", "latency_s"),
}
"""Fields of other records of the alert that stand beside those of its diaSource."""
BLOCK = 500
TABLES = (".parquet", ".csv", ".ecsv")
"""What a table is written as, by its file's suffix."""


def decode(stored: Stored, wanted: str = "") -> dict[str, Any]:
    """The alert as nested dicts; wanted : JSON of the only fields to read (edges.alert_blocks.narrow), '' for all.

    Raises UnreadableFile when the bytes are none.
    """
    try:
        written, read = _schemas(stored.schema, wanted)
        alert: Any = fastavro.schemaless_reader(io.BytesIO(stored.alert), written, read)
    except UNDECODABLE as error:
        raise UnreadableFile(f"alert of {len(stored.alert)} bytes: does not decode: {error}") from None
    return alert


def table_of(alerts: Iterable[Stored], record: str = "diaSource") -> Any:
    """Arrow table of the plain fields of a record (diaSource or diaObject), with BESIDE for the first.

    Its columns follow from the schema alone, not from the values; schemas that differ give their union, none ours.
    """
    import pyarrow

    beside = BESIDE if record == "diaSource" else {}
    wanted = json.dumps({record: {}, **{name: {field: {} for field in fields} for name, fields in beside.items()}})
    groups: dict[str, list[dict[str, Any]]] = {}
    for stored in alerts:
        alert = decode(stored, wanted)
        row = dict(alert.get(record) or {})
        for name, fields in beside.items():
            row |= {field: (alert.get(name) or {}).get(field) for field in fields}
        groups.setdefault(stored.schema, []).append(row)
    groups = groups or {schema_text(): []}
    tables = [pyarrow.Table.from_pylist(rows, columns(schema, record)) for schema, rows in groups.items()]
    return pyarrow.concat_tables(tables, promote_options="default")


@cache
def columns(schema: str, record: str = "diaSource") -> Any:
    """The Arrow schema of `table_of` for alerts of one Avro schema."""
    import pyarrow

    alert = {field["name"]: field["type"] for field in json.loads(schema)["fields"]}
    found: dict[str, str] = {}
    for name, fields in {record: None, **(BESIDE if record == "diaSource" else {})}.items():
        for field in _fields(alert.get(name)):
            kind = _plain(field["type"])
            if kind in ARROW and (fields is None or field["name"] in fields):
                found.setdefault(field["name"], ARROW[kind])
    return pyarrow.schema(
        [(name, getattr(pyarrow, kind.replace("bool", "bool_"))()) for name, kind in found.items()]
    )


def write_alerts(path: Path, alerts: Iterable[Stored]) -> None:
    """Write alerts: .avro as they are, .parquet, .csv and .ecsv as `write_table` does; none make an empty file of
    its kind, in our schema.

    Raises BadConfiguration for another suffix, or for alerts of two schemas in one .avro; StoreFailed.
    """
    if _suffix(path, ".avro", *TABLES) == ".avro":
        with atomically(path) as temporary:
            _write_avro(temporary, alerts)
    else:
        write_table(path, table_of(alerts))


def write_table(path: Path, table: Any) -> None:
    """Write an Arrow table as .parquet, .csv or .ecsv; columns without any value are left out of the last two.

    Raises BadConfiguration for another suffix, StoreFailed.
    """
    from pyarrow import csv, parquet

    suffix = _suffix(path, *TABLES)
    filled = [name for name in table.column_names if table[name].null_count < len(table)]
    with atomically(path) as temporary:
        if suffix == ".parquet":
            parquet.write_table(table, temporary)
        elif suffix == ".csv":
            csv.write_csv(table.select(filled or table.column_names), temporary)
        else:
            _write_ecsv(temporary, table.select(filled or table.column_names))


def _suffix(path: Path, *known: str) -> str:
    """The path's, in small letters; raises BadConfiguration for one that is not known."""
    suffix = path.suffix.lower()
    if suffix not in known:
        raise BadConfiguration(f"{path}: expected one of {', '.join(known)}, got {suffix!r}")
    return suffix


def _write_ecsv(path: Path, table: Any) -> None:
    from astropy.table import MaskedColumn
    from astropy.table import Table as AstropyTable

    made = AstropyTable()
    for name in table.column_names:
        column = table[name].combine_chunks()
        zero = "" if str(column.type) == "string" else False if str(column.type) == "bool" else 0
        made[name] = MaskedColumn(column.fill_null(zero).to_pylist(), mask=column.is_null().to_pylist())
    made.write(path, format="ascii.ecsv")


def _write_avro(path: Path, alerts: Iterable[Stored]) -> None:
    rest: Iterator[Stored] = iter(alerts)
    batch = list(islice(rest, BLOCK))
    schema = batch[0].schema if batch else schema_text()
    marker = archive.sync_marker(schema, path.name)
    with open(path, "wb") as file:
        file.write(archive.header(schema, marker))
        while batch:
            if any(one.schema != schema for one in batch):
                raise BadConfiguration("expected alerts of one schema for one .avro file; write .parquet, or less")
            file.writelines(archive.block(Records.of([one.alert for one in batch]), marker))
            batch = list(islice(rest, BLOCK))


@cache
def _schemas(text: str, wanted: str) -> tuple[Any, Any]:
    written = fastavro.parse_schema(json.loads(text))
    if not wanted:
        return written, None
    return written, fastavro.parse_schema(narrow(json.loads(text), json.loads(wanted)))


def _fields(kind: Any) -> list[dict[str, Any]]:
    for one in kind if isinstance(kind, list) else [kind]:
        if isinstance(one, dict) and one.get("type") == "record":
            return list(one["fields"])
    return []


def _plain(kind: Any) -> str:
    names = [one for one in (kind if isinstance(kind, list) else [kind]) if one != "null"]
    return names[0] if len(names) == 1 and isinstance(names[0], str) else ""
