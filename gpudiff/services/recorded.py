"""Recorded alerts as the rows that filters see, to try a filter before it is let loose."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.archive import read
from gpudiff.model.association import KINDS
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.outgoing import OUTGOING
from gpudiff.model.tables import Table

BATCH = 5000
"""Alerts in memory at once: their cutouts are left where they are."""


def recorded(archive: Path) -> Iterator[tuple[Table, list[tuple[Path, int]]]]:
    """(rows: Table of OUTGOING, where each lies: its file and its number in it), some thousands at a time.

    archive : a folder of alerts (VISIT.avro), or one of a service that has it under alerts/
    Fluxes are in the alerts' unit (nJy where the frame's zero point is known), lengths in arcsec.
    Raises UnreadableFile for a folder without alert files.
    """
    folder = archive / "alerts" if (archive / "alerts").is_dir() else archive
    files = sorted(folder.glob("*.avro"))
    if not files:
        raise UnreadableFile(f"{archive}: expected a folder of alert files (VISIT.avro), found none")
    said: list[dict[str, Any]] = []
    places: list[tuple[Path, int]] = []
    for file in files:
        for number, alert in enumerate(read(file)):
            said.append(_row(alert))
            places.append((file, number))
            if len(said) == BATCH:
                yield _table(said), places
                said, places = [], []
    if said:
        yield _table(said), places


def alert_at(place: tuple[Path, int]) -> dict[str, Any]:
    """The whole alert that lies there."""
    return next(alert for number, alert in enumerate(read(place[0])) if number == place[1])


def _row(alert: dict[str, Any]) -> dict[str, Any]:
    """What an alert says under the names of OUTGOING; null as NaN, 0 or ''."""
    source, about = alert["diaSource"], alert.get("diaObject") or {}
    association = alert.get("association") or {}
    values = {
        **source,
        "kind": KINDS.index(association.get("kind", "new")),
        "probability": association.get("probability"),
        "revision": (alert.get("provenance") or {}).get("revision", 0),
        "nDiaSources": about.get("nDiaSources", 1),
        "firstDiaSourceMjdTai": about.get("firstDiaSourceMjdTai"),
    }
    return {c.name: c.nothing if (value := values.get(c.name)) is None else value for c in OUTGOING}


def _table(said: list[dict[str, Any]]) -> Table:
    return Table(OUTGOING, {c.name: np.array([row[c.name] for row in said], c.dtype) for c in OUTGOING})
