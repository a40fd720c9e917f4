"""The alert archive at 10 thousand, 100 thousand and 1 million alerts: what one costs, and how fast it is found.

Small alerts (no cutouts), visits of 10,000, a hundred at most. Each size is written anew: blocks of 50 appended
to the archive files, their rows added to the index, the visits sealed, the night consolidated. Then single alerts
are looked up by id, and circles of 1 arcmin, and read; beside SQLite (indexes on id and pixel, the alert in the
row) and DuckDB over the Parquet of the same rows. What is found is compared before anything is timed.
"""

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _common import arguments, record, took_s

from gpudiff.edges import archive
from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_index import AlertIndex
from gpudiff.edges.alert_segment import pixel_ranges, pixels
from gpudiff.edges.avro_rows import encode_rows
from gpudiff.model.alert_index import INDEX, AlertQuery, Cone
from gpudiff.model.sky import separation
from gpudiff.model.tables import Table

VISIT, BLOCK, TRIES, RADIUS = 10_000, 50, 200, 60.0
NAMES = ("diaSourceId", "revision", "detector", "diaObjectId", "visit", "midpointMjdTai", "ra", "dec")
BETWEEN = "SELECT id, ra, dec, body FROM alert WHERE pixel >= ? AND pixel < ?"
FIELDS = [{"name": c.name, "type": {"i": "long", "f": "double"}[c.dtype[0]]} for c in INDEX[:-2]]
SOURCE = {"type": "record", "name": "source", "fields": [f for f in FIELDS if f["name"] != "diaSourceId"]}
SCHEMA = {"type": "record", "name": "alert", "fields": [FIELDS[0], {"name": "diaSource", "type": SOURCE}]}


def visit_rows(visit: int) -> tuple[Table, list[bytes]]:
    """10,000 alerts in a field of 3.5 degrees somewhere in a survey's sky, and their Avro records."""
    rng = np.random.default_rng(visit)
    count, n = VISIT, np.arange(VISIT)
    ra0, dec0 = rng.uniform(0, 360), rng.uniform(-60, 0)
    values = {
        "diaSourceId": (visit << 24) + ((n // BLOCK) << 16) + n % BLOCK,
        "revision": np.zeros(count, int),
        "detector": n // BLOCK,
        "diaObjectId": rng.integers(1, 1 << 40, count),
        "visit": np.full(count, visit),
        "midpointMjdTai": np.full(count, 61000.6 + visit * 39 / 86400),
        "ra": (ra0 + rng.uniform(-1.75, 1.75, count) / np.cos(np.radians(dec0))) % 360,
        "dec": dec0 + rng.uniform(-1.75, 1.75, count),
    }
    return Table(INDEX, values | {"offset": n, "length": n}), encode_rows({"fields": FIELDS}, values, {})


def build(folder: Path, visits: int) -> dict[str, float]:
    """Seconds an alert, of adding, sealing, consolidating; the index's bytes an alert."""
    index, spent = AlertIndex(folder), {"add": 0.0, "seal": 0.0, "consolidate": 0.0}
    for visit in range(1, visits + 1):
        rows, records = visit_rows(visit)
        path, size = folder / f"{visit}.avro", 0
        for start in range(0, VISIT, BLOCK):
            part = records[start : start + BLOCK]
            made = archive.append(path, size, json.dumps(SCHEMA), part)
            noted = rows.take(slice(start, start + BLOCK)).replace(offset=made.offsets, length=made.lengths)
            size, begin = made.size, time.perf_counter()
            index.add(path.name, noted)
            spent["add"] += time.perf_counter() - begin
        begin = time.perf_counter()
        index.seal(path.name)
        sealed = time.perf_counter()
        index.consolidate()
        spent["seal"] += sealed - begin
        spent["consolidate"] += time.perf_counter() - sealed
    begin = time.perf_counter()
    index.consolidate(61000)
    spent["consolidate"] += time.perf_counter() - begin
    alerts = visits * VISIT
    size = sum(path.stat().st_size for path in index.folder.iterdir())
    return {**{f"{name}_us": 1e6 * value / alerts for name, value in spent.items()}, "index_bytes": size / alerts}


def sqlite_of(folder: Path, visits: int) -> sqlite3.Connection:
    """The same alerts in one SQLite table."""
    db = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE alert (id INTEGER PRIMARY KEY, pixel INTEGER, ra REAL, dec REAL, body BLOB)")
    db.execute("CREATE INDEX by_pixel ON alert (pixel)")
    for visit in range(1, visits + 1):
        rows, records = visit_rows(visit)
        columns = [rows[name].tolist() for name in ("diaSourceId", "ra", "dec")]
        columns.insert(1, pixels(rows["ra"], rows["dec"]).tolist())
        db.execute("BEGIN")
        db.executemany("INSERT INTO alert VALUES (?, ?, ?, ?, ?)", zip(*columns, records, strict=True))
        db.execute("COMMIT")
    return db


def sqlite_cone(db: sqlite3.Connection, cone: Cone) -> list[int]:
    """Ids within a circle, by the ranges of pixels."""
    rows = []
    for low, high in pixel_ranges(cone).tolist():
        rows += db.execute(BETWEEN, (low, high)).fetchall()
    ids, ra, dec = (np.array([row[n] for row in rows]) for n in range(3))
    return sorted(ids[separation(ra, dec, cone.ra, cone.dec) <= cone.radius].tolist()) if rows else []


def timed(work: Callable[[Any], Any], questions: list[Any]) -> dict[str, float]:
    """Median and 98th percentile, ms."""
    spent = took_s(work, questions)
    return {"median_ms": 1e3 * statistics.median(spent), "p98_ms": 1e3 * float(np.percentile(spent, 98))}


def measure(folder: Path, visits: int) -> dict[str, Any]:
    """Everything about one size."""
    import duckdb
    import pyarrow
    from pyarrow import parquet

    result: dict[str, Any] = {"alerts": visits * VISIT, **build(folder, visits)}
    begin = time.perf_counter()
    opened = AlertArchive(folder)
    result["open_ms"] = 1e3 * (time.perf_counter() - begin)
    everything = opened.find(AlertQuery())
    rng = np.random.default_rng(0)
    chosen = rng.integers(0, len(everything), TRIES)
    ids = everything["diaSourceId"][chosen].tolist()
    places = zip(everything["ra"][chosen].tolist(), everything["dec"][chosen].tolist(), strict=True)
    cones = [Cone(ra, dec, RADIUS) for ra, dec in places]
    begin = time.perf_counter()
    db = sqlite_of(folder, visits)
    result["sqlite_write_us"] = 1e6 * (time.perf_counter() - begin) / (visits * VISIT)
    table = {name: pyarrow.array(everything[name]) for name in NAMES}
    parquet.write_table(pyarrow.table(table), folder / "peer.parquet", row_group_size=64_000)
    duck = duckdb.connect()
    duck.execute(f"CREATE VIEW alert AS SELECT * FROM read_parquet('{folder / 'peer.parquet'}')")

    def ours(query: AlertQuery) -> list[bytes]:
        return [one.alert for one in opened.alerts(opened.find(query))]

    by_id = "SELECT body FROM alert WHERE id = ?"
    for one, cone in zip(ids[:20], cones[:20], strict=True):
        assert ours(AlertQuery(dia_source_id=one)) == [db.execute(by_id, (one,)).fetchone()[0]]
        assert opened.find(AlertQuery(cone=cone))["diaSourceId"].tolist() == sqlite_cone(db, cone)
    result["id"] = timed(lambda one: ours(AlertQuery(dia_source_id=one)), ids)
    result["cone"] = timed(lambda cone: ours(AlertQuery(cone=cone)), cones)
    result["sqlite_id"] = timed(lambda one: db.execute(by_id, (one,)).fetchall(), ids)
    result["sqlite_cone"] = timed(lambda cone: sqlite_cone(db, cone), cones)
    duck_id = "SELECT * FROM alert WHERE diaSourceId = ?"
    result["duckdb_id"] = timed(lambda one: duck.execute(duck_id, [one]).fetchall(), ids[:20])
    rows, _ = visit_rows(visits + 1)
    result["add_10000_ms"] = statistics.median(_adding(folder / "more", rows) for _ in range(5))
    return result


def _adding(folder: Path, rows: Table) -> float:
    folder.mkdir(exist_ok=True)
    index = AlertIndex(folder)
    begin = time.perf_counter()
    index.add("1.avro", rows)
    return 1e3 * (time.perf_counter() - begin)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--visits", default="1,10,100", help="of 10,000 alerts each (%(default)s)")
    options = parser.parse_args()
    results = []
    for visits in map(int, options.visits.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder), visits))
        print(json.dumps(results[-1], indent=1), flush=True)
    record(__file__, {"sizes": results}, options)


if __name__ == "__main__":
    main()
