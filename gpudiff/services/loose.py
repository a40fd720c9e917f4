"""Detections of tonight that belong to nothing yet, by cells of the sky: what a look at one place costs does not
grow with the night."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from gpudiff.model.sky import within
from gpudiff.model.tables import LOOSE, Table, concatenate

DAYS = 0.1
"""How long a loose detection may begin a tracklet."""
SWEEP = 0.1
"""Of DAYS, between two clearings of all cells."""
Cell = tuple[int, int]
"""Belt of one degree of declination, and part of it, about a degree of right ascension wide."""


class Loose:
    """Loose detections of the last DAYS before the newest one."""

    def __init__(self) -> None:
        self._cells: dict[Cell, list[Table]] = defaultdict(list)
        self._there: dict[int, Cell] = {}
        self._last = self._swept = -math.inf

    def __len__(self) -> int:
        """Those that are there, perhaps with some that are too old."""
        return len(self._there)

    def add(self, detections: Table) -> None:
        """Keep detections, in place of those with the same ids.  detections : Table of LOOSE, finite positions"""
        if not len(detections):
            return
        self.forget(detections["diaSourceId"].tolist())
        belt, part = _cells(detections["ra"], detections["dec"])
        cells = list(zip(belt.tolist(), part.tolist(), strict=True))
        for cell in set(cells):
            self._cells[cell].append(detections.take((belt == cell[0]) & (part == cell[1])))
        self._there.update(zip(detections["diaSourceId"].tolist(), cells, strict=True))
        self._last = max(self._last, float(detections["midpointMjdTai"].max()))
        if self._last > self._swept + SWEEP * DAYS:
            self._swept = self._last
            self._clear(list(self._cells))

    def forget(self, ids: Iterable[int]) -> None:
        """Let go what has found its object, or comes again."""
        gone = [self._there.pop(one) for one in ids if one in self._there]
        self._clear(set(gone))

    def near(self, ra: float, dec: float, radius: float) -> Table:
        """Those within a circle, degrees."""
        found = [piece for cell in _overlapped(ra, dec, radius) for piece in self._cells.get(cell, ())]
        if not found:
            return Table.empty(LOOSE)
        table = concatenate(found)
        table = table.take(within(table["ra"], table["dec"], ra, dec, radius))
        return table.take(table["midpointMjdTai"] > self._last - DAYS)

    def _alive(self, table: Table) -> Table:
        there = np.array([one in self._there for one in table["diaSourceId"].tolist()], bool)
        return table.take(there & (table["midpointMjdTai"] > self._last - DAYS))

    def _clear(self, cells: Iterable[Cell]) -> None:
        """Let go of what is gone, or too old, in these cells."""
        for cell in cells:
            before = concatenate(self._cells.pop(cell))
            kept = self._alive(before)
            if len(kept):
                self._cells[cell] = [kept]
            for one in np.setdiff1d(before["diaSourceId"], kept["diaSourceId"]).tolist():
                self._there.pop(one, None)


def _parts(belt: int) -> int:
    """Into how many cells a belt is cut."""
    return max(1, round(360 * math.cos(math.radians(belt + 0.5))))


def _cells(ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Belt and part of (N,) positions."""
    belt = np.minimum(np.floor(dec).astype(int), 89)
    parts = np.array([_parts(one) for one in belt.tolist()])
    return belt, np.minimum((ra % 360 / 360 * parts).astype(int), parts - 1)


def _overlapped(ra: float, dec: float, radius: float) -> Iterator[Cell]:
    """The cells that a circle may touch."""
    for belt in range(max(-90, math.floor(dec - radius)), min(89, math.floor(dec + radius)) + 1):
        parts = _parts(belt)
        half = 180.0
        if abs(dec) + radius < 89:
            half = math.degrees(math.asin(math.sin(math.radians(radius)) / math.cos(math.radians(dec))))
        first, last = (math.floor((ra + side) / 360 * parts) for side in (-half, half))
        if last - first >= parts - 1:
            first, last = 0, parts - 1
        for part in range(first, last + 1):
            yield belt, part % parts
