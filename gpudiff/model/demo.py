"""What one run of `gpudiff demo` was and did."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from gpudiff.model.recovery import Recovery
from gpudiff.model.scene import FocalPlane, Night, Visit

MIN_FOUND = 0.7
"""Of the detectable changes; below it the demo has failed."""


@dataclass(frozen=True)
class FrameRecord:
    """One frame's way: its final receipt and when it was sent and answered.

    status : as in the receipt; reason : why it was not taken, ''; sources, alerts : of the receipt
    answered_s : from the last pixel to the receipt
    """

    visit: int
    detector: int
    status: str
    sources: int
    alerts: int
    answered_s: float
    reason: str = ""

    @property
    def good(self) -> bool:
        return self.status in ("done", "duplicate")


@dataclass(frozen=True)
class Demo:
    """Everything the report shows.

    cutouts : for each alert of `recovery`, the FITS files of science, template and difference
    seconds : wall time of each part; service_status : exit status of the service
    stored : DIASources in the ledger
    """

    night: Night
    plane: FocalPlane
    visits: tuple[Visit, ...]
    frames: tuple[FrameRecord, ...]
    recovery: Recovery
    cutouts: list[tuple[bytes | None, ...]]
    seconds: dict[str, float]
    service_status: int
    stored: int

    @property
    def problems(self) -> list[str]:
        """Why this run does not count as one that worked."""
        found = []
        expected = len(self.visits) * len(self.plane.detectors)
        good = sum(frame.good for frame in self.frames)
        if good != expected:
            found.append(f"{expected - good} of {expected} frames were not taken: {_reasons(self.frames)}")
        promised = sum(frame.alerts for frame in self.frames)
        if promised != len(self.recovery.alerts):
            found.append(f"receipts promise {promised} alerts, the archive holds {len(self.recovery.alerts)}")
        if self.stored != len(self.recovery.alerts):
            found.append(
                f"the ledger holds {self.stored} DIASources, the archive {len(self.recovery.alerts)} alerts"
            )
        if not self.recovery.detectable.any():
            found.append("no detectable change was put in, so nothing was tried")
        elif self.recovery.share_found < MIN_FOUND:
            share = f"{self.recovery.share_found:.0%}"
            found.append(f"only {share} of the detectable changes were found, expected {MIN_FOUND:.0%} or more")
        if self.service_status != 0:
            found.append(f"the service stopped with exit status {self.service_status}")
        return found


def _reasons(frames: tuple[FrameRecord, ...]) -> str:
    """The three most frequent reasons, each once, without the frames' names."""
    counts = Counter(re.sub(r"frame \d+/\d+/\d+: ", "", f.reason or f.status) for f in frames if not f.good)
    listed = [f"{reason} ({count} times)" for reason, count in counts.most_common(3)]
    return "; ".join(listed) or "no receipt"


def latency(values: np.ndarray) -> tuple[float, float, float]:
    """Median, 98th percentile and maximum of what is finite; NaN without any."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return (float("nan"),) * 3
    return float(np.median(finite)), float(np.percentile(finite, 98)), float(finite.max())


def summary(demo: Demo) -> list[tuple[str, str, str]]:
    """The table with which a demo ends: what, how much, and what that means."""
    r = demo.recovery
    detectable, found = int(r.detectable.sum()), int((r.found & r.detectable).sum())
    flagged, moving = r.alerts["flagged"], r.alerts["diaObjectId"] == 0
    median, p98, largest = latency(r.alerts["latency_s"])
    good = sum(frame.good for frame in demo.frames)
    return [
        ("frames", f"{good} of {len(demo.visits) * len(demo.plane.detectors)}", "sent and committed"),
        ("injected", f"{len(r.truth)}", "changes on all frames"),
        ("detectable", f"{detectable}", "of them, with an ideal signal to noise of 5 or more"),
        ("found", f"{found} ({r.share_found:.1%})", "of the detectable, by an alert that is not flagged"),
        (
            "found, flagged",
            f"{int((r.only_flagged & r.detectable).sum())}",
            "of the detectable, by a flagged alert only",
        ),
        ("missed", f"{int(r.missed.sum())}", "of the detectable, no alert at all"),
        ("found below 5", f"{int((r.found & ~r.detectable).sum())}", "fainter than the detectable ones"),
        ("false", f"{int((r.false & ~flagged).sum())}", "unflagged alerts where nothing was put in"),
        ("false, flagged", f"{int((r.false & flagged).sum())}", "flagged alerts where nothing was put in"),
        ("new objects", f"{int((~r.alerts['known'] & ~moving).sum())}", "alerts that created an object"),
        ("moving", f"{int(moving.sum())}", "alerts of trails and tracklets, which make no object"),
        ("known objects", f"{int(r.alerts['known'].sum())}", "alerts that joined an object seen before"),
        (
            "association",
            f"{r.right} right, {r.wrong} wrong",
            "later detections of a change that does not move",
        ),
        ("latency", f"{median:.2f} s", "median, from the last pixel to the alert"),
        ("latency, p98", f"{p98:.2f} s", "98 of 100 alerts are faster"),
        ("latency, max", f"{largest:.2f} s", "the slowest alert"),
    ]
