"""Tables to files and back; the suffix decides the format."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import BadConfiguration, UnreadableFile
from gpudiff.model.tables import FLAG_DESCRIPTIONS, FLAGS, Column, Table

IMAGE_UNIT = "image unit"
"""Stands in a schema for the unit of the science image; files carry that unit itself, meta["unit"]."""


def write_sources(path: str | Path, sources: Table, meta: dict[str, Any] | None = None) -> None:
    """Write one row per DIASource, with the names of the flag bits in the table's metadata (not in .csv).

    meta : numbers and strings to go with the table; "unit" is the science image's and that of the fluxes
    Raises BadConfiguration for a suffix that is no known format, StoreFailed.
    """
    write_table(path, sources, {**(meta or {}), "FLAGS": FLAGS, "FLAG_DESCRIPTIONS": FLAG_DESCRIPTIONS})


def write_table(path: str | Path, table: Table, meta: dict[str, Any] | None = None) -> None:
    """Write a table with its units and descriptions, whole or not at all.

    Columns keep the schema's order, dtype and names; ECSV and CSV keep every digit.
    Raises BadConfiguration for an unknown suffix, StoreFailed.
    """
    write = _writer(path)
    meta = meta or {}
    with atomically(path) as temporary:
        write(temporary, table, meta)


def read_table(path: str | Path, schema: tuple[Column, ...]) -> Table:
    """The columns of a schema from a file; others are left out.

    Raises UnreadableFile for a file that is absent, damaged, of no known format, or lacks a column.
    """
    columns = read_columns(path)
    try:
        return Table(schema, {c.name: columns[c.name] for c in schema})
    except KeyError as error:
        raise UnreadableFile(f"{path}: expected the columns of the schema, found no {error}") from None
    except ValueError as error:
        raise UnreadableFile(f"{path}: expected the columns of the schema: {error}") from None


def read_columns(path: str | Path) -> dict[str, np.ndarray]:
    """All columns of a table in a file, whoever wrote it: a masked number is NaN, a masked text ''.

    Raises UnreadableFile.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise UnreadableFile(f"{path}: expected a file named {', '.join(WRITERS)}")
    try:
        if suffix == ".parquet":
            from pyarrow import parquet

            rows = parquet.read_table(path)
            return {name: rows[name].to_numpy(zero_copy_only=False) for name in rows.column_names}
        from astropy.table import Table as AstropyTable

        read = AstropyTable.read(path, **ASTROPY[suffix])
        return {name: _plain(read[name]) for name in read.colnames}
    except FileNotFoundError:
        raise UnreadableFile(f"{path}: expected a table, found no file") from None
    except Exception as error:  # each format's reader has its own kinds
        raise UnreadableFile(f"{path}: expected a table: {' '.join(str(error).split())[:200]}") from None


def _plain(column: Any) -> np.ndarray:
    """A column of astropy's, NaN or '' where it is masked; truth that a CSV has in words as such."""
    text = column.dtype.kind == "U"
    if np.any(getattr(column, "mask", False)):
        column = column.filled("") if text else column.astype(float).filled(np.nan)
    words = text and len(column) and np.isin(column, ("True", "False")).all()
    return np.asarray(column) == "True" if words else np.asarray(column)


def check_suffix(path: str | Path) -> None:
    """Raises BadConfiguration when no table format has the path's suffix."""
    _writer(path)


def _writer(path: str | Path) -> Callable[[Path, Table, dict[str, Any]], None]:
    suffix = Path(path).suffix.lower()
    if suffix not in WRITERS:
        raise BadConfiguration(f"{path}: expected a table's suffix, one of {', '.join(WRITERS)}, got {suffix!r}")
    return WRITERS[suffix]


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


def _write_csv(path: Path, table: Table, meta: dict[str, Any]) -> None:
    import csv

    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table.columns)
        writer.writerows(zip(*(column.tolist() for column in table.columns.values()), strict=True))


WRITERS = {".ecsv": _write_ecsv, ".fits": _write_fits, ".parquet": _write_parquet, ".csv": _write_csv}
ASTROPY: dict[str, dict[str, Any]] = {
    ".ecsv": {"format": "ascii.ecsv"},
    ".fits": {"format": "fits", "character_as_bytes": False},
    ".csv": {"format": "ascii.csv"},
}
"""How astropy is told to read each."""
