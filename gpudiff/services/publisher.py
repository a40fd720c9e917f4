"""Publisher: follows the ledger's outbox into the alert archive, each alert exactly once."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from gpudiff.edges import archive
from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_reader import ArchiveFile
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import StoreFailed

BATCH = 500
"""Alerts in memory at once, at most: 33 kB each."""


class Publisher:
    """The outbox's only reader.  To start after a crash is to publish what waits: nothing else is needed."""

    def __init__(self, ledger: Ledger, folder: Path, clock: Callable[[], float] = tai_now):
        """folder : of the archive, made when it is not there; clock : MJD TAI now."""
        self.ledger, self.folder, self.clock = ledger, folder, clock
        try:
            folder.mkdir(parents=True, exist_ok=True)
            archive.sync_folder(folder.parent)
        except OSError as error:
            raise StoreFailed(f"{folder}: {error.strerror}") from None

    def publish(self) -> int:
        """Publish all that waits; how many alerts that was.  Raises StoreFailed."""
        count = 0
        while waiting := self.ledger.pending(BATCH):
            for (visit, schema), group in groupby(waiting, lambda alert: (alert.visit, alert.schema)):
                alerts = list(group)
                file = self._file(visit, schema)
                written = self.ledger.schema(schema)
                data = [one.alert for one in alerts]
                size = archive.append(self.folder / file.name, file.size, written, data)
                self.ledger.published([one.seq for one in alerts], file.grown(size), self.clock())
            count += len(waiting)
        return count

    def _file(self, visit: int, schema: str) -> ArchiveFile:
        """Where a visit's alerts in one schema belong: VISIT.avro; VISIT.SCHEMA.avro after another schema."""
        files = self.ledger.archive_files(visit)
        if schema not in files:
            name = f"{visit}.{schema}.avro" if files else f"{visit}.avro"
            path = self.folder / name
            if path.exists() and path.stat().st_size:
                raise StoreFailed(f"{path}: expected no file that the ledger does not know")
            files[schema] = ArchiveFile(name, visit, schema, 0)
            self.ledger.new_archive_file(files[schema])
        return files[schema]
