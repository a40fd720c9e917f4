"""What is left out under load, in a fixed order, each step counted; detections never are.

The measure is how long the associator has been behind: the time since batches last did not wait for each other.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

STEPS = ("forced photometry", "full alerts", "cutouts of flagged sources", "intake")
"""Left out one after the other: the first is measured later or not at all, the second leaves later, the third is
left out of the alert, the last is not taken in until there is room."""
BEHIND_S = (2.0, 4.0, 8.0, 16.0)
"""When each begins; it ends when nothing waits any more."""


class Load:
    """How far behind the associator is, and which steps that calls for."""

    def __init__(self, monotonic: Callable[[], float]):
        self._monotonic = monotonic
        self._free_at = monotonic()
        self.level = 0
        self.counts: Counter[str] = Counter()

    def note(self, waiting: bool) -> int:
        """waiting : whether more batches wait than one transaction takes; the level: how many steps are on."""
        now = self._monotonic()
        if not waiting:
            self._free_at = now
        before, behind = self.level, now - self._free_at
        self.level = 0 if not waiting else max(before, sum(behind >= limit for limit in BEHIND_S))
        self.counts.update(STEPS[before : self.level])
        return self.level

    def on(self, step: int) -> bool:
        """Whether the step of this number, from 1, is on."""
        return self.level >= step

    def report(self) -> dict[str, Any]:
        """For associator.json: the level, the steps that are on, and how often each has begun."""
        return {"level": self.level, "left_out": list(STEPS[: self.level]), "times": dict(self.counts)}
