"""The alert archive to read: what the index finds, what only the files know yet, and the alerts' bytes."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gpudiff.edges.alert_blocks import ArchiveReader
from gpudiff.edges.alert_index import AlertIndex
from gpudiff.edges.alert_segment import latest, placed
from gpudiff.edges.avro_rows import long
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.tables import Table, concatenate


@dataclass(frozen=True)
class Stored:
    """An alert as it stands in the archive: the bare Avro record, and its schema, JSON."""

    alert: bytes
    schema: str


def archive_folder(path: Path) -> Path:
    """The folder of the archive files: `path`, or `path`/alerts, as a service's directory has it.

    Raises UnreadableFile when neither is there, and for a folder that has nothing of an archive.
    """
    if (path / "alerts").is_dir():
        return path / "alerts"
    if (path.name == "alerts" and path.is_dir()) or any(path.glob("*.avro")):
        return path
    if any((path / name).is_dir() for name in ("index", "parquet")):  # its archive files are deleted
        return path
    raise UnreadableFile(f"{path}: expected the folder of an alert archive, there is none")


class AlertArchive:
    """The archive in a folder of Avro container files.

    notes : what was found wanting when it was opened: files that the index does not know in full, which were
        read themselves, and bytes behind a file's last whole block, which nobody reads
    """

    def __init__(self, folder: Path):
        """Raises StoreFailed for a damaged index, UnreadableFile for a file that is no archive file."""
        self.folder, self.index = folder, AlertIndex(folder)
        self.notes: list[str] = []
        self._unindexed: list[Table] = []
        self._readers: dict[str, ArchiveReader] = {}
        for name in self.index.lagging():
            self._read_rest(name)

    def close(self) -> None:
        """Let go of the files."""
        for reader in self._readers.values():
            reader.__exit__()
        self._readers.clear()

    def find(self, query: AlertQuery) -> Table:
        """Where the alerts that satisfy a query lie: PLACED, by diaSourceId and revision."""
        rest = [rows.take(query.holds(rows)) for rows in self._unindexed]
        return latest(concatenate([*rest, self.index.find(query)]))

    def withdrawn(self, rows: Table) -> np.ndarray:
        """(N,) bool: of rows of PLACED those that a later revision of their frame withdrew.

        A revision without alerts is in no file: the service's ledger tells of it, where it lies beside the folder.
        Raises StoreFailed when that cannot be read.
        """
        later = self.find(AlertQuery(least_revision=1))
        told = _revised(self.folder.parent / "ledger.sqlite")
        frames = np.concatenate([[-1], told[:, 0], later["diaSourceId"] >> 16])
        revisions = np.concatenate([[0], told[:, 1], later["revision"]])
        order = np.lexsort((revisions, frames))
        own = rows["diaSourceId"] >> 16
        last = order[np.searchsorted(frames[order], own, "right") - 1]
        return (frames[last] == own) & (revisions[last] > rows["revision"])

    def alerts(self, rows: Table) -> Iterator[Stored]:
        """The alert of each row of PLACED.

        Raises UnreadableFile when a file is gone, or has another alert there: then the index is to be rebuilt.
        """
        where = zip(*(rows[name].tolist() for name in ("diaSourceId", "file", "offset", "length")), strict=True)
        for dia_source_id, name, offset, length in where:
            reader = self._reader(name)
            alert = reader.read(offset, length)
            start = long(dia_source_id)
            if len(alert) < length or not alert.startswith(start):
                raise UnreadableFile(
                    f"{name}: expected alert {dia_source_id} at byte {offset}, there is another; "
                    "the index is not of this file: gpudiff archive index"
                )
            yield Stored(alert, reader.schema)

    def schema(self, name: str) -> str:
        """The Avro schema of an archive file, JSON."""
        return self._reader(name).schema

    def damage(self) -> Iterator[str]:
        """A line for each block that is not what it was when it was sealed, or whose alerts do not decode."""
        checksums = self.index.checksums()
        ends = self.index.sealed()
        columns = (checksums[c.name].tolist() for c in checksums.schema)
        for name, start, end, count, checksum in zip(*columns, strict=True):
            try:
                reader = self._reader(name)
            except UnreadableFile as error:
                yield str(error)
                continue
            block = reader.block(start)
            where = f"{name}: block of {count} alerts at bytes {start} to {end}"
            if block is None or (block.end, block.count) != (end, count):
                yield f"{where}: there is no such block"
            elif reader.checksum(block) != checksum:
                yield f"{where}: checksum {reader.checksum(block):016x}, expected {checksum:016x}"
        for name in self.index.lagging():
            reader = self._reader(name)
            for block in reader.blocks(ends.get(name, 0)):
                try:
                    reader.rows(block)
                except UnreadableFile as error:
                    yield str(error)

    def _reader(self, name: str) -> ArchiveReader:
        if name not in self._readers:
            self._readers[name] = ArchiveReader(self.folder / name)
        return self._readers[name]

    def _read_rest(self, name: str) -> None:
        """What a file has that the index does not."""
        reader, start = self._reader(name), self.index.sealed().get(name, 0)
        missing = list(reader.missing(start, self.index.tail(name)))
        self._unindexed += [placed(rows, name) for rows in missing]
        if count := sum(map(len, missing)):
            self.notes.append(f"{name}: {count} alerts are not in the index: gpudiff archive index")
        end = max([start, *(block.end for block in reader.blocks(start))])
        if left := reader.torn(end):
            self.notes.append(f"{name}: {left} bytes after the last whole block are not read")


def _revised(ledger: Path) -> np.ndarray:
    """As LedgerReader.revised; none where there is no ledger."""
    if not ledger.is_file():
        return np.empty((0, 2), np.int64)
    with closing(LedgerReader(ledger)) as reader:
        return reader.revised()
