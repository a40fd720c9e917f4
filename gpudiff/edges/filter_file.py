"""Filters as they are declared: a TOML file with one [[filter]] table each."""

import tomllib
from pathlib import Path

import msgspec

from gpudiff.model.errors import BadFilter
from gpudiff.model.filters import Filter


def read_filters(path: Path) -> list[Filter]:
    """The filters of a file, in its order, their expressions not yet looked at.

    Raises BadFilter, naming the filter and its key, for a file that is absent or not TOML, an unknown or missing
    key, a value of the wrong type or range, a name that two have.
    """
    try:
        tables = tomllib.loads(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadFilter(f"{path}: expected a TOML file: {error}") from None
    given = tables.get("filter")
    if set(tables) != {"filter"} or not isinstance(given, list) or not all(isinstance(t, dict) for t in given):
        raise BadFilter(f"{path}: expected [[filter]] tables and nothing else, got {sorted(tables)}")
    made = [_filter(path, number, table) for number, table in enumerate(given, 1)]
    names = [one.name for one in made]
    if twice := {name for name in names if names.count(name) > 1}:
        raise BadFilter(f"{path}: expected each name once, got {sorted(twice)} more often")
    return made


def _filter(path: Path, number: int, table: dict) -> Filter:
    where = f"{path}: filter {table.get('name', number)!r}"
    unknown = set(table) - set(Filter.__dataclass_fields__)
    if unknown:
        raise BadFilter(f"{where}: no such key: {sorted(unknown)}; expected {list(Filter.__dataclass_fields__)}")
    try:
        made = msgspec.convert(table, Filter)
    except msgspec.ValidationError as error:
        raise BadFilter(f"{where}: {error}") from None
    if not made.name.replace("-", "").replace("_", "").isalnum() or not made.owner:
        raise BadFilter(f"{where}: expected a name of letters, digits, - and _, and an owner")
    if made.quota < 1 or not 0 < made.largest_match_rate <= 1 or not 0 < made.time_limit_ms <= 1000:
        raise BadFilter(f"{where}: expected quota >= 1, 0 < largest_match_rate <= 1, 0 < time_limit_ms <= 1000")
    return made
