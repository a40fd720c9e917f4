"""10,000 detections into the ledger: one transaction, against plain executemany (SQLite) and COPY (PostgreSQL).

The frames of one visit, 189 of them, are committed as the associator does it, a group after the other: DIASources,
DIAObjects, outbox, states.  Checked first: every id is there once.  The peers store the same narrow rows and
nothing else.  PostgreSQL is measured where its programs are found.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import ROOT, arguments, record

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from batches import a_sources
from ledgers import a_commit

from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_commit import Commit, outgoing
from gpudiff.edges.ledger_tables import SOURCE_COLUMNS
from gpudiff.model.config import Configuration

SOURCES, DETECTORS, RUNS = 10_000, 189, 5
GROUP = Configuration().ledger.group
GOAL_S = 0.150
RECORD = bytes(range(256)) * 2 + bytes(88)  # 600 bytes, as a diaSource record has


def commits(visit: int) -> list[Commit]:
    """A visit's frames, all sources new."""
    sizes = np.diff(np.linspace(0, SOURCES, DETECTORS + 1).astype(int)).tolist()
    return [commit(visit, detector, count) for detector, count in enumerate(sizes)]


def commit(visit: int, detector: int, count: int) -> Commit:
    sources = a_sources(count, visit, detector, ra=np.random.default_rng(detector).uniform(0, 360, count))
    return a_commit(count, visit, detector, sources=sources, records=[RECORD] * count)


def ours(where: Path | str) -> list[float]:
    """Seconds of each visit's transaction; the first warms up and is left out."""
    ledger, seconds = Ledger(where), []
    for visit in range(1, RUNS + 2):
        made = commits(visit)
        start = time.perf_counter()
        with ledger.transaction():
            for first in range(0, DETECTORS, GROUP):
                ledger.commit(*made[first : first + GROUP])
        seconds.append(time.perf_counter() - start)
        assert len(np.unique(ledger.sources(visit)["diaSourceId"])) == SOURCES
    ledger.close()
    return seconds[1:]


def rows(visit: int) -> list[tuple]:
    """The same narrow rows, as Python values."""
    made = []
    for one in commits(visit):
        table = outgoing([one], one.association)
        columns = [table[name.replace("decl", "dec")].tolist() for name in SOURCE_COLUMNS[:-1]]
        made += zip(*columns, one.records, strict=True)
    return made


def plain_sqlite(path: Path) -> list[float]:
    """executemany of the narrow rows, primary key only, WAL, synchronous FULL."""
    db, seconds = sqlite3.connect(path, isolation_level=None), []
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    names = ", ".join(SOURCE_COLUMNS)
    db.execute(f"CREATE TABLE dia_source ({names}, PRIMARY KEY (diaSourceId, revision))")
    for visit in range(1, RUNS + 2):
        made = rows(visit)
        start = time.perf_counter()
        db.execute("BEGIN IMMEDIATE")
        marks = ", ".join("?" * len(SOURCE_COLUMNS))
        db.executemany(f"INSERT INTO dia_source VALUES ({marks})", made)
        db.execute("COMMIT")
        seconds.append(time.perf_counter() - start)
    db.close()
    return seconds[1:]


def plain_copy(url: str) -> list[float]:
    """COPY of the narrow rows, primary key only."""
    import psycopg

    seconds = []
    with psycopg.connect(url, autocommit=True) as db:
        kinds = ["bigint"] * 4 + ["double precision"] * 3 + ["bigint"] * 2 + ["bytea"]
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(SOURCE_COLUMNS, kinds, strict=True))
        db.execute(f"CREATE TABLE dia_source ({columns}, PRIMARY KEY (diaSourceId, revision))")
        for visit in range(1, RUNS + 2):
            made = [(*row[:8], int(row[8]), row[9]) for row in rows(visit)]
            start = time.perf_counter()
            with db.cursor().copy(f"COPY dia_source ({', '.join(SOURCE_COLUMNS)}) FROM STDIN") as copy:
                for row in made:
                    copy.write_row(row)
            seconds.append(time.perf_counter() - start)
    return seconds[1:]


def main() -> None:
    """Measure, print, record."""
    options = arguments(__doc__).parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        found["ledger, SQLite"] = ours(Path(folder) / "ours.sqlite")
        found["executemany, SQLite"] = plain_sqlite(Path(folder) / "plain.sqlite")
    try:
        from postgres import Server

        with Server(durable=True) as server:
            found["ledger, PostgreSQL"] = ours(server.new_database())
            found["COPY, PostgreSQL"] = plain_copy(server.new_database())
    except ImportError as error:
        print(f"PostgreSQL is not measured: {error}")
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    for name, seconds in medians.items():
        print(f"{name:22} {1000 * seconds:7.0f} ms for {SOURCES:,} detections of {DETECTORS} frames")
    print(f"goal of the ledger: {1000 * GOAL_S:.0f} ms")
    record(__file__, {"sources": SOURCES, "detectors": DETECTORS, "goal_s": GOAL_S, "median_s": medians}, options)


if __name__ == "__main__":
    main()
