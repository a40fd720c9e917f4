"""The artefact breaker: a frame with far more detections than its detector's running median is suspect."""

from collections import defaultdict, deque
from statistics import median

REMEMBERED, ENOUGH = 50, 5
"""Frames of a detector in its running median; fewer than ENOUGH make none."""
LEAST = 100
"""Detections that are never suspect, however few there were before."""


class Breaker:
    """What each detector's frames held of late.  Suspect frames do not count towards the median."""

    def __init__(self, factor: float, largest: int):
        """factor : times the median; largest : detections in one frame"""
        self.factor, self.largest = factor, largest
        self._counts: dict[int, deque[int]] = defaultdict(lambda: deque(maxlen=REMEMBERED))

    def judge(self, detector: int, count: int) -> str:
        """Why a frame with so many detections is suspect, '' when it is not."""
        earlier = self._counts[detector]
        usual = median(earlier) if len(earlier) >= ENOUGH else None
        if count > self.largest:
            return f"suspect: {count} detections, at most {self.largest} expected"
        if usual is not None and count > max(LEAST, self.factor * usual):
            return f"suspect: {count} detections, {usual:.0f} in the median"
        return ""

    def note(self, detector: int, count: int) -> None:
        """Remember a frame that was not suspect."""
        self._counts[detector].append(count)
