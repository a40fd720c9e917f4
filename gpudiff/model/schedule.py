"""The plan of a night: which announced visits count, and in which order they come."""

import math
from dataclasses import dataclass, field, replace

from gpudiff.model.next_visit import HORIZONS, NextVisit

NOTED, CANCELLED, STALE, EXPIRED = "noted", "cancelled", "stale", "expired"
"""What became of an announcement: it counts; its visit is off; its revision is not above the known; too late."""
MOST = 100_000
"""Visits that are planned or remembered, at most: the oldest go first."""
KEPT_S = 3600.0
"""A visit of which no frame came is forgotten so long after its end, or after `valid_until`."""
DAY_S = 86400.0


@dataclass(frozen=True)
class Plan:
    """Announced visits; a value: each message makes a new one.

    visits : visit -> the announcement that counts
    revisions : visit -> the highest revision heard of, cancelled and past visits included
    """

    visits: dict[int, NextVisit] = field(default_factory=dict)
    revisions: dict[int, int] = field(default_factory=dict)

    def take(self, said: NextVisit, now: float) -> tuple["Plan", str]:
        """(the plan after an announcement, what became of it).  now : MJD TAI"""
        if _forgotten(said) < now:
            return self, EXPIRED
        if self.revisions.get(said.visit, -1) >= said.revision:
            return self, STALE
        gone = {said.visit, *said.supersedes}
        visits = {number: visit for number, visit in self.visits.items() if number not in gone}
        if not said.cancelled:
            visits[said.visit] = said
        revisions = {n: r for n, r in self.revisions.items() if n != said.visit} | {said.visit: said.revision}
        return Plan(_newest(visits), _newest(revisions)), CANCELLED if said.cancelled else NOTED

    def without(self, visit: int) -> "Plan":
        """The plan once a visit is over."""
        return replace(self, visits={n: v for n, v in self.visits.items() if n != visit})

    def at(self, now: float) -> "Plan":
        """The plan without the visits that are past: an announced visit that never gets a frame is normal."""
        past = [n for n, visit in self.visits.items() if _forgotten(visit) < now]
        return replace(self, visits={n: v for n, v in self.visits.items() if n not in past}) if past else self

    def in_order(self) -> list[NextVisit]:
        """The visits as they are made ready: those that are next, then the hour's, then the night's, by start."""
        return sorted(self.visits.values(), key=_rank)


def _rank(visit: NextVisit) -> tuple[int, bool, float, int]:
    unknown = math.isnan(visit.start_tai)
    return -HORIZONS.index(visit.horizon), unknown, 0.0 if unknown else visit.start_tai, visit.visit


def _forgotten(visit: NextVisit) -> float:
    """When, MJD TAI; NaN for a visit that nobody said the time of."""
    if not math.isnan(visit.valid_until):
        return visit.valid_until
    duration = 0.0 if math.isnan(visit.duration_s) else visit.duration_s
    return visit.start_tai + (duration + KEPT_S) / DAY_S


def _newest(entries: dict) -> dict:
    return dict(list(entries.items())[-MOST:]) if len(entries) > MOST else entries
