"""Which alerts are which injected changes, and what is known of the rest."""

import numpy as np

from gpudiff.model.recovery import DETECTABLE_SNR, Recovery
from gpudiff.model.tables import Table

RADIUS_PX = 3.0
"""An alert this close to a change, or to its trail, and of its sign, has found it."""
BESIDE_PX = 12.0
"""A false alert this close to a change is put down to its residual."""
MARGINAL_SNR = 6.0


def recover(truth: Table, alerts: Table, lost: frozenset[tuple[int, int]] = frozenset()) -> Recovery:
    """Truth and alerts matched frame by frame, one to one, unflagged alerts first, then the nearest pairs.

    truth : Table of TRUTH; its cosmic rays only serve to explain false alerts
    alerts : Table of PUBLISHED
    lost : (visit, detector) of the frames that the service did not take
    """
    rays = truth.take(truth["kind"] == "cosmic-ray")
    changes = truth.take(truth["kind"] != "cosmic-ray")
    alert_of, truth_of = np.full(len(changes), -1), np.full(len(alerts), -1)
    for rows, seen in _frames(changes, alerts):
        for row, alert in _pairs(changes, alerts, rows, seen):
            alert_of[row], truth_of[alert] = alert, row
    right, wrong = _associations(changes, alerts, alert_of)
    detectable = changes["snr"] >= DETECTABLE_SNR
    return Recovery(
        changes,
        alerts,
        alert_of,
        truth_of,
        detectable,
        right,
        wrong,
        _why_missed(changes, alert_of, lost),
        _why_false(changes, rays, alerts, truth_of),
    )


def distances(changes: Table, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(A, T) px from each position to each change, or to the nearest point of its trail."""
    dx, dy = x[:, None] - changes["x"], y[:, None] - changes["y"]
    angle = np.radians(changes["trailAngle"])
    along = dx * np.cos(angle) + dy * np.sin(angle)
    half = 0.5 * changes["trailLength"]
    beyond = np.maximum(np.abs(along) - half, 0)
    return np.hypot(beyond, dy * np.cos(angle) - dx * np.sin(angle))


def _frames(changes: Table, alerts: Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows of changes and of alerts, frame by frame."""
    key, seen = (t["visit"] * 256 + t["detector"] for t in (changes, alerts))
    return [(np.flatnonzero(key == k), np.flatnonzero(seen == k)) for k in np.intersect1d(key, seen)]


def _pairs(changes: Table, alerts: Table, rows: np.ndarray, seen: np.ndarray) -> list[tuple[int, int]]:
    here, there = changes.take(rows), alerts.take(seen)
    away = distances(here, there["x"], there["y"])
    sign = (here["flux"] < 0) == there["isNegative"][:, None]
    close = np.argwhere(sign & (away <= RADIUS_PX))
    order = sorted(close.tolist(), key=lambda one: (there["flagged"][one[0]], away[tuple(one)]))
    pairs, used_alerts, used_changes = [], set(), set()
    for a, t in order:
        if a not in used_alerts and t not in used_changes:
            used_alerts.add(a)
            used_changes.add(t)
            pairs.append((int(rows[t]), int(seen[a])))
    return pairs


def _associations(changes: Table, alerts: Table, alert_of: np.ndarray) -> tuple[int, int]:
    """Right and wrong: was a later detection of a change joined to the first one's object?"""
    right = wrong = 0
    still = changes["kind"] != "moving"
    for one in np.unique(changes["objectId"][still]):
        rows = np.flatnonzero(still & (changes["objectId"] == one) & (alert_of >= 0))
        rows = rows[np.argsort(changes["visit"][rows])]
        objects = alerts["diaObjectId"][alert_of[rows]]
        right += int((objects[1:] == objects[:1]).sum())
        wrong += int((objects[1:] != objects[:1]).sum())
    return right, wrong


def _why_missed(changes: Table, alert_of: np.ndarray, lost: frozenset[tuple[int, int]]) -> np.ndarray:
    """(T,) str."""
    why = [""] * len(changes)
    for n, row in enumerate(changes.rows()):
        if alert_of[n] >= 0:
            continue
        frame = (row["visit"], row["detector"])
        if frame in lost:
            why[n] = "its frame was not taken"
        elif row["usable"] < 0.9:
            why[n] = f"{1 - row['usable']:.0%} of it lies on bad or saturated pixels"
        elif row["snr"] < MARGINAL_SNR:
            why[n] = "at the threshold: the template's noise, or chance, took it below"
        elif row["place"] == "near-star":
            why[n] = "beside a star"
        elif row["trailLength"] > RADIUS_PX:
            why[n] = "trailed"
        else:
            why[n] = "unknown"
    return np.array(why, dtype=object)


def _why_false(changes: Table, rays: Table, alerts: Table, truth_of: np.ndarray) -> np.ndarray:
    """(A,) str."""
    why = np.full(len(alerts), "", dtype=object)
    for n in np.flatnonzero(truth_of < 0):
        at = alerts.take([n])
        in_frame = [
            t.take((t["visit"] == at["visit"]) & (t["detector"] == at["detector"])) for t in (rays, changes)
        ]
        ray, change = (distances(t, at["x"], at["y"])[0] for t in in_frame)
        if ray.min(initial=np.inf) < 3 * RADIUS_PX:
            why[n] = "cosmic ray"
        elif change.min(initial=np.inf) < BESIDE_PX:
            why[n] = f"beside a {in_frame[1]['kind'][change.argmin()]} source"
        else:
            why[n] = "unknown"
    return why
