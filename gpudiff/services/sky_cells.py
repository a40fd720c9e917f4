"""Rows by cells of the sky: what a look at one place costs does not grow with what is known of others.

A cell is a part of a belt of declination: SIDE degrees high, about as wide, and three round each pole.
"""

from collections import defaultdict

import numpy as np

SIDE = 0.25
"""Degrees: about the side of a sensor, so that a frame touches a few cells and little beside it is looked at."""
BELTS = round(180 / SIDE)


class SkyCells:
    """Numbers of rows, 0 and up, each in the cell of its position."""

    def __init__(self) -> None:
        middles = np.radians((np.arange(BELTS) + 0.5) * SIDE - 90)
        self._parts = np.maximum(1, np.round(360 / SIDE * np.cos(middles))).astype(np.int64)
        self._first = np.cumsum(self._parts) - self._parts
        self._rows: dict[int, list[np.ndarray]] = defaultdict(list)
        self._cell = np.empty(0, np.int64)  # of each row, -1 for none; what a cell's list has beyond that is old

    def put(self, rows: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> None:
        """Let (N,) different rows be at these places, degrees, wherever they were; nowhere where one is NaN."""
        self._grow(int(rows.max(initial=-1)) + 1)
        cells = np.full(len(rows), -1, np.int64)
        placed = np.isfinite(ra) & np.isfinite(dec)
        belt = self._belt(dec[placed])
        cells[placed] = self._first[belt] + self._part(ra[placed], belt) % self._parts[belt]
        moved = np.flatnonzero((self._cell[rows] != cells) & placed)
        self._cell[rows] = cells
        moved = moved[np.argsort(cells[moved], kind="stable")]
        different, starts = np.unique(cells[moved], return_index=True)
        for cell, some in zip(different.tolist(), np.split(rows[moved], starts[1:]), strict=False):
            self._rows[cell].append(some)

    def near(self, ra: np.ndarray, dec: np.ndarray, margin: float) -> np.ndarray:
        """The rows of all cells within `margin` degrees of any of (N,) finite places: rising, each once."""
        found = [self._of(cell) for cell in self._touched(ra % 360, dec, margin).tolist()]
        return np.sort(np.concatenate([np.empty(0, np.int64), *found]))

    def _touched(self, ra: np.ndarray, dec: np.ndarray, margin: float) -> np.ndarray:
        """The cells that circles touch, rising, perhaps a few beside them."""
        polar = np.abs(dec) + margin >= 90
        ratio = np.sin(np.radians(margin)) / np.where(polar, 1.0, np.cos(np.radians(dec)))
        half = np.where(polar, 180.0, np.degrees(np.arcsin(np.minimum(ratio, 1.0))))
        low, high = self._belt(dec - margin), self._belt(dec + margin)
        cells = [np.empty(0, np.int64)]
        for up in range(int((high - low).max(initial=-1)) + 1):
            belt = np.minimum(low + up, high)
            left, right = self._part(ra - half, belt), self._part(ra + half, belt)
            right = np.minimum(right, left + self._parts[belt] - 1)
            for on in range(int((right - left).max()) + 1):
                cells.append(self._first[belt] + np.minimum(left + on, right) % self._parts[belt])
        return np.unique(np.concatenate(cells))

    def _belt(self, dec: np.ndarray) -> np.ndarray:
        return np.clip(np.floor((dec + 90) / SIDE).astype(np.int64), 0, BELTS - 1)

    def _part(self, ra: np.ndarray, belt: np.ndarray) -> np.ndarray:
        """Counted from right ascension 0 on, not yet modulo those of the belt."""
        return np.floor(ra / 360 * self._parts[belt]).astype(np.int64)

    def _of(self, cell: int) -> np.ndarray:
        """The rows that are in a cell now; its list is cleared of all others."""
        pieces = self._rows.get(cell, [])
        if len(pieces) > 1:
            together = np.unique(np.concatenate(pieces))
            self._rows[cell] = pieces = [together[self._cell[together] == cell]]
        rows = pieces[0] if pieces else np.empty(0, np.int64)
        return rows[self._cell[rows] == cell]

    def _grow(self, count: int) -> None:
        room = len(self._cell)
        if count > room:
            self._cell = np.concatenate([self._cell, np.full(max(count, 2 * room) - room, -1)])
