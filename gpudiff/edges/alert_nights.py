"""Nights of the alert archive: exported to Parquet, asked in SQL, deleted when they are old."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_table import columns, table_of
from gpudiff.edges.atomic import atomically
from gpudiff.edges.folder import failing
from gpudiff.edges.provenance_file import SUFFIX
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.errors import BadConfiguration, UnreadableFile
from gpudiff.model.tables import Table

PARQUET = "parquet"
NIGHTS = "[0-9]*.parquet"
"""What is being written begins with a dot (edges.atomic)."""
TABLES = {"sources": "diaSource", "objects": "diaObject"}
ROWS = 5000
"""Alerts in memory at once, and rows of a Parquet row group."""


def nights(archive: AlertArchive) -> dict[int, Table]:
    """The rows of each night, PLACED; a night is its MJD TAI at 12 h.  Alerts without a time belong to none."""
    rows = archive.find(AlertQuery(since=-np.inf))
    number = np.floor(rows["midpointMjdTai"] - 0.5).astype(int)
    return {int(night): rows.take(number == night) for night in np.unique(number)}


def export(archive: AlertArchive, night: int, rows: Table) -> list[Path]:
    """Write parquet/sources/NIGHT.parquet and parquet/objects/NIGHT.parquet, whole or not at all; their paths.

    sources : a row an alert, without cutouts and history, with file, offset and length of the alert
    objects : each DIAObject as the night's last alert has it
    Raises StoreFailed where they cannot be written.
    """
    paths = []
    for name, record in TABLES.items():
        folder = archive.folder / PARQUET / name
        with failing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        chosen = rows if name == "sources" else _last_of_each_object(rows)
        paths.append(folder / f"{night}.parquet")
        with atomically(paths[-1]) as temporary:
            _write(temporary, archive, chosen, record)
    return paths


def ask_sql(folder: Path, sql: str) -> Any:
    """The Arrow table that DuckDB answers; the query sees the tables sources and objects, and no other file.

    Raises BadConfiguration without DuckDB or for SQL that it refuses, UnreadableFile when nothing was exported.
    """
    try:
        import duckdb
    except ImportError:
        raise BadConfiguration("--sql: expected DuckDB, it is not installed: pip install 'gpudiff[sql]'") from None
    parquet = (folder / PARQUET).resolve()
    if not list(parquet.glob(f"sources/{NIGHTS}")):
        raise UnreadableFile(f"{parquet}: expected exported nights, there are none: gpudiff archive export")
    with duckdb.connect() as db:
        for name in TABLES:
            files = str(parquet / name / NIGHTS).replace("'", "''")
            db.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{files}', union_by_name = true)")
        db.execute(f"SET allowed_directories = ['{str(parquet).replace(chr(39), chr(39) * 2)}']")
        db.execute("SET enable_external_access = false")
        try:
            return db.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise BadConfiguration(f"--sql: {' '.join(str(error).split())}") from None


def deletable(archive: AlertArchive, before: int) -> Iterator[tuple[str, str]]:
    """(file, '' or why it is kept) of each archive file whose alerts are all of nights before `before`."""
    unsealed = set(archive.index.lagging())
    by_night = nights(archive)
    kept = {name for night, rows in by_night.items() if night >= before for name in rows["file"]}
    wanting = {night for night in by_night if not _exported(archive.folder, night)}
    waiting = {name for night in wanting for name in by_night[night]["file"]}
    old = {name for night, rows in by_night.items() if night < before for name in rows["file"].tolist()}
    for name in sorted(old - kept):
        yield name, "not sealed" if name in unsealed else "not exported" if name in waiting else ""


def delete(archive: AlertArchive, names: list[str]) -> None:
    """Remove archive files, the steps beside them, and their rows of the index.  Raises StoreFailed."""
    archive.close()
    with failing(archive.folder):
        for name in names:
            (archive.folder / name).unlink(missing_ok=True)  # an earlier call may have been cut short
            (archive.folder / f"{name.split('.')[0]}{SUFFIX}").unlink(missing_ok=True)
    archive.index.forget(names)


def _exported(folder: Path, night: int) -> bool:
    return all((folder / PARQUET / name / f"{night}.parquet").is_file() for name in TABLES)


def _last_of_each_object(rows: Table) -> Table:
    order = np.lexsort((rows["revision"], rows["midpointMjdTai"], rows["diaObjectId"]))
    ids = rows["diaObjectId"][order]
    last = np.append(ids[1:] != ids[:-1], True) if len(ids) else np.zeros(0, bool)
    return rows.take(order[last & (ids != 0)])


def _write(path: Path, archive: AlertArchive, rows: Table, record: str) -> None:
    import pyarrow
    from pyarrow import parquet

    names = sorted(set(rows["file"].tolist()))
    schemas = {archive.schema(name) for name in names}
    whole = pyarrow.unify_schemas([columns(schema, record) for schema in sorted(schemas)] or [pyarrow.schema([])])
    where = {"file": pyarrow.string(), "offset": pyarrow.int64(), "length": pyarrow.int64()}
    whole = pyarrow.schema([*whole, *(pyarrow.field(name, kind) for name, kind in where.items())])
    with parquet.ParquetWriter(path, whole, compression="zstd") as writer:
        for start in range(0, len(rows), ROWS):
            part = rows.take(slice(start, start + ROWS))
            table = table_of(archive.alerts(part), record)
            for name in where:
                table = table.append_column(name, pyarrow.array(part[name].tolist(), where[name]))
            empty = whole.empty_table()
            writer.write_table(pyarrow.concat_tables([empty, table], promote_options="default"))
