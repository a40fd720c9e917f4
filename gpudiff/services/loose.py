"""Detections of tonight that belong to nothing yet, by place: what a look at one does not grow with the night."""

import math
from collections.abc import Iterable

import numpy as np

from gpudiff.model.tables import LOOSE, Table
from gpudiff.services.sky_table import SkyTable

DAYS = 0.1
"""How long a loose detection may begin a tracklet."""
SWEEP = 0.1
"""Of DAYS, between two searches for those that are too old; frames that follow each other are closer."""


class Loose:
    """Loose detections within DAYS of the time of night, which is that of the newest one.

    Where some come that are farther from it than SWEEP of DAYS it is theirs: a night begins, a frame comes late
    or is misdated.  Nothing is forgotten for such a step alone.
    """

    def __init__(self) -> None:
        self._table = SkyTable(Table.empty(LOOSE))
        self._last = self._swept = -math.inf
        self.begin()

    def __len__(self) -> int:
        """Those that are there, perhaps with some that are too old."""
        return len(self._table)

    def add(self, detections: Table) -> None:
        """Keep detections, in place of those with the same ids.  detections : Table of LOOSE, finite positions"""
        if not len(detections):
            return
        self._table.put(detections)
        newest = float(detections["midpointMjdTai"].max())
        if abs(newest - self._last) < SWEEP * DAYS:
            self._last = max(self._last, newest)
        else:
            self._last = self._swept = newest
        if self._last > self._swept + SWEEP * DAYS:
            self._swept = self._last
            everything = self._table.everything()
            self.forget(everything["diaSourceId"][~self._young(everything)].tolist())

    def forget(self, ids: Iterable[int]) -> None:
        """Let go what has found its object, or comes again."""
        self._table.remove(ids)

    def begin(self) -> None:
        """From here on `undo` leads back to what is there now."""
        self._table.begin()
        self._times = self._last, self._swept

    def undo(self) -> None:
        """Be as at the last `begin`."""
        self._table.undo()
        self._last, self._swept = self._times

    def near(self, ra: np.ndarray, dec: np.ndarray, radius: float) -> Table:
        """Those within a radius, degrees, of any of (N,) finite places, and others round them: SkyTable.near."""
        found = self._table.near(ra, dec, radius)
        return found.take(self._young(found))

    def _young(self, table: Table) -> np.ndarray:
        return np.abs(table["midpointMjdTai"] - self._last) < DAYS
