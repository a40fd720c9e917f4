"""Positions of known objects from a table in a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpudiff.edges.object_store import ObjectStore
from gpudiff.edges.sources import WRITERS, read_table
from gpudiff.model.sky import within
from gpudiff.model.tables import Column, Table

POSITION: tuple[Column, ...] = (
    Column("diaObjectId", "i8", "", "identity"),
    Column("ra", "f8", "deg", "right ascension, ICRS"),
    Column("dec", "f8", "deg", "declination, ICRS"),
)


def known_positions(path: str) -> Callable[[float, float, float], Table]:
    """cone(ra, dec, radius), degrees, of the table or the object store in a file; of no object at all for ''.

    Raises UnreadableFile.
    """
    if not path:
        return lambda ra, dec, radius: Table.empty(POSITION)
    where = Path(path)
    return _cone_in(read_table(where, POSITION)) if where.suffix.lower() in WRITERS else ObjectStore(where).cone


def _cone_in(table: Table) -> Callable[[float, float, float], Table]:
    rows = table.take(np.argsort(table["dec"], kind="stable"))

    def cone(ra: float, dec: float, radius: float) -> Table:
        first, last = np.searchsorted(rows["dec"], [dec - radius, dec + radius])
        belt = rows.take(slice(first, last))
        return belt.take(within(belt["ra"], belt["dec"], ra, dec, radius))

    return cone
