"""Archived alerts as they left: one OutgoingBatch a frame and revision, in order of time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_table import decode
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

    schema_id : the number in Confluent framing.  Columns that an alert lacks are 0, NaN or ''; fluxes are in the
    unit in which the alert has them.
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


def _batch(archive: AlertArchive, rows: Table, schema_id: int) -> OutgoingBatch:
    stored = list(archive.alerts(rows))
    flat = [_flat(decode(one, WANTED)) for one in stored]
    columns = {}
    for column in OUTGOING:
        columns[column.name] = [
            column.nothing if (value := one.get(column.name)) is None else value for one in flat
        ]
    fingerprint = bytes(flat[0].get("fingerprint") or b"").hex()
    alerts = [one.alert for one in stored]
    return OutgoingBatch(Table(OUTGOING, columns), alerts, stored[0].schema, schema_id, fingerprint)


def _flat(alert: dict[str, Any]) -> dict[str, Any]:
    """One dict of what an alert says, by column name; a kind that is a word becomes its number."""
    from gpudiff.model import association

    flat = {**(alert.get("diaObject") or {}), **(alert.get("association") or {})}
    flat |= {**(alert.get("diaSource") or {}), **(alert.get("provenance") or {})}
    if isinstance(flat.get("kind"), str):
        flat["kind"] = getattr(association, flat["kind"].upper(), 0)
    return flat
