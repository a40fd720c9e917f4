"""The known objects of one visit (a cone of 1.75 degrees) out of ten million, beside Parquet and SQLite.

What each finds is checked against all positions first.  The store holds all columns of a DIAObject; the peers get
only the first 16 of them, ordered by the same pixels: row groups of 50,000 rows in Parquet, a clustered key in
SQLite.  Each reads the pixels that the cone touches.  Files are in the page cache; the first visit is said apart.
"""

import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from gpudiff.edges import healpix
from gpudiff.edges.object_store import KIND, ObjectStore
from gpudiff.edges.sky_file import ORDER, write_sky_file
from gpudiff.model.sky import within
from gpudiff.model.tables import DIAOBJECT

RADIUS = 1.75
SHORT = [c.name for c in DIAOBJECT[:16]]


def columns_of(count: int) -> dict[str, np.ndarray]:
    """Objects in 1,000 square degrees round RA 0; what is not their place is the same for all."""
    random = np.random.default_rng(1)
    values = {c.name: np.broadcast_to(np.zeros(1, c.dtype), count) for c in DIAOBJECT}
    dec = np.degrees(np.arcsin(random.uniform(-1, 1, count) * np.sin(np.radians(8.35))))
    return values | {"diaObjectId": np.arange(count) + 1, "ra": random.uniform(-30, 30, count) % 360, "dec": dec}


def ranges(ra: float, dec: float) -> np.ndarray:
    """(R, 2) pixels of a visit."""
    return healpix.ranges(healpix.cone(ra, dec, RADIUS, 1 << ORDER))


def write_parquet(path: Path, columns: dict[str, np.ndarray], pixel: np.ndarray, order: np.ndarray) -> None:
    """Ordered by pixel."""
    table = pa.table({"pixel": pixel[order], **{name: np.asarray(columns[name])[order] for name in SHORT}})
    pq.write_table(table, path, row_group_size=50_000, compression="none")


def write_sqlite(path: Path, columns: dict[str, np.ndarray], pixel: np.ndarray, order: np.ndarray) -> None:
    """Clustered by pixel."""
    names = ", ".join(SHORT)
    with sqlite3.connect(path) as db:
        db.execute(f"CREATE TABLE object (pixel INTEGER, {names}, PRIMARY KEY (pixel, diaObjectId)) WITHOUT ROWID")
        for part in np.array_split(order, max(1, len(order) // 500_000)):
            lists = [pixel[part].tolist(), *(np.asarray(columns[name])[part].tolist() for name in SHORT)]
            db.executemany(
                f"INSERT INTO object VALUES ({', '.join('?' * (len(SHORT) + 1))})", zip(*lists, strict=True)
            )


def read_parquet(path: Path, ra: float, dec: float) -> tuple[np.ndarray, ...]:
    """id, ra, dec of the rows in a visit's pixels."""
    span = ranges(ra, dec)
    tests = [[("pixel", ">=", int(a)), ("pixel", "<", int(b))] for a, b in span]
    table = pq.read_table(path, filters=tests)
    return tuple(table[name].to_numpy() for name in SHORT[:3])


def read_sqlite(db: sqlite3.Connection, ra: float, dec: float) -> tuple[np.ndarray, ...]:
    """As read_parquet."""
    rows: list[tuple] = []
    for a, b in ranges(ra, dec).tolist():
        rows += db.execute("SELECT * FROM object WHERE pixel >= ? AND pixel < ?", (a, b)).fetchall()
    array = np.array([row[1:4] for row in rows], float).reshape(-1, 3)
    return tuple(array.T)


def read_store(store: ObjectStore, ra: float, dec: float) -> tuple[np.ndarray, ...]:
    """As read_parquet, with all the columns read."""
    table = store.cone(ra, dec, RADIUS)
    return tuple(table[name] for name in SHORT[:3])


def timed(read: Callable[[float, float], tuple], where: np.ndarray) -> dict[str, float]:
    """Milliseconds: the first visit, the median of the others."""
    first, *others = common.took_s(lambda place: read(*place), where)
    return {"first": 1000 * first, "median": 1000 * statistics.median(others)}


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--objects", type=int, default=10_000_000, help="(%(default)s)")
    parser.add_argument("--visits", type=int, default=9, help="timed (%(default)s)")
    options = parser.parse_args()
    columns = columns_of(options.objects)
    where = np.random.default_rng(3).uniform([-28, -6], [28, 6], (options.visits, 2))
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        begun = time.perf_counter()
        write_sky_file(path / "known.sky", KIND, columns, {})
        building = time.perf_counter() - begun
        pixel = healpix.cells(columns["ra"], columns["dec"], 1 << ORDER)
        order = np.argsort(pixel, kind="stable")
        write_parquet(path / "known.parquet", columns, pixel, order)
        write_sqlite(path / "known.sqlite", columns, pixel, order)
        store, db = ObjectStore(path / "known.sky"), sqlite3.connect(path / "known.sqlite")
        readers: dict[str, Callable[[float, float], tuple]] = {
            "gpudiff": lambda ra, dec: read_store(store, ra, dec),
            "parquet": lambda ra, dec: read_parquet(path / "known.parquet", ra, dec),
            "sqlite": lambda ra, dec: read_sqlite(db, ra, dec),
        }
        for name, read in readers.items():
            ids, _, _ = read(*where[-1])
            true = columns["diaObjectId"][within(columns["ra"], columns["dec"], *where[-1], RADIUS)]
            assert np.isin(true, ids).all(), name
            figures[name] = timed(read, where) | {"rows": len(ids)}
        db.close()
    print(
        f"{common.device()}; {options.objects} objects, {building:.0f} s to build; load {os.getloadavg()[0]:.1f}"
    )
    for name, row in figures.items():
        print(
            f"  {name:<8} {row['rows']:>8} rows; first visit {row['first']:8.1f} ms, median {row['median']:.1f} ms"
        )
    common.record(__file__, {"objects": options.objects, "build_s": building, "milliseconds": figures}, options)


if __name__ == "__main__":
    main()
