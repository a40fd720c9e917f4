"""gpudiff query: alerts of the archive by id, object, time, place, or SQL over its nightly tables."""

import argparse
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Finds alerts in ARCHIVE, the folder of the archive files or a service's directory. Conditions are joined by "and".
Prints a table, or writes the alerts: .avro as they are, .parquet, .csv and .ecsv their columns without cutouts.
"""
EPILOG = """\
examples:
  gpudiff query night --id 117702656
  gpudiff query night --cone 150.1 2.2 5 --output near.ecsv
  gpudiff query night --from 61000.5 --to 61000.6 --output hour.avro
  gpudiff query night --sql "SELECT visit, count(*) FROM sources GROUP BY visit"
  gpudiff query night --check
"""
SHOWN = ("midpointMjdTai", "band", "ra", "dec", "psfFlux", "snr")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="its folder, or a service's directory")
    parser.add_argument("--sql", metavar="SELECT", help="over tables sources and objects (gpudiff archive export)")
    parser.add_argument("--check", action="store_true", help="verify the blocks' checksums, name what is damaged")
    parser.add_argument("--output", type=Path, metavar="FILE", help=".avro, .parquet, .csv or .ecsv")
    parser.add_argument("--limit", type=natural, default=50, metavar="N", help="lines printed (%(default)s)")
    conditions(parser)


def natural(text: str) -> int:
    """A number of lines; raises ValueError for one below 0."""
    if int(text) < 0:
        raise ValueError
    return int(text)


def conditions(parser: argparse.ArgumentParser) -> None:
    """The options that say which alerts."""
    parser.add_argument("--id", type=int, metavar="DIASOURCEID", help="of a detection")
    parser.add_argument("--object", type=int, metavar="DIAOBJECTID", help="all detections of an object")
    parser.add_argument("--visit", type=int, metavar="N")
    parser.add_argument("--from", type=float, dest="since", metavar="MJD", help="TAI, this time included")
    parser.add_argument("--to", type=float, dest="until", metavar="MJD", help="TAI, this time not included")
    parser.add_argument(
        "--cone", type=float, nargs=3, metavar=("RA", "DEC", "ARCSEC"), help="ICRS degrees, radius"
    )
    parser.add_argument(
        "--latest", action="store_true", help="without what a later revision of its frame withdrew"
    )


def query_of(arguments: argparse.Namespace) -> Any:
    """The model.alert_index.AlertQuery that the options say."""
    from gpudiff.model.alert_index import AlertQuery, Cone

    cone = Cone(*arguments.cone) if arguments.cone else None
    ids = arguments.id, arguments.object, arguments.visit
    return AlertQuery(*ids, arguments.since, arguments.until, cone)


def found(opened: Any, arguments: argparse.Namespace) -> Any:
    """Table of PLACED: where the alerts lie that the options ask for."""
    rows = opened.find(query_of(arguments))
    return rows.take(~opened.withdrawn(rows)) if arguments.latest else rows


def run(arguments: argparse.Namespace) -> int:
    """Print or write; 0, or 3 when --check finds damage."""
    from gpudiff.edges.alert_archive import AlertArchive, archive_folder
    from gpudiff.model.errors import BadConfiguration

    folder = archive_folder(arguments.archive)
    if arguments.output and folder.resolve() in arguments.output.resolve().parents:
        raise BadConfiguration(f"--output {arguments.output}: expected a file outside the archive {folder}")
    if arguments.sql:
        return ask(folder, arguments)
    opened = AlertArchive(folder)
    for note in opened.notes:
        print(note, file=sys.stderr)
    if arguments.check:
        damage = list(opened.damage())
        sys.stdout.writelines(f"{line}\n" for line in damage)
        print(f"{len(opened.index.checksums())} sealed blocks, {len(damage)} damaged")
        return 3 if damage else 0
    rows = found(opened, arguments)
    if arguments.output:
        from gpudiff.edges.alert_table import write_alerts

        write_alerts(arguments.output, opened.alerts(rows))
        print(f"{len(rows)} alerts written to {arguments.output}")
        return 0
    show(opened, rows, arguments.limit)
    return 0


def show(opened: Any, rows: Any, limit: int) -> None:
    """A table of the first alerts, and how many there are."""
    from gpudiff.edges.alert_table import table_of

    first = rows.take(slice(0, limit))
    values = table_of(opened.alerts(first))
    names = [name for name in SHOWN if name in values.column_names]
    columns = [first[name].tolist() for name in ("diaSourceId", "revision", "diaObjectId")]
    columns += [values[name].to_pylist() for name in names] + [first["file"].tolist()]
    print_table(["diaSourceId", "revision", "diaObjectId", *names, "file"], list(zip(*columns, strict=True)))
    print(f"{len(rows)} alerts" + (f", the first {limit} shown" if len(rows) > limit else ""))


def ask(folder: Path, arguments: argparse.Namespace) -> int:
    """Print or write the answer to --sql."""
    from gpudiff.edges.alert_nights import ask_sql
    from gpudiff.edges.alert_table import write_table

    table = ask_sql(folder, arguments.sql)
    if arguments.output:
        write_table(arguments.output, table)
        print(f"{len(table)} rows written to {arguments.output}")
        return 0
    print_table(table.column_names, [tuple(row.values()) for row in table.slice(0, arguments.limit).to_pylist()])
    print(f"{len(table)} rows")
    return 0


def print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    """Columns on standard output, as wide as they need to be."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*names, box=None)
    for row in rows:
        table.add_row(*map(_text, row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _text(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else escape(str(value))
