"""A segment of the alert index: rows sorted by id, with orders by object, time and sky position, mapped from disk.

One Arrow file (IPC format, uncompressed), so that opening it costs nothing and a search touches only the pages
it needs.  Sky positions are HEALPix pixels (Gorski et al. 2005), nested, so that a circle is a few ranges of
pixels at whatever resolution suits its size.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges import healpix
from gpudiff.edges.atomic import atomically
from gpudiff.model.alert_index import CODED, PLACED, AlertQuery, Cone
from gpudiff.model.errors import StoreFailed
from gpudiff.model.tables import Table

ORDER = 16
"""HEALPix order of the stored pixels: 3.2 arcsec."""
SORTED = ("diaObjectId", "midpointMjdTai", "pixel")
"""Keys with an order of their own, beside that of the rows by diaSourceId."""


@dataclass(frozen=True)
class Coverage:
    """What a segment has rows of: up to which byte of which file; its night; how often it was merged.

    A row's `file` is the number of its file here.
    """

    files: dict[str, int]
    night: int = 0
    level: int = 0


def write_segment(path: Path, rows: Table, coverage: Coverage) -> None:
    """Write rows of CODED, of which the last of each (diaSourceId, revision) counts; whole or not at all.

    Raises StoreFailed.
    """
    import pyarrow

    rows = latest(rows)
    columns: dict[str, Any] = {c.name: pyarrow.array(rows[c.name]) for c in CODED}
    keys = {"pixel": pixels(rows["ra"], rows["dec"])} | {name: rows[name] for name in SORTED[:2]}
    for name in SORTED:
        order = np.argsort(keys[name], kind="stable").astype("i4")
        columns[f"{name}.order"] = pyarrow.array(order)
        columns[f"{name}.sorted"] = pyarrow.array(keys[name][order])
    ids = rows["diaSourceId"]
    first, last = (int(ids[0]), int(ids[-1])) if len(ids) else (0, -1)
    said = {**dataclasses.asdict(coverage), "first": first, "last": last}
    table = pyarrow.table(columns).replace_schema_metadata({"gpudiff": json.dumps(said)})
    with (
        atomically(path, lasting=True) as temporary,
        pyarrow.OSFile(str(temporary), "wb") as file,
        pyarrow.ipc.new_file(file, table.schema) as writer,
    ):
        writer.write_table(table)


class Segment:
    """A segment file to search."""

    def __init__(self, path: Path):
        """Raises StoreFailed when it cannot be read."""
        import pyarrow

        self.path = path
        with _damage(path):
            self._file = pyarrow.ipc.open_file(pyarrow.memory_map(str(path)))
            said = json.loads(self._file.schema.metadata[b"gpudiff"])
            self.coverage = Coverage(said["files"], said["night"], said["level"])
            self._first, self._last = said["first"], said["last"]

    def __len__(self) -> int:
        return len(self._column("diaSourceId"))

    def coded(self, files: Sequence[str]) -> Table:
        """The rows of the named files, CODED by the place of a name in `files`, by diaSourceId and revision.

        Raises StoreFailed for a damaged segment.
        """
        places = {name: n for n, name in enumerate(files)}
        codes = np.array([places.get(name, -1) for name in self.coverage.files], np.int32)
        with _damage(self.path):
            rows = self._rows(slice(None))
            rows = rows.replace(file=codes[rows["file"]])
            return rows.take(rows["file"] >= 0)

    def find(self, query: AlertQuery) -> Table:
        """The rows of PLACED that satisfy a query, in no order that counts; raises StoreFailed as `coded`."""
        with _damage(self.path):
            rows = self._rows(self._candidates(query))
            rows = rows.take(query.holds(rows))
            names = np.array([*self.coverage.files, ""])
            return Table(PLACED, {**rows.columns, "file": names[rows["file"]]})

    # ------------------------------------------------------------ searching
    def _candidates(self, query: AlertQuery) -> Any:
        """Rows among which all are that satisfy the query: by the condition that leaves fewest, as a rule."""
        if query.dia_source_id is not None:
            return self._by_id(query.dia_source_id)
        if query.dia_object_id is not None:
            return self._between("diaObjectId", [(query.dia_object_id, query.dia_object_id + 1)])
        if query.cone is not None:
            return self._between("pixel", pixel_ranges(query.cone))
        if query.visit is not None:
            return np.flatnonzero(self._column("visit") == query.visit)
        if query.since is not None or query.until is not None:
            span = (
                -np.inf if query.since is None else query.since,
                np.inf if query.until is None else query.until,
            )
            return self._between("midpointMjdTai", [span])
        if query.least_revision is not None:
            return np.flatnonzero(self._column("revision") >= query.least_revision)
        return slice(None)

    def _by_id(self, dia_source_id: int) -> Any:
        if not self._first <= dia_source_id <= self._last:
            return slice(0, 0)
        ids = self._column("diaSourceId")
        return slice(*(int(np.searchsorted(ids, dia_source_id, side)) for side in ("left", "right")))

    def _between(self, name: str, ranges: Any) -> np.ndarray:
        """Rows whose key lies in one of the ranges [low, high)."""
        keys, order = self._column(f"{name}.sorted"), self._column(f"{name}.order")
        limits = np.searchsorted(keys, np.asarray(ranges, keys.dtype))
        parts = [order[low:high] for low, high in limits.tolist() if high > low]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def _rows(self, rows: Any) -> Table:
        return Table(CODED, {c.name: self._column(c.name)[rows] for c in CODED})

    def _column(self, name: str) -> np.ndarray:
        return self._columns[name]

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        table = self._file.read_all()
        return {
            name: column.chunk(0).to_numpy() if column.num_chunks else column.to_numpy()
            for name, column in zip(table.column_names, table.columns, strict=True)
        }


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a damaged file brings about within is a StoreFailed."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError) as error:
        again = "gpudiff archive index --anew makes all again"
        raise StoreFailed(f"{path}: expected a segment of the alert index: {error}; {again}") from None


def latest(rows: Table) -> Table:
    """Sorted by (diaSourceId, revision); of several rows with the same, the last."""
    order = np.lexsort((rows["revision"], rows["diaSourceId"]))
    ids, revisions = rows["diaSourceId"][order], rows["revision"][order]
    last = np.ones(len(order), bool)
    last[:-1] = (ids[1:] != ids[:-1]) | (revisions[1:] != revisions[:-1])
    return rows.take(order[last])


def placed(rows: Table, file: str) -> Table:
    """Rows of INDEX as rows of PLACED."""
    return Table(PLACED, {**rows.columns, "file": np.full(len(rows), file)})


def pixels(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N,) int64 HEALPix pixels of order ORDER, nested; -1 where the position is not known."""
    out = np.full(len(ra), -1, np.int64)
    known = np.isfinite(ra) & np.isfinite(dec)
    out[known] = healpix.cells(ra[known], dec[known], 1 << ORDER)
    return out


def pixel_ranges(cone: Cone) -> np.ndarray:
    """(N, 2) int64 ranges [low, high) of pixels of order ORDER that hold every position within the circle."""
    radius = np.radians(cone.radius / 3600)
    order = int(np.clip(np.log2(8 / max(radius, 1e-9)), 0, ORDER))
    found = healpix.ranges(healpix.cone(cone.ra, cone.dec, max(cone.radius / 3600, 1e-9), 1 << order))
    return found << 2 * (ORDER - order)
