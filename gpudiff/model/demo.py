"""What one run of `gpudiff demo` was and did."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

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
class FilterRecord:
    """A filter of the mini-broker after the night.

    quota : alerts of one visit; matches, sent, over_quota : counted by the running service; off : why it was
    switched off, ''
    passed : the diaSourceIds that the same filter let through when the night was replayed, in that order
    """

    name: str
    owner: str
    where: str
    quota: int
    matches: int
    sent: int
    over_quota: int
    off: str
    passed: tuple[int, ...]


@dataclass(frozen=True)
class Verified:
    """An alert's fingerprint, derived again from its steps.

    steps : a chain of model.provenance, frame to filter; compared : what was held against the steps' digests
    wrong : a line for each thing that differs
    """

    dia_source_id: int
    fingerprint: str
    steps: tuple[dict[str, Any], ...]
    compared: tuple[str, ...]
    wrong: tuple[str, ...]


@dataclass(frozen=True)
class Replayed:
    """The archive once more, into a sink.

    delivered, refused : by the sink; missing, unexpected : (id, revision) pairs of the archive that did not come,
    and that came without being there or twice
    """

    archived: int
    delivered: int
    refused: int
    missing: int
    unexpected: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether every alert came once, and nothing else did."""
        return not (self.refused or self.missing or self.unexpected) and self.delivered == self.archived


@dataclass(frozen=True)
class Review:
    """What was done with the alerts; verified : None when no filter let any alert through."""

    filters: tuple[FilterRecord, ...]
    verified: Verified | None
    replayed: Replayed

    @property
    def problems(self) -> list[str]:
        """What went wrong."""
        found = [f"filter {one.name} was switched off: {one.off}" for one in self.filters if one.off]
        if self.verified and self.verified.wrong:
            found.append(f"alert {self.verified.dia_source_id}: {self.verified.wrong[0]}")
        if not self.replayed.complete:
            r = self.replayed
            found.append(
                f"of {r.archived} archived alerts the replay delivered {r.delivered}, {r.missing} are missing"
            )
        return found


@dataclass(frozen=True)
class Demo:
    """Everything the report shows.

    cutouts : for each alert of `recovery`, the FITS files of science, template and difference
    seconds : wall time of each part; service_status : exit status of the service
    stored : DIASources in the ledger; review : filters, fingerprint, replay
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
    review: Review

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
        return found + self.review.problems


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
    counts = r.counts
    median, p98, largest = latency(r.alerts["latency_s"])
    good = sum(frame.good for frame in demo.frames)
    return [
        ("frames", f"{good} of {len(demo.visits) * len(demo.plane.detectors)}", "sent and committed"),
        ("injected", f"{len(r.truth)}", "changes on all frames"),
        ("detectable", f"{counts['detectable']}", "of them, with an ideal signal to noise of 5 or more"),
        (
            "found",
            f"{counts['found']} ({r.share_found:.1%})",
            "of the detectable, by an alert that is not flagged",
        ),
        ("found, flagged", f"{counts['only_flagged']}", "of the detectable, by a flagged alert only"),
        ("missed", f"{counts['missed']}", "of the detectable, no alert at all"),
        ("found below 5", f"{int((r.found & ~r.detectable).sum())}", "fainter than the detectable ones"),
        ("false", f"{counts['false']}", "unflagged alerts where nothing was put in"),
        ("false, flagged", f"{counts['false_flagged']}", "flagged alerts where nothing was put in"),
        ("new objects", f"{counts['new']}", "alerts that created an object"),
        ("moving", f"{counts['moving']}", "alerts of trails and tracklets, which make no object"),
        ("known objects", f"{counts['known']}", "alerts that joined an object seen before"),
        ("association", f"{r.right} right, {r.wrong} wrong", "later detections of a change that does not move"),
        ("latency", f"{median:.2f} s", "median, from the last pixel to the alert"),
        ("latency, p98", f"{p98:.2f} s", "98 of 100 alerts are faster"),
        ("latency, max", f"{largest:.2f} s", "the slowest alert"),
        *_reviewed(demo.review),
    ]


def _reviewed(review: Review) -> list[tuple[str, str, str]]:
    """The rows of filters, fingerprint and replay."""
    full = [one.name for one in review.filters if one.over_quota]
    sent, matches = (sum(getattr(one, name) for one in review.filters) for name in ("sent", "matches"))
    steps = f"{len(review.verified.steps)} steps" if review.verified else ""
    verdict = "nothing to verify" if not review.verified else "differs" if review.verified.wrong else "verified"
    replayed = review.replayed
    return [
        ("filters", f"{len(review.filters)}", f"sent {sent} of {matches} matches"),
        ("at their quota", f"{len(full)}", ", ".join(full) or "no filter had more matches than its quota"),
        ("fingerprint", verdict, f"{steps}, from the frame to a filter" if steps else "no filter let one through"),
        ("replayed", f"{replayed.delivered}", f"of {replayed.archived} archived alerts, compared id for id"),
    ]
