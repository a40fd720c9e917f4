"""DIASource tables to files and back; the suffix decides the format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import BadConfiguration, UnreadableFile
from gpudiff.model.tables import DIASOURCE, FLAG_DESCRIPTIONS, FLAGS, Column, Table

IMAGE_UNIT = "image unit"
"""Stands in a schema for the unit of the science image; files carry that unit itself, meta["unit"]."""


def write_sources(path: str | Path, sources: Table, meta: dict[str, Any] | None = None) -> None:
    """Write one row per DIASource, with the names of the flag bits in the table's metadata (not in .csv).

    meta : numbers and strings to go with the table; "unit" is the science image's and that of the fluxes
    Raises BadConfiguration for a suffix that is no known format, StoreFailed.
    """
    write_table(path, sources, {**(meta or {}), "FLAGS": FLAGS, "FLAG_DESCRIPTIONS": FLAG_DESCRIPTIONS})


def read_sources(path: str | Path) -> tuple[Table, dict[str, Any]]:
    """The DIASources of a file and its metadata ({} of a .csv); raises UnreadableFile, BadConfiguration."""
    return read_table(path, DIASOURCE)


def write_table(path: str | Path, table: Table, meta: dict[str, Any] | None = None) -> None:
    """Write a table with its units and descriptions, whole or not at all.

    Columns keep the schema's order, dtype and names; ECSV and CSV keep every digit.
    Raises BadConfiguration for an unknown suffix, StoreFailed.
    """
    write = _format(path)[0]
    meta = meta or {}
    with atomically(path) as temporary:
        write(temporary, table, meta)


def read_table(path: str | Path, schema: tuple[Column, ...]) -> tuple[Table, dict[str, Any]]:
    """The columns of a schema from a file, and its metadata.

    Other columns are left out.  Raises BadConfiguration for an unknown suffix; UnreadableFile for a file that
    is absent, damaged, or lacks a column.
    """
    read = _format(path)[1]
    try:
        columns, meta = read(Path(path))
        return Table(schema, {c.name: columns[c.name] for c in schema}), meta
    except FileNotFoundError:
        raise UnreadableFile(f"{path}: expected a table, found no file") from None
    except KeyError as error:
        raise UnreadableFile(f"{path}: expected the columns of the schema, found no {error}") from None
    except Exception as error:  # each format's reader has its own kinds
        reason = " ".join(str(error).split())
        raise UnreadableFile(f"{path}: expected a {Path(path).suffix} table: {reason}") from None


def check_suffix(path: str | Path) -> None:
    """Raises BadConfiguration when no table format has the path's suffix."""
    _format(path)


def _format(path: str | Path) -> tuple[Callable, Callable]:
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise BadConfiguration(f"{path}: expected a table's suffix, one of {', '.join(FORMATS)}, got {suffix!r}")
    return FORMATS[suffix]


def _unit(column: Column, meta: dict[str, Any]) -> str:
    return str(meta.get("unit", "")) if column.unit == IMAGE_UNIT else column.unit


# ---------------------------------------------------------------- ECSV
def _write_ecsv(path: Path, table: Table, meta: dict[str, Any]) -> None:
    from astropy import units
    from astropy.table import Column as AstropyColumn
    from astropy.table import Table as AstropyTable

    made = AstropyTable(meta=meta)
    for column in table.schema:
        unit = _unit(column, meta)
        made[column.name] = AstropyColumn(
            table[column.name],
            unit=units.Unit(unit, parse_strict="silent") if unit else None,
            description=column.description,
        )
    made.write(path, format="ascii.ecsv", overwrite=True)


def _read_ecsv(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from astropy.table import Table as AstropyTable

    table = AstropyTable.read(path, format="ascii.ecsv")
    return {name: np.asarray(table[name]) for name in table.colnames}, dict(table.meta)


# ---------------------------------------------------------------- FITS
def _write_fits(path: Path, table: Table, meta: dict[str, Any]) -> None:
    """A binary table; flag bits as FLAG_* cards, other metadata under their own keywords."""
    from astropy.io import fits

    from gpudiff.edges.header import card

    hdu = binary_table("SOURCES", table, meta)
    descriptions = meta.get("FLAG_DESCRIPTIONS", {})
    for name, bit in meta.get("FLAGS", {}).items():
        hdu.header.append(card(f"FLAG_{name}", bit, descriptions.get(name, "")))
    for key, value in meta.items():
        if isinstance(value, str | int | float):
            hdu.header.append(card(key.upper(), value))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path, overwrite=True)


def binary_table(name: str, table: Table, meta: dict[str, Any]) -> Any:
    """A FITS binary table HDU with the columns' units, and their meanings as TCOMM cards; meta["unit"] : BUNIT."""
    from astropy.io import fits

    columns = [
        fits.Column(
            name=column.name,
            format=_fits_format(table[column.name].dtype),
            unit=_unit(column, meta) or None,
            array=table[column.name],
        )
        for column in table.schema
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name=name)
    for number, column in enumerate(table.schema, 1):
        hdu.header[f"TCOMM{number}"] = column.description
    return hdu


def _fits_format(dtype: np.dtype) -> str:
    if dtype.kind == "U":
        return f"{dtype.itemsize // 4}A"
    return {"?": "L", "h": "I", "i": "J", "l": "K", "q": "K", "f": "E", "d": "D"}[dtype.char]


def _read_fits(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from astropy.io import fits

    from gpudiff.edges.header import STRUCTURE

    with fits.open(path, memmap=False) as hdus:
        header, data = hdus[1].header, hdus[1].data
        columns = {name: np.array(data[name]) for name in data.names}
        said = {key: header[key] for key in header if key and not STRUCTURE.match(key)}
    flags = {key[5:]: bit for key, bit in said.items() if key.startswith("FLAG_")}
    meta = {key.lower(): value for key, value in said.items() if not key.startswith("FLAG_")}
    return columns, {**meta, "FLAGS": flags} if flags else meta


# ---------------------------------------------------------------- Parquet and CSV
def _arrow(table: Table, meta: dict[str, Any]) -> Any:
    import pyarrow

    fields = [
        pyarrow.field(
            column.name,
            pyarrow.array(table[column.name]).type,
            metadata={"unit": _unit(column, meta), "description": column.description},
        )
        for column in table.schema
    ]
    schema = pyarrow.schema(fields, metadata={"gpudiff": json.dumps(meta)})
    return pyarrow.table([pyarrow.array(table[column.name]) for column in table.schema], schema=schema)


def _write_parquet(path: Path, table: Table, meta: dict[str, Any]) -> None:
    from pyarrow import parquet

    parquet.write_table(_arrow(table, meta), path)


def _read_parquet(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.read_table(path)
    said = (table.schema.metadata or {}).get(b"gpudiff", b"{}")
    return {name: table[name].to_numpy() for name in table.column_names}, json.loads(said)


def _write_csv(path: Path, table: Table, meta: dict[str, Any]) -> None:
    import csv

    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(zip(*(column.tolist() for column in table.columns.values()), strict=True))


def _read_csv(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import csv

    with open(path, newline="") as file:
        names, *rows = csv.reader(file)
    columns = {name: np.array([row[n] for row in rows]) for n, name in enumerate(names)}
    return {name: _typed(column) for name, column in columns.items()}, {}


def _typed(text: np.ndarray) -> np.ndarray:
    """Booleans of a CSV column as such; NumPy turns the other strings into numbers by the schema."""
    if len(text) and np.isin(text, ("True", "False")).all():
        return text == "True"
    return text


FORMATS: dict[str, tuple[Callable, Callable]] = {
    ".ecsv": (_write_ecsv, _read_ecsv),
    ".fits": (_write_fits, _read_fits),
    ".parquet": (_write_parquet, _read_parquet),
    ".csv": (_write_csv, _read_csv),
}
