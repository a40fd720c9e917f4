"""Positions of known objects from a table in a file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from gpudiff.edges.object_store import ObjectStore
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.sky import within
from gpudiff.model.tables import Column, Table

POSITION: tuple[Column, ...] = (
    Column("diaObjectId", "i8", "", "identity"),
    Column("ra", "f8", "deg", "right ascension, ICRS"),
    Column("dec", "f8", "deg", "declination, ICRS"),
)
FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}


class Positions:
    """A table of positions in memory, in order of declination."""

    def __init__(self, path: Path):
        """path : .csv, .ecsv or .fits with columns diaObjectId, ra, dec.  Raises UnreadableFile."""
        from astropy.table import Table as Astropy

        try:
            rows = Astropy.read(path, format=FORMATS[path.suffix])
            table = Table(POSITION, {c.name: np.asarray(rows[c.name]) for c in POSITION})
        except Exception as error:  # astropy's readers raise any of a dozen kinds
            reason = " ".join(str(error).split())[:200]
            raise UnreadableFile(
                f"{path}: expected a .csv, .ecsv or .fits table of diaObjectId, ra, dec: {reason}"
            ) from None
        self._rows = table.take(np.argsort(table["dec"], kind="stable"))

    def cone(self, ra: float, dec: float, radius: float) -> Table:
        """Those within `radius` degrees of a place."""
        first, last = np.searchsorted(self._rows["dec"], [dec - radius, dec + radius])
        belt = self._rows.take(slice(first, last))
        return belt.take(within(belt["ra"], belt["dec"], ra, dec, radius))


def known_positions(path: str) -> Callable[[float, float, float], Table]:
    """`cone` of the table or the object store in a file; of no object at all when `path` is ''.

    Raises UnreadableFile.
    """
    if not path:
        return lambda ra, dec, radius: Table.empty(POSITION)
    where = Path(path)
    return Positions(where).cone if where.suffix in FORMATS else ObjectStore(where).cone
