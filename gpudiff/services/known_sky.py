"""The known sky in memory: DIAObjects that can be looked up by place, and follow the ledger."""

import numpy as np

from gpudiff.model.tables import DIAOBJECT, Table


class KnownSky:
    """DIAObjects in arrays that grow.  The ledger is the truth; this is its copy, made anew at every start."""

    def __init__(self, objects: Table):
        """objects : Table of model.tables.DIAOBJECT"""
        self._columns = {name: column.copy() for name, column in objects.columns.items()}
        self._count = len(objects)
        self._row = {one: row for row, one in enumerate(objects["diaObjectId"].tolist())}

    def __len__(self) -> int:
        return len(self._row)

    def __contains__(self, object_id: int) -> bool:
        return object_id in self._row

    def near(self, dec: np.ndarray, margin: float) -> Table:
        """The objects in the belt of declinations that (N,) degrees span, wider by `margin` degrees each side."""
        if not np.isfinite(dec).any():
            return Table.empty(DIAOBJECT)
        known = self._columns["dec"][: self._count]
        rows = np.flatnonzero((known >= np.nanmin(dec) - margin) & (known <= np.nanmax(dec) + margin))
        return Table(DIAOBJECT, {name: column[rows] for name, column in self._columns.items()})

    def put(self, objects: Table) -> None:
        """Add objects, or replace those that are there under the same id."""
        ids = objects["diaObjectId"].tolist()
        rows = np.empty(len(ids), int)
        for n, one in enumerate(ids):
            rows[n] = self._row.setdefault(one, self._count)
            self._count += int(rows[n] == self._count)
        self._grow()
        for name, column in objects.columns.items():
            self._columns[name][rows] = column

    def remove(self, ids: list[int]) -> None:
        """Forget objects; ids that are not there are ignored."""
        for one in ids:
            row = self._row.pop(one, None)
            if row is not None:
                self._columns["dec"][row] = np.nan

    def _grow(self) -> None:
        room = len(self._columns["dec"])
        if self._count > room:
            more = max(self._count, 2 * room, 1024) - room
            for name, column in self._columns.items():
                self._columns[name] = np.concatenate([column, np.zeros(more, column.dtype)])
