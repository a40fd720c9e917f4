"""Orbit tables: elements or states by column names, in any kind of table that objects come in."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from gpudiff.edges.sources import read_columns, whole_numbers
from gpudiff.model.errors import UnreadableFile

SAMPLE = Path(__file__).with_name("sample_orbits.csv")
"""A dozen bright asteroids with rounded elements, to try things with."""
ELEMENTS = ("a", "e", "i", "node", "peri", "m")
STATES = ("x", "y", "z", "vx", "vy", "vz")
JULIAN = 1e6
"""An epoch above it is a Julian date, one below a modified one."""


@dataclass(frozen=True)
class Orbits:
    """elements, states : the one that the table has, the other None; states are along the ecliptic
    columns : ssObjectId i8, designation S24, epoch (MJD TT), h, g, error (arcsec) f8
    """

    elements: dict[str, np.ndarray] | None
    states: np.ndarray | None
    columns: dict[str, np.ndarray]


def read_orbits(path: Path) -> Orbits:
    """The orbits in a table (.csv, .ecsv, .fits, .parquet) of heliocentric elements or states, J2000 ecliptic.

    Columns, in any case of letters: `epoch` (MJD or JD, TT); `a` (AU), `e`, `i`, `node`, `peri`, `M` (degrees), or
    `x`, `y`, `z` (AU), `vx`, `vy`, `vz` (AU/d); and where there are any `designation` or `name`, `ssObjectId`,
    `H`, `G`, `error` (arcsec at the epoch, 1 sigma).  Without a ssObjectId a digest of the designation is one.
    Raises UnreadableFile for columns that are missing, or values that no orbit has.
    """
    given = {name.lower(): column for name, column in read_columns(path).items()}
    kind = next((names for names in (STATES, ELEMENTS) if set(names) <= set(given)), None)
    if kind is None or "epoch" not in given:
        raise UnreadableFile(
            f"{path}: expected columns epoch and {ELEMENTS} or {STATES}, got {sorted(given)[:20]}"
        )
    try:
        numbers = {name: np.asarray(given[name], float) for name in ("epoch", *kind)}
        count = len(numbers["epoch"])
        others = {n: np.asarray(given.get(n, np.full(count, np.nan)), float) for n in ("h", "g", "error")}
        names = _designations(given, count)
        ids = whole_numbers("ssObjectId", given["ssobjectid"]) if "ssobjectid" in given else _digests(names)
    except (TypeError, ValueError) as error:
        raise UnreadableFile(f"{path}: expected numbers: {error}") from None
    _check(path, numbers)
    columns = {
        "ssObjectId": ids,
        "designation": names,
        "epoch": np.where(numbers["epoch"] > JULIAN, numbers["epoch"] - 2400000.5, numbers["epoch"]),
        **others,
        "error": np.nan_to_num(others["error"]),
    }
    if kind is STATES:
        return Orbits(None, np.stack([numbers[name] for name in STATES], -1), columns)
    return Orbits({name: numbers[name] for name in ELEMENTS}, None, columns)


def _check(path: Path, numbers: dict[str, np.ndarray]) -> None:
    bad = ~np.all([np.isfinite(column) for column in numbers.values()], axis=0)
    if "e" in numbers:
        bad |= ~((numbers["e"] >= 0) & (numbers["e"] < 1) & (numbers["a"] > 0))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        values = {name: float(column[row]) for name, column in numbers.items()}
        raise UnreadableFile(
            f"{path}: row {row + 1}: expected an orbit (elements: e below 1, a above 0), got {values}"
        )


def _designations(given: dict[str, np.ndarray], count: int) -> np.ndarray:
    """(N,) S24; that of a row without one is its number."""
    name = next((name for name in ("designation", "name", "ssobjectid") if name in given), None)
    said = [str(one).strip() for one in given[name].tolist()] if name else [""] * count
    texts = [f"orbit {n}" if one in ("", "nan") else one for n, one in enumerate(said, 1)]
    return np.array([one.encode()[:24] for one in texts], "S24")


def _digests(names: np.ndarray) -> np.ndarray:
    """(N,) int64, positive: the same for the same designation, always."""
    return np.array([xxhash.xxh3_64_intdigest(one) >> 1 for one in names.tolist()], np.int64)
