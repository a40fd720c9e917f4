"""The store of known objects: DIAObjects of the whole sky as they were at dusk, in a sky file."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from gpudiff.edges import healpix
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.edges.sky_file import SkyFile, write_sky_file
from gpudiff.edges.sources import WRITERS, read_columns, whole_numbers
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.tables import DIAOBJECT, Table

KIND = "known objects"
UNTIL = "ledger_until_tai"
NSIDE = 1 << 29
"""Of the smallest HEALPix cells that 64 bits number."""


class ObjectStore:
    """A store to read; raises UnreadableFile, naming the file, for what is none or not whole."""

    def __init__(self, path: Path):
        self._file = SkyFile(path, KIND)
        self._file.table(DIAOBJECT, {name: column[:0] for name, column in self._file.columns.items()})
        self.path = path

    def __len__(self) -> int:
        return len(self._file)

    @property
    def digest(self) -> str:
        """Hex digest of the content."""
        return self._file.digest

    @property
    def until(self) -> float:
        """MJD TAI up to which the ledger's objects are in it; -inf when none are."""
        return self._file.facts.get(UNTIL, -np.inf)

    def cone(self, ra: float, dec: float, radius: float) -> Table:
        """All DIAObjects within `radius` degrees of a place, and some just outside."""
        return Table(DIAOBJECT, self._file.cone(ra, dec, radius))

    def everything(self) -> Table:
        """All of it; raises UnreadableFile when the content is not what its checksum says."""
        self._file.verify()
        return Table(DIAOBJECT, self._file.columns)


def build(path: Path, sources: Sequence[Path | str]) -> tuple[int, int]:
    """Write a store from the one that is there, if any, and the objects of `sources`; later ones win by id.

    sources : tables (.csv, .ecsv, .fits, .parquet) or ledgers (.sqlite, a postgresql:// URL)
    Returns how many objects it has, and how many were left out because they have no position.
    Raises UnreadableFile for a source that is none, or a store that cannot be merged with; StoreFailed.
    """
    before = ObjectStore(path) if path.exists() else None
    tables, until = ([before.everything()], before.until) if before else ([], -np.inf)
    for source in sources:
        made = read_objects(source)
        tables.append(made)
        if _is_ledger(source) and len(made):
            until = max(until, float(made["validityStartMjdTai"].max()))
    columns = _newest(tables)
    facts = {} if until == -np.inf else {UNTIL: until}
    kept = write_sky_file(path, KIND, columns, facts)
    return kept, len(columns["ra"]) - kept


def _newest(tables: Sequence[Table]) -> dict[str, np.ndarray]:
    """The rows of all tables, of those with one id the last."""
    together = {c.name: np.concatenate([t[c.name] for t in tables]) for c in DIAOBJECT}
    ids = together["diaObjectId"]
    _, from_the_end = np.unique(ids[::-1], return_index=True)
    if len(from_the_end) == len(ids):
        return together
    rows = len(ids) - 1 - from_the_end
    return {name: column[rows] for name, column in together.items()}


def read_objects(path: Path | str) -> Table:
    """DIAObjects in a table or a ledger; a string is the ledger's URL.

    A table has `ra` and `dec`, degrees, and any other column of DIAOBJECT.  Where diaObjectId is absent it is the
    place's nested HEALPix cell of 0.4 mas, so that rows of other tables are others, and the same ones the same;
    what else is absent is NaN or 0.  Raises UnreadableFile.
    """
    if isinstance(path, str) or _is_ledger(path):
        with closing(LedgerReader(path)) as reader:
            return reader.objects()
    if path.suffix.lower() not in WRITERS:
        raise UnreadableFile(f"{path}: expected a file named {', '.join(WRITERS)} or .sqlite")
    columns = read_columns(path)
    missing = {"ra", "dec"} - set(columns)
    if missing:
        raise UnreadableFile(f"{path}: expected columns ra and dec, got {sorted(columns)[:20]}")
    count = len(columns["ra"])
    values = {c.name: np.full(count, c.nothing, c.dtype) for c in DIAOBJECT}
    values["timeMoment"] = np.zeros(count)
    try:
        for name in columns.keys() & values.keys():
            whole = values[name].dtype.kind == "i"
            values[name] = whole_numbers(name, columns[name]) if whole else columns[name]
        made = Table(DIAOBJECT, values)
    except ValueError as error:
        raise UnreadableFile(f"{path}: {error}") from None
    if "diaObjectId" not in columns:
        made["diaObjectId"][:] = _cells(made["ra"], made["dec"])
    return made


def _cells(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N,) int64 cells of NSIDE; of a row without a place the number below 0 that counts from the first row."""
    placed = np.isfinite(ra) & (np.abs(dec) <= 90)
    found = -np.arange(1, len(ra) + 1)
    found[placed] = healpix.cells(ra[placed], dec[placed], NSIDE)
    return found


def _is_ledger(source: Path | str) -> bool:
    return isinstance(source, str) or source.suffix.lower() == ".sqlite"
