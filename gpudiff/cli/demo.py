"""gpudiff demo: simulate a night, run the service on it, report what it found."""

import argparse
import json
from pathlib import Path
from typing import Any

from gpudiff.cli.simulate import add_options, focal_plane_of, night_of

DESCRIPTION = """\
Simulate a night, start the service (`gpudiff run`) on it with a few filters, send every frame over ZeroMQ, and
compare the alerts with what was put in.  Then replay the archive id for id, and verify the fingerprint of an alert
that a filter let through.  Ends with a table, and OUTPUT/report.html with the cutouts, which opens in any browser,
offline.

  gpudiff demo --output demo --visits 3 --detectors 9 --size 1024

Exit status 0 only when every frame was taken, at least 70 % of the detectable changes were found, the replay was
complete, the fingerprint was verified, and no filter was switched off.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("--output", "-o", type=Path, default=Path("demo"), help="folder to write (default: demo)")
    add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.cli.progress import bars
    from gpudiff.edges.atomic import atomically
    from gpudiff.edges.page import write_page
    from gpudiff.services.demo import recorded, run_demo

    night, plane = night_of(arguments), focal_plane_of(arguments)
    with bars("simulating", "sending") as (simulating, sending):
        demo = run_demo(night, plane, arguments.output, simulating, sending, arguments.processes)
    page = arguments.output / "report.html"
    write_page(page, demo)
    with atomically(arguments.output / "demo.json") as temporary:
        temporary.write_text(json.dumps(recorded(demo), indent=1) + "\n")
    _print(demo, page)
    return 1 if demo.problems else 0


def _print(demo: Any, page: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from gpudiff.model.demo import summary

    table = Table(title="gpudiff demo", title_justify="left", show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    for row in summary(demo):
        table.add_row(*row)
    console = Console(soft_wrap=False)
    console.print(table)
    for problem in demo.problems:
        console.print(f"[red]failed:[/red] {escape(problem)}", highlight=False)
    print(f"report: {page}")
