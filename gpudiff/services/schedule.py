"""Schedule: the announced visits, shared by the thread that hears of them and the one that makes them ready."""

import threading

from gpudiff.model.clock import tai_now
from gpudiff.model.next_visit import NextVisit
from gpudiff.model.schedule import Plan

REMEMBERED = 1000
"""Visits whose frames came that are kept in mind, so that each is counted once."""
ANNOUNCED, UNANNOUNCED = "announced", "unannounced"


class Schedule:
    """The plan that counts now (model.schedule).

    version : grows with every change, of which `changed` tells those who wait
    last : the announcement of the visit whose frames came last, None before that
    """

    def __init__(self) -> None:
        self.plan, self.version = Plan(), 0
        self.last: NextVisit | None = None
        self.changed = threading.Condition()
        self._seen: dict[int, None] = {}

    def hear(self, said: NextVisit) -> str:
        """Take an announcement; what became of it."""
        now = tai_now()
        with self.changed:
            plan, outcome = self.plan.at(now).take(said, now)
            self._set(plan)
        return outcome

    def frame_came(self, visit: int) -> str | None:
        """With the first frame of a visit, whether it was announced or unannounced; None with all others."""
        if visit in self._seen:
            return None
        self._seen[visit] = None
        if len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        said = self.plan.visits.get(visit)
        if said is None:
            return UNANNOUNCED
        with self.changed:
            self.last = said
            self._set(self.plan.without(visit))
        return ANNOUNCED

    def _set(self, plan: Plan) -> None:
        if plan is not self.plan:
            self.plan, self.version = plan, self.version + 1
            self.changed.notify_all()
