"""What became of the changes that a simulation put in: nouns of the demo's report."""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.tables import Column, Table

_C = Column
PUBLISHED: tuple[Column, ...] = (
    _C("diaSourceId", "i8", "", "visit << 24 | detector << 16 | rank"),
    _C("diaObjectId", "i8", "", "the object it was joined to, 0 for what moves"),
    _C("visit", "i8", "", "visit number"),
    _C("detector", "i2", "", "detector number"),
    _C("x", "f8", "pixel", "position, first pixel's centre is 0"),
    _C("y", "f8", "pixel", "position, first pixel's centre is 0"),
    _C("snr", "f4", "", "matched-filter signal to noise, absolute"),
    _C("isNegative", "?", "", "fainter than in the template"),
    _C("flags", "i8", "", "bits of model.tables.FLAGS"),
    _C("flagged", "?", "", "do not alert on this alone"),
    _C("known", "?", "", "joined an object that was known before"),
    _C("latency_s", "f8", "s", "from the last pixel to the alert; NaN when unknown"),
)
"""What the report needs of a published alert."""

DETECTABLE_SNR = 5.0


@dataclass(frozen=True)
class Recovery:
    """Truth and alerts side by side.

    truth : Table of TRUTH without cosmic rays; alerts : Table of PUBLISHED
    alert_of : (T,) row of the alert that found each change, -1 for none; an unflagged one where there is one
    truth_of : (A,) row of the change that each alert found, -1 for a false one
    detectable : (T,) bool, ideal S/N of 5 or more
    right, wrong : of changes that do not move and were found in an earlier visit too, how often the later
        detection was joined to the earlier one's object, and how often not
    why_missed : (T,) what is known of the reason, '' for what was found
    why_false : (A,) what is known of the origin, '' for what is real
    """

    truth: Table
    alerts: Table
    alert_of: np.ndarray
    truth_of: np.ndarray
    detectable: np.ndarray
    right: int
    wrong: int
    why_missed: np.ndarray
    why_false: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(T,) bool: seen by an alert that is not flagged."""
        return (self.alert_of >= 0) & ~self.only_flagged

    @property
    def only_flagged(self) -> np.ndarray:
        """(T,) bool: seen, but only by a flagged alert."""
        if not len(self.alerts):
            return np.zeros(len(self.truth), bool)
        return (self.alert_of >= 0) & self.alerts["flagged"][self.alert_of]

    @property
    def missed(self) -> np.ndarray:
        """(T,) bool: detectable, and no alert at all."""
        return self.detectable & (self.alert_of < 0)

    @property
    def false(self) -> np.ndarray:
        """(A,) bool: nothing that was put in is there."""
        return self.truth_of < 0

    @property
    def share_found(self) -> float:
        """Of the detectable changes, the share seen by an unflagged alert; NaN without any."""
        wanted = self.detectable.sum()
        return float((self.found & self.detectable).sum() / wanted) if wanted else float("nan")

    @property
    def counts(self) -> dict[str, int]:
        """How many changes were detectable, and of these found, found only flagged, and missed; how many alerts
        are false (and unflagged), false and flagged, of new objects, of known ones, and moving."""
        flagged, moving, known = self.alerts["flagged"], self.alerts["diaObjectId"] == 0, self.alerts["known"]
        masks = {
            "detectable": self.detectable,
            "found": self.found & self.detectable,
            "only_flagged": self.only_flagged & self.detectable,
            "missed": self.missed,
            "false": self.false & ~flagged,
            "false_flagged": self.false & flagged,
            "new": ~known & ~moving,
            "known": known,
            "moving": moving,
        }
        return {name: int(mask.sum()) for name, mask in masks.items()}

    def of_visit(self, visit: int) -> "Recovery":
        """The part of one visit, for its counts: `truth_of` keeps the whole's row numbers.

        Association is judged over all visits, so `right` and `wrong` are 0.
        """
        in_truth, in_alerts = self.truth["visit"] == visit, self.alerts["visit"] == visit
        renumber = np.cumsum(in_alerts) - 1
        of = self.alert_of[in_truth]
        return Recovery(
            self.truth.take(in_truth),
            self.alerts.take(in_alerts),
            np.where(of >= 0, renumber[of] if len(renumber) else -1, -1),
            self.truth_of[in_alerts],
            self.detectable[in_truth],
            0,
            0,
            self.why_missed[in_truth],
            self.why_false[in_alerts],
        )
