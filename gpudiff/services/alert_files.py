"""The alert archive of an associator: written a group of frames at a time, as the ledger says, and indexed."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from gpudiff.edges import archive, folder
from gpudiff.edges.alert_index import AlertIndex
from gpudiff.edges.alert_schema import schema_fingerprint, schema_text
from gpudiff.edges.archive import Appended
from gpudiff.edges.avro_rows import Records
from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_reader import ArchiveFile
from gpudiff.model.alert_index import INDEX
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.errors import StoreFailed
from gpudiff.model.tables import Table


class AlertFiles:
    """What a transaction of the ledger does to the archive: `know`, then `begin`, `append` for each frame, `sync`
    before the transaction ends, `index` after it.
    """

    def __init__(self, path: Path, ledger: Ledger):
        """path : the folder, made when it is not there; what the ledger does not know of its files is cut off.

        Raises StoreFailed.
        """
        self.path, self._ledger = path, ledger
        folder.make(path)
        for file in ledger.all_archive_files():
            archive.trim(path / file.name, file.size)
        self._writer, self._index = archive.Writer(), AlertIndex(path)
        self._touched: dict[str, bool] = {}  # whether nothing of it counted before
        self._to_index: list[tuple[str, Table]] = []

    def know(self, batches: Iterable[DetectionBatch]) -> None:
        """Note the files that these batches need before anything is written to them.

        Raises StoreFailed where one has content that the ledger does not know.
        """
        for visit in sorted({one.observation.frame.visit for one in batches if len(one.sources)}):
            files, schema = self._ledger.archive_files(visit), schema_fingerprint()
            if schema in files:
                continue
            name = f"{visit}.{schema}.avro" if files else f"{visit}.avro"
            path = self.path / name
            if path.exists() and path.stat().st_size:
                raise StoreFailed(f"{path}: expected no file that the ledger does not know")
            self._ledger.new_archive_file(ArchiveFile(name, visit, schema, 0))

    def begin(self) -> None:
        """Forget what an earlier transaction did not end."""
        self._touched.clear()
        self._to_index.clear()

    def append(self, visit: int, frames: Iterable[Records]) -> Iterator[tuple[str, Appended]]:
        """Write the alerts of frames behind what counts of the visit's file; its name, and their places in it."""
        file = self._ledger.archive_files(visit).get(schema_fingerprint())
        for alerts in frames:
            if not len(alerts):
                yield "", Appended(0, np.empty(0, np.int64), np.empty(0, np.int64))
                continue
            assert file is not None, "expected `know` before"
            self._touched[file.name] = self._touched.get(file.name, False) or file.size == 0
            made = self._writer.append(self.path / file.name, file.size, schema_text(), alerts)
            file = file.grown(made.size)
            yield file.name, made

    def note(
        self, file: str, sources: Table, object_ids: Sequence[int], revision: int, appended: Appended
    ) -> None:
        """Keep for the index what it notes of a frame's alerts."""
        if not file:
            return
        columns = {c.name: sources[c.name] for c in INDEX if c.name in sources.columns}
        columns |= {"diaObjectId": np.asarray(object_ids), "revision": np.full(len(sources), revision)}
        rows = Table(INDEX, {**columns, "offset": appended.offsets, "length": appended.lengths})
        self._to_index.append((file, rows))

    def sync(self) -> None:
        """Have the files that were touched on disk, as far as the ledger says that they count."""
        for file, new in sorted(self._touched.items()):
            self._writer.sync(self.path / file, self._ledger.archive_file(file).size, new)

    def end(self) -> None:
        """Close the files, also those of a transaction that did not end."""
        self._writer.close()

    def index(self) -> int:
        """Note in the index what was committed (readers look into the files else); how often that failed."""
        failed = 0
        while self._to_index:
            try:
                self._index.add(*self._to_index.pop(0))
            except StoreFailed:
                failed += 1
        return failed
