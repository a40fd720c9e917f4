"""Rows of the sky that change: put and removed by id, found by place."""

from collections.abc import Iterable

import numpy as np

from gpudiff.model.tables import Table
from gpudiff.science.neighbours import Neighbours
from gpudiff.services.sky_cells import SkyCells


class SkyTable:
    """A table in arrays that grow.  Of its schema's columns the first is the id; ra and dec are degrees, ICRS."""

    def __init__(self, table: Table):
        """table : the first rows, of different ids; they are copied"""
        self._schema, self._id = table.schema, table.schema[0].name
        self._columns = {c.name: np.empty(0, c.dtype) for c in table.schema}
        self._row: dict[int, int] = {}
        self._free: list[int] = []
        self._cells = SkyCells()
        self._before: list[tuple[list[int], Table]] = []
        self._put(table)

    def __len__(self) -> int:
        return len(self._row)

    def has(self, ids: np.ndarray) -> np.ndarray:
        """(N,) bool: whether there is a row with this id."""
        return np.array([one in self._row for one in ids.tolist()], bool)

    def put(self, table: Table) -> None:
        """Add rows of different ids, or replace those that are there under the same one."""
        self._note(table[self._id].tolist())
        self._put(table)

    def remove(self, ids: Iterable[int]) -> None:
        """Let go of the rows with these ids, where there are any."""
        known = self._note(ids)
        rows = [self._row.pop(one) for one in known]
        self._free += rows
        nowhere = np.full(len(rows), np.nan)
        self._cells.put(np.array(rows, np.int64), nowhere, nowhere)

    def begin(self) -> None:
        """From here on `undo` leads back to what is there now."""
        self._before.clear()

    def undo(self) -> None:
        """Be as at the last `begin`: what that takes does not grow with the rows that did not change."""
        for ids, rows in self._before[::-1]:
            self.remove(ids)
            self.put(rows)
        self.begin()

    def near(self, ra: np.ndarray, dec: np.ndarray, radius: float) -> Table:
        """The rows within a radius, degrees, of any of (N,) finite places, and what shares cells with them; a row
        without a place is never near."""
        return self._taken(self._cells.near(ra, dec, radius))

    def within(self, ra: np.ndarray, dec: np.ndarray, radius: float) -> Table:
        """As `near`, without the others: to be asked for a radius in which there are few.

        radius : degrees, at most 10
        """
        rows = self._cells.near(ra, dec, radius)
        around = Neighbours(self._columns["ra"][rows], self._columns["dec"][rows], 3600 * radius)
        return self._taken(rows[around.of(ra, dec)])

    def everything(self) -> Table:
        """All rows, in no order that counts."""
        return self._taken(np.array(list(self._row.values()), np.int64))

    def _taken(self, rows: np.ndarray) -> Table:
        return Table(self._schema, {name: column[rows] for name, column in self._columns.items()})

    def _put(self, table: Table) -> None:
        ids = table[self._id].tolist()
        rows = np.array([self._row_of(one) for one in ids], np.int64)
        self._grow(len(self._row) + len(self._free))
        for name, column in table.columns.items():
            self._columns[name][rows] = column
        self._cells.put(rows, table["ra"], table["dec"])

    def _note(self, ids: Iterable[int]) -> list[int]:
        """Keep the rows with these ids as they are, for `undo`; the ids of those that are there, each once."""
        different = list(dict.fromkeys(ids))
        known = [one for one in different if one in self._row]
        self._before.append((different, self._taken(np.array([self._row[one] for one in known], np.int64))))
        return known

    def _row_of(self, one: int) -> int:
        """Where the row with an id is, or is to be."""
        if one not in self._row:
            self._row[one] = self._free.pop() if self._free else len(self._row)
        return self._row[one]

    def _grow(self, count: int) -> None:
        room = len(self._columns[self._id])
        if count > room:
            for name, column in self._columns.items():
                grown = np.empty(max(count, 2 * room, 1024), column.dtype)
                grown[:room] = column
                self._columns[name] = grown
