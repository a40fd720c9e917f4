"""Tables to files and back; the suffix decides the format."""

import csv
import json
from collections.abc import Callable, Iterable
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


def whole_numbers(name: str, column: np.ndarray) -> np.ndarray:
    """(N,) int64 of a column; raises ValueError for a row without a whole number, or whose digits a float lost."""
    if column.dtype.kind == "f":
        bad = ~((column == np.rint(column)) & (np.abs(column) < 1 << 53))
        if bad.any():
            row = int(bad.argmax())
            raise ValueError(f"{name}: expected a whole number in every row, row {row + 1} has {column[row]}")
    return column.astype(np.int64)


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
    """ECSV 1.0 (Aldcroft 2021, APE 6) as astropy reads it, which takes longer to import than this to write.

    Its header is YAML, of which JSON is a part, but for floats without a point.
    """
    said = [
        f"  {json.dumps(key)}: {'!!float ' * isinstance(one, float)}{json.dumps(one)}" for key, one in meta.items()
    ]
    header = [
        "%ECSV 1.0",
        "---",
        "datatype:",
        *(f"- {_described(column, table, meta)}" for column in table.schema),
    ]
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.writelines(f"# {line}\n" for line in [*header, *(["meta:", *said] if meta else [])])
        rows = zip(*map(_words, table.columns.values()), strict=True)
        file.writelines(" ".join(row) + "\n" for row in [tuple(table.columns), *rows])


def _words(column: np.ndarray) -> list[str]:
    """A column's values as ECSV has them; text in quotes, for it may be empty or have spaces."""
    if column.dtype.kind != "U":
        return column.astype(str).tolist()
    return ['"' + text.replace('"', '""') + '"' for text in column.tolist()]


def _described(column: Column, table: Table, meta: dict[str, Any]) -> str:
    """What an ECSV header says of a column, as JSON."""
    kind, unit = table[column.name].dtype, _unit(column, meta)
    datatype = "string" if kind.kind == "U" else kind.name
    return json.dumps(
        {"name": column.name, "datatype": datatype, "description": column.description}
        | ({"unit": unit} if unit else {})
    )


# ---------------------------------------------------------------- FITS
def _write_fits(path: Path, table: Table, meta: dict[str, Any]) -> None:
    """A binary table; flag bits as FLAG_* cards, other metadata under their own keywords."""
    from astropy.io import fits

    from gpudiff.edges.header import card

    descriptions = meta.get("FLAG_DESCRIPTIONS", {})
    flags = [card(f"FLAG_{name}", bit, descriptions.get(name, "")) for name, bit in meta.get("FLAGS", {}).items()]
    others = [card(key.upper(), value) for key, value in meta.items() if isinstance(value, str | int | float)]
    primary = fits.PrimaryHDU().header.tostring().encode("ascii")
    path.write_bytes(primary + binary_table("SOURCES", table, meta, [*flags, *others]))


def binary_table(name: str, table: Table, meta: dict[str, Any], cards: Iterable[Any] = ()) -> bytes:
    """The HDU of a FITS binary table with the columns' units, their meanings as TCOMM cards, and more cards.

    As a file has it, and as astropy would write it, whose tables take long to import.  meta["unit"] : BUNIT
    """
    from astropy.io.fits import Header

    from gpudiff.edges.header import printable

    given = {column.name: _fits_values(table[column.name]) for column in table.schema}
    rows = np.empty(len(table), [(key, values.dtype) for key, values in given.items()])
    for key, values in given.items():
        rows[key] = values
    header = Header(
        [
            ("XTENSION", "BINTABLE", "binary table extension"),
            ("BITPIX", 8, "array data type"),
            ("NAXIS", 2, "number of array dimensions"),
            ("NAXIS1", rows.itemsize, "length of dimension 1"),
            ("NAXIS2", len(rows), "length of dimension 2"),
            ("PCOUNT", 0, "number of group parameters"),
            ("GCOUNT", 1, "number of groups"),
            ("TFIELDS", len(given), "number of table fields"),
        ]
    )
    for number, column in enumerate(table.schema, 1):
        header[f"TTYPE{number}"] = column.name
        header[f"TFORM{number}"] = _fits_format(table[column.name].dtype)
        if unit := _unit(column, meta):
            header[f"TUNIT{number}"] = printable(unit)
    header["EXTNAME"] = name, "extension name"
    for number, column in enumerate(table.schema, 1):
        header[f"TCOMM{number}"] = column.description
    header.extend(cards)
    return header.tostring().encode("ascii") + rows.tobytes() + bytes(-rows.nbytes % 2880)


def _fits_values(column: np.ndarray) -> np.ndarray:
    """A column as FITS has it: big-endian numbers, T or F, ASCII."""
    if column.dtype == bool:
        return np.where(column, b"T", b"F")
    return column.astype(
        f"S{column.itemsize // 4}" if column.dtype.kind == "U" else column.dtype.newbyteorder(">")
    )


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
