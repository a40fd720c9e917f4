"""gpudiff templates: make templates from earlier exposures."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Make the templates that `gpudiff subtract` and the service take.

  gpudiff templates build earlier/*.fits --output templates
  gpudiff templates build earlier/*.fits --output templates --tiles 256

Exposures of one band that show the same sky are brought onto one grid and one scale, cleaned of cosmic rays and of
whatever only one of them shows, and added up; that takes three or more to be safe.  The grid is that of the first
exposure of each footprint, or with --tiles that of a HEALPix cell (nside 256: 14 arcmin wide).  Each file has the
table INPUTS, which says what went in with which weight, and the plane COVERAGE, how many exposures count in each
pixel.

Exit status 0 when a template was written, 3 when none could be.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    told: Any = {"description": DESCRIPTION, "formatter_class": parser.formatter_class}
    build = commands.add_parser("build", help="from earlier exposures", **told)
    build.add_argument("frames", type=Path, nargs="+", metavar="FRAMES", help="FITS files of exposures")
    build.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for the templates")
    build.add_argument("--tiles", type=int, default=0, metavar="NSIDE", help="one template a HEALPix cell, nested")
    build.add_argument("--config", type=Path, metavar="TOML", help="settings, as of `gpudiff subtract`")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.cli.progress import bars
    from gpudiff.model.config import load
    from gpudiff.services.template_builder import build

    configuration = load(arguments.config)
    with bars("building") as (move,):
        built = build(arguments.frames, arguments.output, configuration, arguments.tiles, move)
    for name, reason in built.refused.items():
        print(f"left out: {name}: {reason}")
    for path in built.templates:
        print(path)
    print(f"{len(built.templates)} templates of {len(arguments.frames)} exposures, {len(built.refused)} left out")
    return 0 if built.templates else 3
