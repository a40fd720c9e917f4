"""Rows of a table as Avro records, column by column: a few times faster than record by record.

Only what our records are made of: long, int, float, double, boolean, string, and ["null", one of these].
Encodings are those of the Avro specification 1.11, "Binary encoding".
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any

NULL, VALUE = b"\x00", b"\x02"
"""Which branch of a union ["null", T] follows: 0 and 1 as Avro's zigzag integers."""


def encode_rows(
    schema: Mapping[str, Any], columns: Mapping[str, Sequence[Any]], shared: Mapping[str, Any]
) -> list[bytes]:
    """The record of each row.

    schema : a record's; columns : equal-length values by field name, None for null; at least one
    shared : values that all rows have in common; a field in neither is null
    Raises ValueError for a null where the schema has none, struct.error or OverflowError for a number that
    does not fit.
    """
    pieces: list[Iterable[bytes]] = []
    constant = b""
    for field in schema["fields"]:
        name, write = field["name"], writer(field["type"], field["name"])
        if name in columns:
            pieces += [repeat(constant), map(write, columns[name])] if constant else [map(write, columns[name])]
            constant = b""
        else:
            constant += write(shared.get(name))
    count = len(next(iter(columns.values())))
    pieces.append(repeat(constant, count))
    return [b"".join(row) for row in zip(*pieces, strict=False)]


def writer(kind: Any, name: str) -> Callable[[Any], bytes]:
    """The function that encodes one value of a field."""
    if isinstance(kind, list):
        return _nullable(WRITERS[kind[1]])
    plain = WRITERS[kind]

    def write(value: Any) -> bytes:
        if value is None:
            raise ValueError(f"{name}: expected a {kind}, got null")
        return plain(value)

    return write


def long(value: int) -> bytes:
    """An Avro int or long: zigzag, seven bits a byte, least significant first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _nullable(plain: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    return lambda value: NULL if value is None else VALUE + plain(value)


def _string(value: str) -> bytes:
    data = value.encode()
    return long(len(data)) + data


WRITERS: dict[str, Callable[[Any], bytes]] = {
    "long": long,
    "int": long,
    "float": struct.Struct("<f").pack,
    "double": struct.Struct("<d").pack,
    "boolean": lambda value: b"\x01" if value else b"\x00",
    "string": _string,
}
