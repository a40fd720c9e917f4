"""gpudiff objects: the store of known objects."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
`build` writes the store of known objects that a night starts from, from tables with columns ra and dec in degrees
(any other DIAObject column is taken by name; .csv, .ecsv, .fits, .parquet), or from a service's ledger, its file
or a postgresql:// URL: tonight's results become tomorrow's known sky. A store that is there is merged with: by
diaObjectId, the later source wins; rows of tables without that column get an id from their place. The store is
written new, synced and renamed; the one before stays as OUTPUT.previous.

  gpudiff objects build catalogue.parquet --output known.sky
  gpudiff objects build service/ledger.sqlite --output known.sky
  gpudiff objects build postgresql://gpudiff@db/ledger --output known.sky

`near` lists what a store knows around a place.

  gpudiff objects near known.sky --ra 150.1 --dec 2.2 --radius 0.01
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    told: Any = {"description": DESCRIPTION, "formatter_class": parser.formatter_class}
    build = actions.add_parser("build", help="write a store", **told)
    build.add_argument(
        "sources", nargs="+", type=_source, metavar="SOURCE", help="tables or ledgers, the last one wins"
    )
    build.add_argument("--output", "-o", type=Path, required=True, metavar="FILE", help="the store")
    near = actions.add_parser("near", help="list objects around a place", **told)
    near.add_argument("store", type=Path, metavar="STORE", help="that `build` wrote")
    near.add_argument("--ra", type=float, required=True, help="degrees")
    near.add_argument("--dec", type=float, required=True, help="degrees")
    near.add_argument("--radius", type=float, default=1 / 60, help="degrees (default: an arcminute)")


def _source(text: str) -> Path | str:
    return text if text.startswith(("postgresql://", "postgres://")) else Path(text)


def run(arguments: argparse.Namespace) -> int:
    return _build(arguments) if arguments.action == "build" else _near(arguments)


def _build(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.object_store import build

    count, unplaced = build(arguments.output, arguments.sources)
    left_out = f"; {unplaced} without a position left out" if unplaced else ""
    print(f"{arguments.output}: {count} known objects{left_out}")
    return 0


def _near(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.object_store import ObjectStore
    from gpudiff.model.sky import within

    store = ObjectStore(arguments.store)
    found = store.cone(arguments.ra, arguments.dec, arguments.radius)
    found = found.take(within(found["ra"], found["dec"], arguments.ra, arguments.dec, arguments.radius))
    print(f"{len(found)} of {len(store)} known objects within {arguments.radius:g} degrees")
    for row in found.rows():
        print(f"{row['diaObjectId']:20d} {row['ra']:12.7f} {row['dec']:+12.7f} seen {row['nDiaSources']} times")
    return 0
