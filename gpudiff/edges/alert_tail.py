"""The tail of the alert index: rows as they come, one file for each archive file, until they are sealed.

A tail is a row of entries: magic, number of rows, XXH3-64 of the rows, the rows as they are in memory
(little-endian, packed in the order of INDEX).  It is not synced: after a crash of the machine the archive has
what it lacks.  A reader stops at the first entry that is not whole.
"""

import struct
from pathlib import Path

import numpy as np
import xxhash

from gpudiff.edges.folder import failing
from gpudiff.model.alert_index import INDEX
from gpudiff.model.tables import Table

SUFFIX = ".tail"
ENTRY = struct.Struct("<4sIQ")
MAGIC = b"GDX1"
ROW = np.dtype([(c.name, f"<{c.dtype}") for c in INDEX])


def append_rows(path: Path, rows: Table) -> None:
    """Add an entry at the end.  Raises StoreFailed."""
    packed = np.empty(len(rows), ROW)
    for name in packed.dtype.names or ():
        packed[name] = rows[name]
    data = packed.tobytes()
    with failing(path), open(path, "ab") as file:
        file.write(ENTRY.pack(MAGIC, len(rows), xxhash.xxh3_64_intdigest(data)) + data)


def read_rows(path: Path) -> tuple[Table, int]:
    """The rows of the whole entries, INDEX, and the bytes that they take; none when the file is absent.

    Raises StoreFailed for one that cannot be read.
    """
    with failing(path):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return Table.empty(INDEX), 0
    parts, at = [np.empty(0, ROW)], 0
    while at + ENTRY.size <= len(data):
        magic, count, checksum = ENTRY.unpack_from(data, at)
        rows = data[at + ENTRY.size : at + ENTRY.size + count * ROW.itemsize]
        if magic != MAGIC or len(rows) < count * ROW.itemsize or xxhash.xxh3_64_intdigest(rows) != checksum:
            break
        parts.append(np.frombuffer(rows, ROW))
        at += ENTRY.size + len(rows)
    whole = np.concatenate(parts)
    return Table(INDEX, {name: whole[name] for name in ROW.names or ()}), at
