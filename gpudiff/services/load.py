"""What is left out under load, in a fixed order, each step counted; detections never are.

The measure is how long the associator has been behind: the time since no batch waited for another.  Its answers
tell the differencers, which do the first step and the last.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

STEPS = ("forced photometry", "full alerts", "cutouts of flagged sources", "intake")
"""Left out one after the other: the first is measured later (services.backlog), the second leaves later, the third
is left out of the alert, the last is not taken in until there is room."""
FORCED, FULL_ALERTS, CUTOUTS, INTAKE = range(1, 5)
TIMES = (1, 2, 4, 8)
"""When each begins, in units of the patience; it ends when nothing waits any more."""


class Level:
    """How many of STEPS are on, and how often each has begun."""

    def __init__(self) -> None:
        self.level = 0
        self.counts: Counter[str] = Counter()

    def set(self, level: int) -> bool:
        """So many steps are on now, 0 to 4; whether that is a change."""
        before, self.level = self.level, min(max(level, 0), len(STEPS))
        self.counts.update(STEPS[before : self.level])
        return before != self.level

    def on(self, step: int) -> bool:
        """Whether the step of this number, from 1, is on."""
        return self.level >= step

    def report(self) -> dict[str, Any]:
        """For status files: the level, the steps that are on, and how often each has begun."""
        return {"level": self.level, "left_out": list(STEPS[: self.level]), "times": dict(self.counts)}


class Load(Level):
    """How far behind the associator is, and which steps that calls for."""

    def __init__(self, monotonic: Callable[[], float], patience_s: float):
        """patience_s : how long batches may wait for each other before the first step begins"""
        super().__init__()
        self._monotonic, self._limits = monotonic, [patience_s * times for times in TIMES]
        self._free_at = monotonic()

    def note(self, waiting: bool) -> bool:
        """waiting : whether a batch has waited for those before it; whether steps began or ended by that."""
        now = self._monotonic()
        if not waiting:
            self._free_at = now
            return self.set(0)
        behind = now - self._free_at
        return self.set(max(self.level, sum(behind >= limit for limit in self._limits)))
