"""Visits: which detectors are expected, which are missing, when a visit's books are closed.

Alerts never wait for any of this.  Times between two moments are counted by a monotonic clock from when the
associator first heard of a visit's frames, so a clock that jumps closes nothing; MJD TAI is only written down.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.ledger import Ledger
from gpudiff.model import config, states
from gpudiff.model.errors import BadMessage, StoreFailed
from gpudiff.model.frame import FrameId

LONGEST_AHEAD_S = 3600.0
"""The readout of an announced visit is awaited no longer than this."""
IN_TIME, IN_TIME_S = 0.98, 60.0
"""What an observatory promises: so many of a visit's alerts so soon after the end of its readout."""
TERMINAL = ("COMMITTED", "MISSING", "FAILED", "OFF")
OPEN = ("PLANNED", "ANNOUNCED", "PRIMED", "COLLECTING", "CLOSED", "PUBLISHED")


@dataclass
class Timer:
    """A visit's deadlines, by the monotonic clock.

    armed : a frame has come; waits : the visit is closed, and some of its alerts are still to leave;
    resting : it is published, and nothing is to be done before it is sealed;
    expected : whether any of its detectors was announced, None as long as the ledger was not asked
    """

    missing_at: float
    close_at: float
    seal_at: float = float("inf")
    armed: bool = False
    waits: bool = False
    resting: bool = False
    expected: bool | None = None


class Visits:
    """The visits that are not sealed.  The ledger has their states; this has their clocks."""

    def __init__(
        self,
        ledger: Ledger,
        directory: Path,
        settings: config.Ledger,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ):
        """Visits that an earlier run left open get their full time again.

        `counts` : detectors missing and failed, visits closed and published, and in_time: published ones with a
        committed frame, of whose alerts IN_TIME, at the least, had left within IN_TIME_S
        """
        self.ledger, self.path, self.settings = ledger, directory / "visits.jsonl", settings
        self.clock, self.monotonic = clock, monotonic
        self.counts: Counter[str] = Counter()
        self._timers: dict[int, Timer] = {}
        for row in ledger.visits():
            if row["state"] in OPEN:
                timer = self._timers[row["visit"]] = self._timer(0.0)
                if row["state"] in ("CLOSED", "PUBLISHED"):
                    timer.close_at, timer.seal_at = float("inf"), self.monotonic() + settings.seal_s

    def open(self) -> dict[str, str]:
        """The state of each visit that is not published."""
        awake = [visit for visit, timer in self._timers.items() if not timer.resting]
        found = {str(n): "CLOSED" if self._timers[n].waits else self.ledger.state(n) for n in awake}
        return {visit: state for visit, state in found.items() if state != "PUBLISHED"}

    # ------------------------------------------------------------ what happens to a visit
    def announce(
        self, visit: int, detectors: Sequence[int], readout_end_tai: float | None = None, snaps: int = 1
    ) -> None:
        """These detectors of a visit are to be expected; those of them that have a state keep it.

        readout_end_tai : MJD TAI of the last one's end, None when nobody knows.  Raises BadMessage for a visit
        that is sealed.
        """
        now = self.clock()
        with self.ledger.transaction():
            if self.ledger.state(visit) in ("", "PLANNED"):
                self.ledger.move_visit(visit, "ANNOUNCED", now, "announced")
            known = self.ledger.detectors(visit)
            for detector in detectors:
                for snap in range(snaps):
                    if (snap, detector) not in known:
                        self.ledger.move_detector(FrameId(visit, snap, detector), "EXPECTED", now, "announced")
            if readout_end_tai is not None:
                self.ledger.expect(visit, readout_end_tai)
        ahead = 0.0 if readout_end_tai is None else (readout_end_tai - now) * 86400
        if visit not in self._timers or not self._timers[visit].armed:
            self._timers[visit] = self._timer(min(max(ahead, 0.0), LONGEST_AHEAD_S))
        timer = self._timers[visit]
        timer.expected, timer.waits, timer.resting = bool(detectors) or None, False, False

    def move(self, visit: int, state: str, reason: str = "") -> None:
        """SUPERSEDED, CANCELLED, ABANDONED, PLANNED or PRIMED; raises BadMessage where that cannot be."""
        self.ledger.move_visit(visit, state, self.clock(), reason)
        if state not in OPEN:
            self._timers.pop(visit, None)

    def failed(self, frame: FrameId, reason: str) -> None:
        """A frame was given up: it is a dead letter.  Raises BadMessage when it is committed.

        The first frame of its visit begins that, as one that is committed does: a visit of which every frame is
        refused is closed with their number.
        """
        now = self.clock()
        with self.ledger.transaction():
            self.ledger.move_detector(frame, "FAILED", now, reason)
            first = self.ledger.state(frame.visit) in ("", "PLANNED", "ANNOUNCED", "PRIMED")
            if first:
                self.ledger.move_visit(frame.visit, "COLLECTING", now, "frame failed")
        if first:
            self.seen(frame, float("nan"))
        self.counts["failed"] += 1

    def admit(self, visit: int) -> None:
        """Raises BadMessage for a visit that is sealed, before its archive file, which may be elsewhere, is
        touched."""
        if (state := self.ledger.state(visit)) != "COLLECTING":
            states.check(states.VISIT, f"visit {visit}", state, "COLLECTING")

    def late(self, frame: FrameId) -> bool:
        """Whether a frame that comes now comes after it was given up, or its visit was closed."""
        state = self.ledger.state(frame.visit, frame.snap, frame.detector)
        return state in ("MISSING", "FAILED") or self.ledger.state(frame.visit) in ("CLOSED", "PUBLISHED")

    def seen(self, frame: FrameId, readout_end_tai: float) -> None:
        """A frame is about to be committed: from the first one on, the visit's time runs."""
        timer = self._timers.get(frame.visit)
        if timer is None or not timer.armed:
            timer = self._timers[frame.visit] = self._timer(0.0)
            timer.armed = True
        elif timer.close_at == float("inf"):  # closed before: it is open again
            timer.close_at, timer.seal_at = self.monotonic() + self.settings.close_s, float("inf")
        timer.waits = timer.resting = False

    def left(self, visits: Iterable[int]) -> None:
        """Some alerts of these visits need not be waited for any more: they have left, or never will."""
        for visit in visits:
            if visit in self._timers:
                self._timers[visit].waits = False

    # ------------------------------------------------------------ what time does to it
    def tick(self) -> None:
        """Do what is due."""
        now = self.monotonic()
        for visit, timer in list(self._timers.items()):
            if not timer.waits and (not timer.resting or now >= timer.seal_at):
                self._tick(visit, timer, now)

    def _tick(self, visit: int, timer: Timer, now: float) -> None:
        state = self.ledger.state(visit)
        if now >= timer.missing_at:
            timer.missing_at = float("inf")
            self._give_up(visit)
        if state == "COLLECTING" and (now >= timer.close_at or (timer.armed and self._complete(visit))):
            timer.close_at, timer.seal_at = float("inf"), now + self.settings.seal_s
            self._close(visit)
            state = "CLOSED"
        elif state in ("PLANNED", "ANNOUNCED", "PRIMED") and now >= timer.close_at:
            self.move(visit, "ABANDONED", "no frame came")
        waiting = state == "CLOSED" and self.ledger.waiting(visit) > 0
        if state == "CLOSED" and not waiting:
            self.ledger.move_visit(visit, "PUBLISHED", self.clock(), "outbox is empty")
            seconds = self.ledger.latencies(visit)
            some = "COMMITTED" in self.ledger.detectors(visit).values()
            early = np.count_nonzero(seconds <= IN_TIME_S) >= IN_TIME * len(seconds)
            self.counts["published"] += 1
            self.counts["in_time"] += bool(some and early)
            state = "PUBLISHED"
        done = timer.missing_at == float("inf")
        timer.waits, timer.resting = waiting and done, state == "PUBLISHED" and done
        if state == "PUBLISHED" and now >= timer.seal_at:
            self.ledger.move_visit(visit, "SEALED", self.clock(), "time")
            del self._timers[visit]

    def _timer(self, ahead: float) -> Timer:
        """Of a visit whose readout ends so many seconds from now."""
        start = self.monotonic() + ahead
        return Timer(start + self.settings.missing_s, start + self.settings.close_s)

    def _give_up(self, visit: int) -> None:
        for (snap, detector), state in self.ledger.detectors(visit).items():
            if state in ("EXPECTED", "LEASED"):
                reason = f"no frame within {self.settings.missing_s:g} s"
                self.ledger.move_detector(FrameId(visit, snap, detector), "MISSING", self.clock(), reason)
                self.counts["missing"] += 1

    def _complete(self, visit: int) -> bool:
        """Whether all detectors that were announced of a visit are done; where none was, nobody knows."""
        timer = self._timers[visit]
        if timer.expected is None:
            timer.expected = any(row["after"] == "EXPECTED" for row in self.ledger.transitions(visit))
        return timer.expected and all(state in TERMINAL for state in self.ledger.detectors(visit).values())

    def _close(self, visit: int) -> None:
        """Close the books: one row and one line that sum the visit up."""
        with self.ledger.transaction():
            self.ledger.move_visit(visit, "CLOSED", self.clock(), "complete" if self._complete(visit) else "time")
            summary = summarise(self.ledger, visit) | {"closed_tai": self.clock()}
            self.ledger.summarise(visit, summary)
        self.counts["closed"] += 1
        try:
            with open(self.path, "a") as file:
                file.write(json.dumps(summary) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreFailed(f"{self.path}: {error.strerror}") from None


def summarise(ledger: Ledger, visit: int) -> dict[str, Any]:
    """A visit in a dozen numbers: its detectors, its sources by kind, its alerts' latency in seconds."""
    counts = ledger.counts(visit)
    seconds = ledger.latencies(visit)
    names, quantiles = ("latency_median_s", "latency_p98_s", "latency_max_s"), (0.5, 0.98, 1.0)
    values = np.quantile(seconds, quantiles).tolist() if len(seconds) else [None] * 3
    return {"visit": visit, **counts, **dict(zip(names, values, strict=True))}


def obey(said: dict[str, Any], visits: Visits, ledger: Ledger, now: float) -> int:
    """Do what a control message says (edges/detections.py); how many frames it let go, 0 else.

    Raises BadMessage for words or values that do not fit.
    """
    word = said["say"]
    try:
        if word == "announce":
            detectors = [_whole(one) for one in said["detectors"]]
            visits.announce(
                _whole(said["visit"]), detectors, said.get("readout_end_tai"), _whole(said.get("snaps", 1))
            )
        elif word == "failed":
            frame = FrameId(*(_whole(said[name]) for name in ("visit", "snap", "detector")))
            visits.failed(frame, str(said.get("reason", "")))
        elif word == "visit":
            visits.move(_whole(said["visit"]), str(said["state"]), str(said.get("reason", "")))
        elif word == "release":
            which = said.get("detector")
            detector = None if which is None else _whole(which)
            visit = _whole(said["visit"])
            visits.left([visit])
            return ledger.release(visit, detector, bool(said.get("drop")), now)
        elif word != "load":  # which asks for nothing but the answer
            raise BadMessage(f"control: expected announce, failed, visit, release or load, got {word!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise BadMessage(f"control {word}: {type(error).__name__} {error}") from None
    return 0


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 39:
        raise ValueError(f"expected a whole number, got {value!r}")
    return value
