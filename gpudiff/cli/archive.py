"""gpudiff archive: index the alert archive, export nights to Parquet, delete old ones."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Looks after ARCHIVE, the folder of the archive files or a service's directory.
  index     seals what is not indexed yet and merges each night's index into one (--anew: from the files alone)
  export    writes parquet/sources/NIGHT.parquet and parquet/objects/NIGHT.parquet, without cutouts
  delete    removes archive files of nights older than --days, if they are sealed and exported
"""
EPILOG = """\
examples:
  gpudiff archive index night
  gpudiff archive export night
  gpudiff archive delete night --days 30 --dry-run
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("action", choices=("index", "export", "delete"))
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="its folder, or a service's directory")
    parser.add_argument("--anew", action="store_true", help="index: forget the index, make it again")
    parser.add_argument("--night", type=int, metavar="MJD", help="export: only this night")
    parser.add_argument("--days", type=float, default=30, metavar="N", help="delete: keep this long (%(default)g)")
    parser.add_argument("--dry-run", action="store_true", help="delete: only say what would go")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.alert_archive import AlertArchive, archive_folder

    folder = archive_folder(arguments.archive)
    if arguments.action == "index":
        index(folder, arguments.anew)
    elif arguments.action == "export":
        export(AlertArchive(folder), arguments.night)
    else:
        delete(AlertArchive(folder), arguments.days, arguments.dry_run)
    return 0


def index(folder: Path, anew: bool) -> None:
    """Seal everything; one segment a night."""
    from gpudiff.cli.progress import bars
    from gpudiff.edges.alert_index import AlertIndex

    made = AlertIndex(folder)
    with bars("index") as (move,):
        (made.rebuild if anew else made.catch_up)(move)
    for night in sorted({segment.coverage.night for segment in made.segments}):
        made.consolidate(night)
    print(f"{sum(map(len, made.segments))} alerts in the index, {len(made.segments)} nights")


def export(opened: Any, night: int | None) -> None:
    """Write the tables of each night, or of one."""
    from gpudiff.edges import alert_nights

    for number, rows in alert_nights.nights(opened).items():
        if night in (None, number):
            sources, _ = alert_nights.export(opened, number, rows)
            print(f"night {number}: {len(rows)} alerts to {sources}")


def delete(opened: Any, days: float, dry_run: bool) -> None:
    """Say what goes and what stays, and why; then do it."""
    from gpudiff.edges import alert_nights
    from gpudiff.model.alert_index import night_of
    from gpudiff.model.clock import tai_now

    found = list(alert_nights.deletable(opened, night_of(tai_now() - days)))
    for name, reason in found:
        print(f"{name}: {f'kept, {reason}' if reason else 'would be deleted' if dry_run else 'deleted'}")
    going = [name for name, reason in found if not reason]
    if not dry_run and going:
        alert_nights.delete(opened, going)
    print(f"{len(going)} files {'would be ' if dry_run else ''}deleted")
