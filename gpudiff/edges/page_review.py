"""What the demo's page shows of filters, provenance and replay, as plain values."""

from typing import Any

import numpy as np

from gpudiff.edges.thumbnail import triple
from gpudiff.model.demo import Demo, FilterRecord, Replayed, Verified

SHOWN = 6
"""Cutouts of a filter's matches, at most."""


def filters(demo: Demo) -> list[dict[str, Any]]:
    """Each filter with its counts and the first alerts that it let through."""
    return [_filter(demo, one) for one in demo.review.filters]


def _filter(demo: Demo, one: FilterRecord) -> dict[str, Any]:
    whole = max(one.matches, 1)
    return {
        "name": one.name,
        "owner": one.owner,
        "where": one.where,
        "quota": one.quota,
        "matches": one.matches,
        "sent": one.sent,
        "over_quota": one.over_quota,
        "off": one.off,
        "share": 100 * one.sent / whole,
        "over_share": 100 * one.over_quota / whole,
        "cards": [card for which in one.passed[:SHOWN] for card in _card(demo, which)],
    }


def _card(demo: Demo, dia_source_id: int) -> list[dict[str, Any]]:
    """The cutouts of an alert; [] for one that the report does not have."""
    alerts = demo.recovery.alerts
    return [
        {
            "id": dia_source_id,
            "image": triple(demo.cutouts[row]),
            "snr": f"{alerts['snr'][row]:.1f}",
            "visit": int(alerts["visit"][row]),
        }
        for row in np.flatnonzero(alerts["diaSourceId"] == dia_source_id).tolist()
    ]


def verified(found: Verified | None) -> dict[str, Any] | None:
    """The alert, its verdict and its steps."""
    if found is None:
        return None
    return {
        "id": found.dia_source_id,
        "wrong": found.wrong,
        "compared": "the " + " and the ".join(found.compared),
        "steps": [
            {
                "step": one["step"],
                "version": one["version"],
                "device": one.get("device", ""),
                "inputs": ", ".join(value[:12] for value in one["inputs"]),
                "fingerprint": one["fingerprint"],
            }
            for one in found.steps
        ],
    }


def replay(found: Replayed) -> dict[str, Any]:
    """The counts, and how many alerts a second that was."""
    counts = {name: getattr(found, name) for name in ("archived", "delivered", "missing", "unexpected", "refused")}
    return {**counts, "complete": found.complete, "rate": f"{found.delivered / max(found.seconds, 1e-9):,.0f}"}
