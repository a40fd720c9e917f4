"""Sky files: tables ordered by place on the sky, mapped into memory, of which a cone is read in no time.

    16 bytes   "GDSKY\\0\\0\\1" and the length of the header, uint64
    16 bytes   xxh3-128 of the header
    header     JSON: kind, order, rows, size of the file, columns [name, dtype, shape of one value, offset], facts,
               and the xxh3-128 of index and columns, one after the other, which is the file's name to others
    index      uint64, one a HEALPix pixel and one more: the first row of each
    columns    one after the other, little-endian, each at a multiple of 4096 bytes
    16 bytes   "GDSKY end" and the length of the header again: a file without it is not whole

Rows are ordered by nested HEALPix pixel (Gorski et al. 2005, ApJ 622, 759), then by the first column.  A file is
never changed: a new one is written beside it, synced and renamed, and the one before is kept as NAME.previous.
"""

import json
import mmap
import os
import struct
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from gpudiff.edges import healpix
from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.tables import Column, Table

MAGIC = b"GDSKY\0\0\1"
END = b"GDSKYend"
ORDER = 8
"""Of the pixels: 0.23 degrees a side, small beside a visit."""
PAGE = 4096


class SkyFile:
    """A sky file to read.  What `cone` returns is a copy; the file may be replaced while it is open."""

    def __init__(self, path: Path, kind: str):
        """Raises UnreadableFile for what is absent, not a sky file, of another kind, not whole or changed."""
        self.path = path
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise UnreadableFile(f"{path}: expected a sky file of {kind}: {error}") from None
        header = self._header()
        if header["kind"] != kind:
            raise UnreadableFile(f"{path}: expected {kind}, got {header['kind']}")
        self.facts: dict[str, Any] = header["facts"]
        self.digest: str = header["content"]
        self._rows, self._order = header["rows"], header["order"]
        self._start = self._array("<u8", (12 * 4**self._order + 1,), header["index"])
        self.columns = {
            name: self._array(dtype, (self._rows, *shape), offset)
            for name, dtype, shape, offset in header["columns"]
        }

    def __len__(self) -> int:
        return self._rows

    def verify(self) -> None:
        """Read all of it; raises UnreadableFile when it is not what its checksum says."""
        content = xxhash.xxh3_128(self._start.data)
        for column in self.columns.values():
            content.update(np.ascontiguousarray(column).reshape(-1).view("u1").data)
        if content.hexdigest() != self.digest:
            raise UnreadableFile(f"{self.path}: the content is not what its checksum says")

    def cone(self, ra: float, dec: float, radius: float) -> dict[str, np.ndarray]:
        """Every row within `radius` degrees of a place, and those outside that share a pixel with it."""
        return self.rows(self.ranges(ra, dec, radius))

    def ranges(self, ra: float, dec: float, radius: float) -> np.ndarray:
        """(R, 2) first row and the one after the last, of the pixels that a cone touches; empty ones left out."""
        pixels = healpix.ranges(healpix.cone(ra, dec, radius, 1 << self._order))
        found = np.stack([self._start[pixels[:, 0]], self._start[pixels[:, 1]]], -1).astype(np.int64)
        return found[found[:, 0] < found[:, 1]]

    def rows(self, ranges: np.ndarray, names: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The columns, or those named, of the rows in (R, 2) ranges."""
        cut = [slice(a, b) for a, b in ranges.tolist()]
        return {
            name: np.concatenate([column[part] for part in cut]) if cut else column[:0].copy()
            for name, column in self.columns.items()
            if not names or name in names
        }

    def table(self, schema: tuple[Column, ...], columns: Mapping[str, np.ndarray]) -> Table:
        """The columns as a table; raises UnreadableFile when they are not those of the schema."""
        try:
            return Table(schema, columns)
        except ValueError as error:
            raise UnreadableFile(f"{self.path}: {error}; build it again") from None

    def _header(self) -> dict[str, Any]:
        magic, length = self._map[:8], self._length(8)
        if magic != MAGIC:
            raise UnreadableFile(f"{self.path}: expected a sky file, got one that begins with {magic!r}")
        text = self._map[32 : 32 + length]
        if xxhash.xxh3_128_digest(text) != self._map[16:32]:
            raise UnreadableFile(f"{self.path}: the header is not what its checksum says")
        header = json.loads(text)
        size = len(self._map)
        if size != header["size"] or self._map[-16:-8] != END or self._length(size - 8) != length:
            raise UnreadableFile(
                f"{self.path}: expected {header['size']} bytes with an end, got {size}: not whole"
            )
        return header

    def _length(self, at: int) -> int:
        data = self._map[at : at + 8]
        return struct.unpack("<Q", data)[0] if len(data) == 8 else 0

    def _array(self, dtype: str, shape: tuple[int, ...], offset: int) -> np.ndarray:
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, dtype, count, offset).reshape(shape)


def write_sky_file(
    path: Path, kind: str, columns: Mapping[str, np.ndarray], facts: Mapping[str, Any], order: int = ORDER
) -> int:
    """Write a sky file, rows ordered by the columns `ra` and `dec`, degrees; returns how many rows it has.

    columns : of equal length, the first one a number that tells rows apart; values may be arrays themselves
    facts : anything JSON, kept in the header
    A row without a finite position is left out.  The same rows give the same bytes, in whatever order they come.
    Raises StoreFailed when it cannot be written; the file before stays.
    """
    pixel, sort = _order_of_rows(columns, order)
    start = np.searchsorted(pixel, np.arange(12 * 4**order + 1)).astype("<u8")
    kinds = {name: np.dtype(column.dtype).newbyteorder("<").str for name, column in columns.items()}
    sizes = {name: len(sort) * np.dtype((one.dtype, one.shape[1:])).itemsize for name, one in columns.items()}
    header, offsets = _layout(kind, order, len(sort), columns, kinds, sizes, dict(facts))
    with atomically(path, lasting=True) as temporary:
        with open(temporary, "wb") as file:
            content = xxhash.xxh3_128()
            for name, data in _content(start, columns, sort, kinds):
                file.seek(offsets[name])
                file.write(data)
                content.update(data)
            text = json.dumps(header | {"content": content.hexdigest()}).encode()
            file.seek(offsets["end"])
            file.write(END + struct.pack("<Q", len(text)))
            file.seek(0)
            file.write(MAGIC + struct.pack("<Q", len(text)) + xxhash.xxh3_128_digest(text) + text)
        _keep_previous(path)
    return len(sort)


def _content(
    start: np.ndarray, columns: Mapping[str, np.ndarray], sort: np.ndarray, kinds: Mapping[str, str]
) -> Iterator[tuple[str, memoryview]]:
    """The bytes of the index and of each column, as they are written."""
    yield "index", start.view("u1").data
    for name, column in columns.items():
        yield name, np.ascontiguousarray(column[sort], kinds[name]).reshape(-1).view("u1").data


def _order_of_rows(columns: Mapping[str, np.ndarray], order: int) -> tuple[np.ndarray, np.ndarray]:
    """The rising pixels of the rows that have a place, and which row each is."""
    ra, dec = np.asarray(columns["ra"], float), np.asarray(columns["dec"], float)
    placed = np.flatnonzero(np.isfinite(ra) & (np.abs(dec) <= 90))
    pixel = healpix.cells(ra[placed], dec[placed], 1 << order)
    sort = np.lexsort((next(iter(columns.values()))[placed], pixel))
    return pixel[sort], placed[sort]


def _layout(
    kind: str,
    order: int,
    rows: int,
    columns: Mapping[str, np.ndarray],
    kinds: Mapping[str, str],
    sizes: Mapping[str, int],
    facts: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, int]]:
    """The header, without the content's checksum, and the offset of everything behind it.

    The header's own room is rounded up, so that offsets do not depend on its length.
    """
    room = -(-(len(json.dumps(facts)) + 160 * (len(columns) + 4)) // PAGE) * PAGE
    offsets, at = {"index": room}, room + 8 * (12 * 4**order + 1)
    for name in columns:
        offsets[name] = -(-at // PAGE) * PAGE
        at = offsets[name] + sizes[name]
    offsets["end"] = at
    described = [[name, kinds[name], list(column.shape[1:]), offsets[name]] for name, column in columns.items()]
    header = {"kind": kind, "order": order, "rows": rows, "size": at + 16, "index": room}
    return header | {"columns": described, "facts": facts}, offsets


def _keep_previous(path: Path) -> None:
    """Give the present file a second name, so that it stays when the new one takes its own."""
    if path.exists():
        with atomically(path.with_name(path.name + ".previous")) as second:
            os.link(path, second)
