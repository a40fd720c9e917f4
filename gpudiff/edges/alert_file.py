"""Alert files to read: our archive's container files, and single alerts in Confluent framing.

Confluent framing is a zero byte, a 4-byte big-endian schema number, and the Avro record; the schema is not in
the file, so the reader must bring it.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpudiff.edges import archive
from gpudiff.edges.alert_codec import decode_alert
from gpudiff.model.errors import BadMessage, UnreadableFile


def read_alerts(path: Path, schema: Path | None = None) -> Iterator[dict[str, Any]]:
    """The alerts in a file, one after the other, as nested dicts.

    schema : .avsc file of the schema that a Confluent-framed alert was written in; records it names but does
        not hold are found in files beside it, NAME.avsc.  A container file has its schema inside.
    Raises UnreadableFile for a file of another kind, or when the schema is missing or does not fit.
    """
    start = _start(path)
    if start.startswith(archive.MAGIC):
        yield from archive.read(path)
    elif len(start) == 5 and start[0] == 0:
        yield _framed(path, struct.unpack(">i", start[1:])[0], schema)
    else:
        raise UnreadableFile(f"{path}: expected an Avro container file or a Confluent-framed alert, got {start!r}")


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(5)
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from None


def _framed(path: Path, number: int, schema: Path | None) -> dict[str, Any]:
    if schema is None:
        raise UnreadableFile(
            f"{path}: a Confluent-framed alert of schema {number}: expected that schema too (--schema FILE.avsc)"
        )
    try:
        return decode_alert(path.read_bytes()[5:], _load(schema))
    except BadMessage as error:
        raise UnreadableFile(f"{path}: expected an alert of {schema.name}: {error}") from None


def _load(path: Path) -> Any:
    from fastavro.repository.base import SchemaRepositoryError
    from fastavro.schema import SchemaParseException, load_schema

    try:
        return load_schema(str(path))
    except (OSError, json.JSONDecodeError, SchemaParseException, SchemaRepositoryError, KeyError) as error:
        raise UnreadableFile(f"{path}: expected an Avro schema: {error}") from None
