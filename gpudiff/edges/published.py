"""Reads back the alerts that a service published: Avro files, one a visit, by the published field names."""

from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges import archive
from gpudiff.model.recovery import PUBLISHED
from gpudiff.model.tables import Table

CUTOUTS = ("cutoutScience", "cutoutTemplate", "cutoutDifference")


def read_alerts(folder: Path) -> tuple[Table, list[tuple[bytes | None, ...]]]:
    """The alerts in every .avro file of `folder`, as a Table of PUBLISHED, and their cutouts in FITS.

    An alert that stands there several times counts once, the last time.  The cutouts are those of science,
    template and difference.  Raises UnreadableFile for a file that is no Avro container.
    """
    rows: dict[int, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.avro")):
        rows.update((alert["diaSourceId"], alert) for alert in archive.read(path))
    alerts = [rows[key] for key in sorted(rows)]
    columns = {c.name: np.array([_value(alert, c.name) for alert in alerts], c.dtype) for c in PUBLISHED}
    return Table(PUBLISHED, columns), [tuple(alert[name] for name in CUTOUTS) for alert in alerts]


def _value(alert: dict[str, Any], name: str) -> Any:
    if name == "known":
        return bool((alert.get("association") or {}).get("known"))
    if name == "latency_s":
        seconds = (alert.get("provenance") or {}).get("latency_s")
        return float("nan") if seconds is None else seconds
    value = alert["diaSource"][name]
    return 0 if name == "diaObjectId" and value is None else value  # what moves belongs to no object
