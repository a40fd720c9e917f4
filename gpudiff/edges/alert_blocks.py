"""The blocks of an archive file: where they start and end, and where each alert in them lies.

An Avro container file (specification 1.11, "Object Container Files") is a header and blocks of count, size,
records and a marker of 16 bytes.  So whole blocks are found without decoding; the records in one have no
lengths, they are found by walking through them.
"""

import io
import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import xxhash

from gpudiff.edges.archive import MAGIC
from gpudiff.edges.avro_rows import UNDECODABLE
from gpudiff.model.alert_index import INDEX
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.tables import Table

SOURCE_FIELDS = ("visit", "detector", "midpointMjdTai", "ra", "dec", "diaObjectId")
WANTED: dict[str, Any] = {
    "diaSourceId": {},
    "diaSource": {name: {} for name in SOURCE_FIELDS},
    "provenance": {"revision": {}},
}
MARKER = 16


@dataclass(frozen=True)
class Block:
    """Bytes [start, end) of a file, its marker included; its `count` records start at `data`."""

    start: int
    data: int
    end: int
    count: int


class ArchiveReader:
    """An archive file, mapped: its schema and its whole blocks.  A context manager.

    schema : JSON; first : where the first block starts; `size` : bytes of the file when it was opened
    """

    def __init__(self, path: Path):
        """A file that was cut within its header has no schema and no blocks.

        Raises UnreadableFile when it is absent, is no container file, or is a compressed one.
        """
        self.path = path
        self.schema, self.marker, self.first = "", b"", 0
        try:
            with open(path, "rb") as file:
                self.size = file.seek(0, io.SEEK_END)
                self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self.size else b""
            self._header()
        except IndexError:
            pass
        except (OSError, ValueError, KeyError) as error:
            raise UnreadableFile(f"{path}: expected an Avro container file: {error}") from None

    def __enter__(self) -> "ArchiveReader":
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self._bytes, mmap.mmap):
            self._bytes.close()

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the file; fewer at its end."""
        return self._bytes[offset : offset + length]

    def blocks(self, start: int = 0) -> Iterator[Block]:
        """The whole blocks from `start`, the end of an earlier one (0: all), up to the first that is not whole."""
        at = start or self.first
        while block := self.block(at):
            yield block
            at = block.end

    def block(self, start: int) -> Block | None:
        """The block that starts at a byte; None when no whole one does."""
        try:
            count, at = _long(self._bytes, start)
            length, data = _long(self._bytes, at)
        except IndexError:
            return None
        end = data + length + MARKER
        if (
            not self.marker
            or count < 0
            or length < 0
            or end > self.size
            or self._bytes[end - MARKER : end] != self.marker
        ):
            return None
        return Block(start, data, end, count)

    def checksum(self, block: Block) -> int:
        """XXH3, 64 bits, of the block's bytes."""
        with memoryview(self._bytes) as whole, whole[block.start : block.end] as part:
            return xxhash.xxh3_64_intdigest(part)

    def rows(self, block: Block) -> Table:
        """INDEX of the alerts in a block, in their order.  Raises UnreadableFile where they do not decode.

        Fields that the schema does not have are 0, or NaN.
        """
        stream = io.BytesIO(self._bytes[block.data : block.end - MARKER])
        found = []
        try:
            for _ in range(block.count):
                start = stream.tell()
                alert: Any = fastavro.schemaless_reader(stream, self._parsed, self._narrow)
                found.append(_row(alert, block.data + start, stream.tell() - start))
        except UNDECODABLE as error:
            why = f"does not decode: {type(error).__name__} {error}"
            raise UnreadableFile(f"{self.path}: block at byte {block.start}: {why}") from None
        columns = zip(*found, strict=True) if found else [()] * len(INDEX)
        return Table(INDEX, dict(zip((c.name for c in INDEX), columns, strict=True)))

    def missing(self, start: int, known: Table) -> Iterator[Table]:
        """INDEX of the whole blocks from `start` on that `known`, rows of INDEX, do not have in full."""
        offsets = np.sort(known["offset"])
        for block in self.blocks(start):
            low, high = np.searchsorted(offsets, (block.data, block.end))
            if high - low < block.count:
                yield self.rows(block)

    def torn(self, end: int) -> int:
        """Bytes that follow the last whole block, which ends at `end`."""
        return self.size - max(end, self.first)

    # ------------------------------------------------------------ the header
    def _header(self) -> None:
        start = self._bytes[: len(MAGIC)]
        if not MAGIC.startswith(start):
            raise ValueError(f"it starts with {start!r}")
        metadata: dict[str, bytes] = {}
        count, at = _long(self._bytes, len(MAGIC))
        while count:
            if count < 0:  # a block of a map may say its size, after a negative count
                _, at = _long(self._bytes, at)
            for _ in range(abs(count)):
                name, at = self._value(at)
                value, at = self._value(at)
                metadata[name.decode()] = value
            count, at = _long(self._bytes, at)
        codec = metadata.get("avro.codec", b"null")
        if codec != b"null":
            raise ValueError(f"codec {codec.decode()}: only files without compression have an index")
        schema = metadata["avro.schema"].decode()
        if at + MARKER <= self.size:
            self.schema, self.marker, self.first = schema, self._bytes[at : at + MARKER], at + MARKER

    def _value(self, at: int) -> tuple[bytes, int]:
        length, at = _long(self._bytes, at)
        if length < 0 or at + length > self.size:
            raise IndexError("the header is not whole")
        return self._bytes[at : at + length], at + length

    @cached_property
    def _parsed(self) -> Any:
        return fastavro.parse_schema(json.loads(self.schema))

    @cached_property
    def _narrow(self) -> Any:
        return fastavro.parse_schema(narrow(json.loads(self.schema), WANTED))


def narrow(schema: Any, wanted: dict[str, Any]) -> Any:
    """The record schema with only the `wanted` fields that it has, {} for a whole field: to read little of it."""
    if isinstance(schema, list):
        return [narrow(one, wanted) for one in schema]
    if not (isinstance(schema, dict) and schema.get("type") == "record" and wanted):
        return schema
    fields = [
        {**field, "type": narrow(field["type"], wanted[field["name"]])}
        for field in schema["fields"]
        if field["name"] in wanted
    ]
    return {**schema, "fields": fields}


def _row(alert: dict[str, Any], offset: int, length: int) -> tuple[Any, ...]:
    """The values of INDEX."""
    source = alert.get("diaSource") or {}
    revision = (alert.get("provenance") or {}).get("revision") or 0
    whole = [source.get(name) or 0 for name in ("detector", "diaObjectId", "visit")]
    real = [source.get(name) for name in ("midpointMjdTai", "ra", "dec")]
    known = [np.nan if value is None else value for value in real]
    return (alert["diaSourceId"], revision, *whole, *known, offset, length)


def _long(data: Any, at: int) -> tuple[int, int]:
    """An Avro long and the position behind it; raises IndexError where the data end before it does."""
    shift = result = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result >> 1 ^ -(result & 1), at
        shift += 7
        if shift > 63:
            raise IndexError("a number of more than 64 bits")
