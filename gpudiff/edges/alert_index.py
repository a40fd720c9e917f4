"""The index of the alert archive: where each alert lies, by id, object, time and sky position.

A folder `index` beside the container files.  It is a cache: everything in it follows from the archive, and
what the archive has more of is read from there.

    VISIT.avro.tail      rows as they were committed (edges.alert_tail)
    NAME.rows            sealed: sorted, searchable in place (edges.alert_segment)
    NAME.blocks          its archive blocks with their checksums, Parquet

A file is sealed when its visit is over; sixteen segments of a night become one, and so do those, so that a
search looks into few and a row is written few times.  `consolidate` makes one of a whole night.
"""

import fcntl
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np

from gpudiff.edges import alert_tail
from gpudiff.edges.alert_blocks import ArchiveReader, Block
from gpudiff.edges.alert_segment import Coverage, Segment, latest, placed, write_segment
from gpudiff.edges.atomic import atomically
from gpudiff.edges.folder import failing
from gpudiff.model.alert_index import CODED, PLACED, AlertQuery, night_of
from gpudiff.model.errors import StoreFailed
from gpudiff.model.tables import Column, Table, concatenate

FOLDER, ROWS, BLOCKS = "index", ".rows", ".blocks"
FAN = 16
"""Segments of a night and a level that are merged into one of the next."""
FINAL = 99
"""The level of a whole night."""
CHECKSUM: tuple[Column, ...] = (
    Column("file", "U", "", "name of the archive file"),
    Column("start", "i8", "byte", "where the block starts"),
    Column("end", "i8", "byte", "where it ends, its marker included"),
    Column("count", "i8", "", "alerts in it"),
    Column("xxh3_64", "u8", "", "of the bytes from start to end"),
)


class AlertIndex:
    """The index of an archive folder.  One object of one thread reads or writes; several processes may."""

    def __init__(self, folder: Path):
        """folder : of the archive files; nothing is made before the first `add`"""
        self.archive, self.folder = folder, folder / FOLDER
        self.refresh()

    def refresh(self) -> None:
        """See what others have added since."""
        self.__dict__.pop("segments", None)
        paths = sorted(self.folder.glob(f"*{alert_tail.SUFFIX}"))
        self._tails: dict[str, Table | None] = dict.fromkeys(
            path.name.removesuffix(alert_tail.SUFFIX) for path in paths
        )

    # ------------------------------------------------------------ reading
    @cached_property
    def segments(self) -> list[Segment]:
        """Those that are there; looked for again when one was merged into another meanwhile.

        Raises StoreFailed for a damaged one; who only adds, or makes the index again, looks at none.
        """
        while True:
            paths = sorted(self.folder.glob(f"[!.]*{ROWS}"))  # with a dot: being written (edges.atomic)
            try:
                return [Segment(path) for path in paths]
            except StoreFailed:
                if all(path.exists() for path in paths):
                    raise

    def find(self, query: AlertQuery) -> Table:
        """The rows of PLACED that satisfy a query, by diaSourceId and revision, each once."""
        found = [segment.find(query) for segment in self.segments]
        for name in self._tails:
            rows = self.tail(name)
            found.append(placed(rows.take(query.holds(rows)), name))
        return latest(concatenate([Table.empty(PLACED), *found]))

    def tail(self, file_name: str) -> Table:
        """INDEX of a file's rows that are not sealed."""
        rows = self._tails.get(file_name)
        if rows is None:
            rows = alert_tail.read_rows(self._tail(file_name))[0]
            self._tails[file_name] = rows
        return rows

    def sealed(self) -> dict[str, int]:
        """Up to which byte, the end of a block, the rows of each archive file are sealed."""
        return _ends(self.segments)

    def lagging(self) -> list[str]:
        """Archive files that hold more than has been sealed."""
        ends, paths = self.sealed(), sorted(self.archive.glob("[!.]*.avro"))
        return [path.name for path in paths if path.stat().st_size > ends.get(path.name, 0)]

    def checksums(self) -> Table:
        """Table of CHECKSUM: every sealed block and the checksum that it had then; segments as for `segments`."""
        while True:
            paths = [segment.path for segment in self.segments]
            try:
                found = [_read_checksums(path.with_suffix(BLOCKS)) for path in paths]
                return concatenate([Table.empty(CHECKSUM), *found])
            except StoreFailed:
                if all(path.exists() for path in paths):
                    raise
                self.refresh()

    # ------------------------------------------------------------ writing
    def add(self, file_name: str, rows: Table) -> None:
        """Note alerts that were just committed.  rows : Table of INDEX

        Raises StoreFailed; then the archive still has them, and readers look there.
        """
        if len(rows):
            with self._locked():
                alert_tail.append_rows(self._tail(file_name), rows)
            self._tails[file_name] = None

    def seal(self, file_name: str) -> None:
        """Turn the tail of a file whose visit is over into a segment, with the checksums of its blocks.

        What the tail lacks of the archive file is read from there, but nothing that follows a whole tail: it may
        not be committed.  Rows that come later make a tail again.
        Raises StoreFailed, UnreadableFile.
        """
        with self._alone():
            self._seal(file_name)

    def _seal(self, file_name: str) -> None:
        start, tail = self.sealed().get(file_name, 0), self._tail(file_name)
        rows, size = alert_tail.read_rows(tail)
        with ArchiveReader(self.archive / file_name) as reader:
            blocks = list(reader.blocks(start))
            if len(rows) and tail.stat().st_size == size:  # what follows may not be committed yet
                blocks = [one for one in blocks if one.data <= rows["offset"].max()]
            end = blocks[-1].end if blocks else 0
            rows = rows.take((rows["offset"] >= start) & (rows["offset"] + rows["length"] <= end))
            rows = concatenate([rows, *(part for part in reader.missing(start, rows) if part["offset"][0] < end)])
            checksums = _checksums(file_name, blocks, [reader.checksum(one) for one in blocks])
        if blocks:  # else an earlier call was cut short before the tail went
            coded = Table(CODED, {**rows.columns, "file": np.zeros(len(rows), int)})
            self._write(coded, checksums, {file_name: end}, level=0)
        with self._locked():
            if alert_tail.read_rows(tail)[1] == size:  # else it grew meanwhile: the visit was not over
                tail.unlink(missing_ok=True)
        self._tails.pop(file_name, None)

    def consolidate(self, night: int | None = None) -> None:
        """Merge segments where FAN of a kind have come together; of the given night all into one."""
        with self._alone():
            self._consolidate(night)

    def _consolidate(self, night: int | None) -> None:
        groups: dict[tuple[int, int], list[Segment]] = defaultdict(list)
        for segment in self.segments:
            own = segment.coverage
            groups[own.night, FINAL if own.night == night else own.level].append(segment)
        for (_, level), segments in sorted(groups.items()):
            if len(segments) >= (2 if level == FINAL else FAN):
                self._replace(segments, min(level + 1, FINAL), _ends(segments))

    def rebuild(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Make the index again from the archive files alone.  progress : called with (done, total) files.

        Not while somebody appends.  Raises StoreFailed, UnreadableFile.
        """
        for path in self.folder.glob("*"):
            if path.suffix in (ROWS, BLOCKS, alert_tail.SUFFIX):
                path.unlink()
        self.refresh()
        self.catch_up(progress)

    def catch_up(self, progress: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Seal what is not, and merge what came together.  progress : as of `rebuild`."""
        files = self.lagging()
        for done, name in enumerate(files):
            progress(done, len(files))
            self.seal(name)
            self.consolidate()
        progress(len(files), len(files))

    def forget(self, file_names: Collection[str]) -> None:
        """Drop the rows of archive files that are gone."""
        with self._alone():
            for segment in list(self.segments):
                files = segment.coverage.files
                left = {name: end for name, end in files.items() if name not in file_names}
                if len(left) < len(files):
                    self._replace([segment], segment.coverage.level, left)
        for name in file_names:
            self._tail(name).unlink(missing_ok=True)
            self._tails.pop(name, None)

    # ------------------------------------------------------------ parts
    def _replace(self, segments: list[Segment], level: int, files: dict[str, int]) -> None:
        """One segment, or none, instead of several; files : those to keep, with their ends."""
        rows = concatenate([segment.coded(list(files)) for segment in segments])
        checksums = concatenate([_read_checksums(segment.path.with_suffix(BLOCKS)) for segment in segments])
        checksums = checksums.take(np.isin(checksums["file"], list(files)))
        kept = {self._write(rows, checksums, files, level)} if files else set()
        for path in {segment.path for segment in segments} - kept:
            path.unlink(missing_ok=True)
            path.with_suffix(BLOCKS).unlink(missing_ok=True)
        self.segments = [one for one in self.segments if one not in segments]

    def _write(self, rows: Table, checksums: Table, files: dict[str, int], level: int) -> Path:
        """Write a segment, named after its night, level and first file; the path of its rows."""
        times = rows["midpointMjdTai"][np.isfinite(rows["midpointMjdTai"])]
        night = night_of(float(times.min())) if len(times) else 0
        first, end = min(files.items())
        path = self.folder / f"{night}-{level}-{first.removesuffix('.avro')}-{end}{ROWS}"
        with failing(self.folder):
            self.folder.mkdir(exist_ok=True)
        _write_checksums(path.with_suffix(BLOCKS), checksums)
        write_segment(path, rows, Coverage(files, night, level))
        self.segments.append(Segment(path))
        return path

    def _tail(self, file_name: str) -> Path:
        return self.folder / f"{file_name}{alert_tail.SUFFIX}"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else writes or removes segments meanwhile; what others have made of them until now is seen."""
        with self._locked("segments.lock"):
            self.__dict__.pop("segments", None)
            yield

    @contextmanager
    def _locked(self, name: str = "lock") -> Iterator[None]:
        """Nobody else changes a tail meanwhile: for a moment, as an associator may wait; makes the folder."""
        with failing(self.folder):
            self.folder.mkdir(exist_ok=True)
            descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _ends(segments: list[Segment]) -> dict[str, int]:
    ends: dict[str, int] = {}
    for segment in segments:
        for name, end in segment.coverage.files.items():
            ends[name] = max(ends.get(name, 0), end)
    return ends


def _checksums(file_name: str, blocks: list[Block], values: list[int]) -> Table:
    columns = {name: [getattr(block, name) for block in blocks] for name in ("start", "end", "count")}
    return Table(CHECKSUM, {**columns, "xxh3_64": values, "file": np.full(len(blocks), file_name)})


def _write_checksums(path: Path, checksums: Table) -> None:
    import pyarrow
    from pyarrow import parquet

    with atomically(path, lasting=True) as temporary:
        parquet.write_table(pyarrow.table(dict(checksums.columns)), temporary)


def _read_checksums(path: Path) -> Table:
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        return Table(CHECKSUM, {c.name: table[c.name].to_numpy() for c in CHECKSUM})
    except (OSError, ValueError, KeyError, NotImplementedError) as error:
        raise StoreFailed(f"{path}: expected checksums of archive blocks: {error}") from None
