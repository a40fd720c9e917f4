"""The alert archive: Avro object container files, one a visit; a crash doubles nothing and loses nothing.

How much of a file counts is not the file's own business: the ledger says it, in the same transaction that
stores the DIASources.  An append first cuts the file to that size.  So whatever a crash left behind it, half a
block or a whole one, is gone before the same alerts are written again.  Order of writing: append, sync, commit.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro
import numpy as np

from gpudiff.edges import aligned, folder
from gpudiff.edges.aligned import GrowingFile
from gpudiff.edges.avro_rows import UNDECODABLE, Records, long
from gpudiff.model.errors import StoreFailed, UnreadableFile

MAGIC = b"Obj\x01"
PIECES = 64
"""Buffers of an open file: what is still on its way to the disk is written while the ledger is.

128 MB, half of what eight frames of a visit of 40,000 alerts take.  They are filled a little faster than a disk of
3 GB/s empties them: with 8 buffers an associator waited for it for 1.4 to 2.8 s of such a visit, with 32 for 0.5
to 0.7 s, with 64 for 0.3 to 0.8 s, most of it at the sync.  Memory is taken only for those that are needed."""


@dataclass(frozen=True)
class Appended:
    """What an append made: the file's new size, and where each alert's bare Avro body lies in it.

    offsets, lengths : (N,) int64, bytes
    """

    size: int
    offsets: np.ndarray
    lengths: np.ndarray


class Writer:
    """Appends to archive files: several a group of frames, each on disk after its `sync`."""

    def __init__(self) -> None:
        self._open: dict[Path, GrowingFile] = {}
        self._memory: list[memoryview] = []
        self._pool = ThreadPoolExecutor(1, "archive")

    def append(self, path: Path, size: int, schema: str, alerts: Records) -> Appended:
        """Let alerts follow the first `size` bytes of the file; what stood there is cut off.

        path : made when it is not there; size : what counts of it, 0 for a new file
        schema : JSON; alerts : encoded in it; they make one block
        Raises StoreFailed when the file is shorter than `size` or cannot be written.
        """
        lengths = np.array(alerts.lengths, np.int64)
        marker = sync_marker(schema, path.name)
        with folder.failing(path):
            file = self._file(path)
            if not file.cut(size):
                raise StoreFailed(f"{path}: expected at least {size} bytes, got {path.stat().st_size}")
            if not size:
                file.write([header(schema, marker)])
            file.write(block(alerts, marker))
        first = file.end - len(marker) - int(lengths.sum())
        return Appended(file.end, first + np.cumsum(lengths) - lengths, lengths)

    def sync(self, path: Path, size: int, new: bool = True) -> None:
        """Cut the file to what counts of it, have it on disk, and its name if it is `new`, and close it.

        Raises StoreFailed.
        """
        with folder.failing(path):
            file = self._file(path)
            try:
                if not file.cut(size):
                    raise StoreFailed(f"{path}: expected at least {size} bytes, got {path.stat().st_size}")
                file.sync()
                if new:
                    folder.sync(path.parent)
            finally:
                self._close(path)

    def close(self) -> None:
        """Close all files; what was not synced is lost."""
        for path in list(self._open):
            self._close(path)

    def _file(self, path: Path) -> GrowingFile:
        if path not in self._open:
            memory, self._memory = self._memory[:PIECES], self._memory[PIECES:]
            memory += [aligned.buffer() for _ in range(PIECES - len(memory))]
            self._open[path] = GrowingFile(path, memory, self._pool)
        return self._open[path]

    def _close(self, path: Path) -> None:
        self._memory += self._open.pop(path).close()


def append(path: Path, size: int, schema: str, alerts: Sequence[bytes]) -> Appended:
    """What Writer.append does, and have it on disk."""
    writer = Writer()
    try:
        made = writer.append(path, size, schema, Records.of(alerts))
        writer.sync(path, made.size)
    finally:
        writer.close()
    return made


def trim(path: Path, size: int) -> None:
    """Cut off what a crash left behind the first `size` bytes; a file that is not there is left alone."""
    if not path.exists() or path.stat().st_size <= size:
        return
    with folder.failing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def bodies(path: Path, offsets: np.ndarray, lengths: np.ndarray, memory: memoryview | None = None) -> list[bytes]:
    """The alerts that lie at these places of a file, bare Avro bodies, read in one go; raises StoreFailed.

    memory : of aligned.buffer, to read through; new when None
    """
    if not len(offsets):
        return []
    first, last = int(offsets.min()), int((offsets + lengths).max())
    with folder.failing(path):
        data = memoryview(aligned.read(path, first, last, aligned.buffer() if memory is None else memory))
    if len(data) < last - first:
        raise StoreFailed(f"{path}: expected at least {last} bytes, got {first + len(data)}")
    starts = (offsets - first).tolist()
    return [bytes(data[start : start + length]) for start, length in zip(starts, lengths.tolist(), strict=True)]


class Bodies(Sequence[bytes]):
    """The alerts at these places of a file, read when the first of them is asked for; as `bodies` else."""

    def __init__(self, path: Path, offsets: np.ndarray, lengths: np.ndarray, memory: memoryview | None = None):
        self._where = path, offsets, lengths, memory
        self._read: list[bytes] | None = None

    def __len__(self) -> int:
        return len(self._where[1])

    def __getitem__(self, place: Any) -> Any:
        if self._read is None:
            self._read = bodies(*self._where)
        return self._read[place]


def header(schema: str, marker: bytes) -> bytes:
    """The start of a container file (Avro specification 1.11, "Object Container Files")."""
    metadata = {"avro.schema": schema.encode(), "avro.codec": b"null"}
    pairs = b"".join(_bytes(name.encode()) + _bytes(value) for name, value in metadata.items())
    return MAGIC + long(len(metadata)) + pairs + long(0) + marker


def block(alerts: Records, marker: bytes) -> Iterator[bytes | memoryview]:
    """Count, size, records, marker; not joined, as alerts are large."""
    yield long(len(alerts)) + long(sum(alerts.lengths))
    yield from alerts.pieces
    yield marker


@lru_cache(64)
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
    except (OSError, *UNDECODABLE) as error:
        raise UnreadableFile(f"{path}: expected an Avro container file: {error}") from None


def _bytes(value: bytes) -> bytes:
    return long(len(value)) + value
