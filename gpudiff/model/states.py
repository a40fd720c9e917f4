"""The states of a visit and of one of its detectors, and which may follow which."""

from gpudiff.model.errors import BadMessage

VISIT: dict[str, tuple[str, ...]] = {
    "": ("PLANNED", "ANNOUNCED", "COLLECTING"),
    "PLANNED": ("ANNOUNCED", "COLLECTING", "SUPERSEDED", "CANCELLED", "ABANDONED"),
    "ANNOUNCED": ("PRIMED", "COLLECTING", "SUPERSEDED", "CANCELLED", "ABANDONED"),
    "PRIMED": ("COLLECTING", "SUPERSEDED", "CANCELLED", "ABANDONED"),
    "COLLECTING": ("CLOSED",),
    "CLOSED": ("PUBLISHED", "COLLECTING"),
    "PUBLISHED": ("SEALED", "COLLECTING"),
    "SEALED": (),
    "SUPERSEDED": ("COLLECTING",),
    "CANCELLED": ("COLLECTING",),
    "ABANDONED": ("COLLECTING",),
}
"""'' is a visit nobody spoke of yet; a late frame opens a closed visit again, but not a sealed one."""

DETECTOR: dict[str, tuple[str, ...]] = {
    "": ("EXPECTED", "LEASED", "COMMITTED", "MISSING", "FAILED", "OFF"),
    "EXPECTED": ("LEASED", "COMMITTED", "MISSING", "FAILED", "OFF"),
    "LEASED": ("EXPECTED", "COMMITTED", "MISSING", "FAILED"),
    "COMMITTED": ("COMMITTED",),
    "MISSING": ("LEASED", "COMMITTED", "FAILED"),
    "FAILED": ("EXPECTED", "LEASED", "COMMITTED"),
    "OFF": ("EXPECTED",),
}
"""COMMITTED follows itself: another software's result of the same frame is a new revision."""


def check(allowed: dict[str, tuple[str, ...]], name: str, before: str, after: str) -> None:
    """Raises BadMessage, naming what would change, unless `after` may follow `before`."""
    if after not in allowed[before]:
        follow = ", ".join(allowed[before]) or "nothing"
        raise BadMessage(f"{name}: {after} cannot follow {before or 'nothing'}, expected {follow}")
