"""Archived alerts as they left: one OutgoingBatch a frame and revision, in order of time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_table import decode
from gpudiff.model.association import KINDS, NEW
from gpudiff.model.outgoing import OUTGOING, OutgoingBatch
from gpudiff.model.tables import Table

WANTED = (
    '{"diaSource": {}, "association": {}, "provenance": {}, '
    '"diaObject": {"nDiaSources": {}, "firstDiaSourceMjdTai": {}}}'
)
MOST = 1000
"""Alerts in one batch."""


def batches(archive: AlertArchive, rows: Table, schema_id: int) -> Iterator[tuple[float, OutgoingBatch]]:
    """(MJD TAI, batch) of the alerts in rows of PLACED; those of unknown time come first, at the first time.

    schema_id : the number in Confluent framing.  Rows are as `row_of` has them, fluxes in the alerts' unit.
    """
    times = rows["midpointMjdTai"]
    first = float(np.nanmin(times)) if np.isfinite(times).any() else 0.0
    times = np.where(np.isfinite(times), times, first)
    keys = (rows["diaSourceId"], rows["revision"], rows["detector"], rows["visit"], times)
    order = np.lexsort(keys)
    ordered = [key[order] for key in keys]
    changes = np.any([key[1:] != key[:-1] for key in ordered[1:]], axis=0) if len(order) else np.zeros(0, bool)
    for group in np.split(order, np.flatnonzero(changes) + 1):
        for start in range(0, len(group), MOST):
            part = group[start : start + MOST]
            yield float(times[part[0]]), _batch(archive, rows.take(part), schema_id)


def row_of(alert: dict[str, Any]) -> dict[str, Any]:
    """What an alert says under the names of OUTGOING; what it lacks is 0, NaN or ''.

    Without a diaObject this detection is the object's only one; without a kind that we know it is new.
    """
    source, association = alert["diaSource"], alert.get("association") or {}
    alone = {"nDiaSources": 1, "firstDiaSourceMjdTai": source.get("midpointMjdTai")}
    about, kind = alert.get("diaObject") or alone, association.get("kind")
    said = {
        **source,
        **{name: about.get(name) for name in alone},
        "kind": KINDS.index(kind) if kind in KINDS else NEW,
        "probability": association.get("probability"),
        "revision": (alert.get("provenance") or {}).get("revision"),
    }
    return {c.name: c.nothing if said.get(c.name) is None else said[c.name] for c in OUTGOING}


def table_of(rows: Sequence[dict[str, Any]]) -> Table:
    """Table of OUTGOING of what `row_of` says."""
    return Table(OUTGOING, {c.name: [row[c.name] for row in rows] for c in OUTGOING})


def _batch(archive: AlertArchive, rows: Table, schema_id: int) -> OutgoingBatch:
    stored = list(archive.alerts(rows))
    alerts = [decode(one, WANTED) for one in stored]
    fingerprint = bytes((alerts[0].get("provenance") or {}).get("fingerprint") or b"").hex()
    said = table_of([row_of(alert) for alert in alerts])
    return OutgoingBatch(said, [one.alert for one in stored], stored[0].schema, schema_id, fingerprint)
