"""The alert archive: Avro object container files, one a visit; a crash doubles nothing and loses nothing.

How much of a file counts is not the file's own business: the ledger says it, in the same transaction that
takes the alerts out of the outbox.  An append first cuts the file to that size.  So whatever a crash left
behind it, half a block or a whole one, is gone before the same alerts are written again.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fastavro

from gpudiff.edges.avro_rows import long
from gpudiff.model.errors import StoreFailed, UnreadableFile

MAGIC = b"Obj\x01"


def append(path: Path, size: int, schema: str, alerts: Sequence[bytes]) -> int:
    """The new size of the file, once its first `size` bytes and the alerts after them are on disk.

    path : made when it is not there; size : what counts of it, 0 for a new file; the rest is cut off
    schema : JSON; alerts : encoded in it; they make one block
    Raises StoreFailed when the file is shorter than `size` or cannot be written.
    """
    marker = sync_marker(schema, path.name)
    data = [*([] if size else [header(schema, marker)]), *block(alerts, marker)]
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        with open(descriptor, "r+b") as file:
            found = os.fstat(descriptor).st_size
            if found < size:
                raise StoreFailed(f"{path}: expected at least {size} bytes, got {found}")
            file.truncate(size)
            file.seek(size)
            file.writelines(data)
            file.flush()
            os.fsync(descriptor)
        if not size:
            sync_folder(path.parent)
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from None
    return size + sum(map(len, data))


def header(schema: str, marker: bytes) -> bytes:
    """The start of a container file (Avro specification 1.11, "Object Container Files")."""
    metadata = {"avro.schema": schema.encode(), "avro.codec": b"null"}
    pairs = b"".join(_bytes(name.encode()) + _bytes(value) for name, value in metadata.items())
    return MAGIC + long(len(metadata)) + pairs + long(0) + marker


def block(alerts: Sequence[bytes], marker: bytes) -> list[bytes]:
    """Count, size, records, marker; not joined, as alerts are large."""
    return [long(len(alerts)) + long(sum(map(len, alerts))), *alerts, marker]


def sync_marker(schema: str, name: str) -> bytes:
    """The 16 bytes after each block of a file: the same whenever the file is opened again."""
    return hashlib.blake2b(schema.encode() + name.encode(), digest_size=16).digest()


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The alerts in a container file, one after the other, as nested dicts.

    Raises UnreadableFile where the file is absent, or stops being one.
    """
    try:
        with open(path, "rb") as file:
            yield from fastavro.reader(file)  # type: ignore[misc]
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise UnreadableFile(f"{path}: expected an Avro container file: {error}") from None


def _bytes(value: bytes) -> bytes:
    return long(len(value)) + value


def sync_folder(folder: Path) -> None:
    """Make the names in a folder last: a new file is only safe once its folder is on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
