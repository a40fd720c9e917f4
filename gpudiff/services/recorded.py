"""Recorded alerts as the rows that filters see, to try a filter before it is let loose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpudiff.edges.alert_batches import row_of, table_of
from gpudiff.edges.archive import read
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.tables import Table

BATCH = 5000
"""Alerts in memory at once: their cutouts are left where they are."""


def recorded(archive: Path) -> Iterator[tuple[Table, list[tuple[Path, int]]]]:
    """(rows: Table of OUTGOING, where each lies: its file and its number in it), some thousands at a time.

    archive : a folder of alerts (VISIT.avro), or one of a service that has it under alerts/
    Fluxes are in the alerts' unit (nJy where the frame's zero point is known), lengths in arcsec.
    Raises UnreadableFile for a folder without alert files, or without alerts in them.
    """
    folder = archive / "alerts" if (archive / "alerts").is_dir() else archive
    files, found = sorted(folder.glob("*.avro")), False
    said: list[dict[str, Any]] = []
    places: list[tuple[Path, int]] = []
    for file in files:
        for number, alert in enumerate(read(file)):
            said.append(row_of(alert))
            places.append((file, number))
            if len(said) == BATCH:
                found = True
                yield table_of(said), places
                said, places = [], []
    if said:
        yield table_of(said), places
    elif not found:
        raise UnreadableFile(f"{archive}: expected a folder of alert files (VISIT.avro), found no alert")


def alert_at(place: tuple[Path, int]) -> dict[str, Any]:
    """The whole alert that lies there."""
    return next(alert for number, alert in enumerate(read(place[0])) if number == place[1])
