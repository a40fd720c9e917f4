"""gpudiff status: how a running service stands, in a terminal."""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group

    from gpudiff.edges.standing import Standing

DESCRIPTION = """\
Show how the service of DIRECTORY stands: programs, frames, visits with their detectors by state, latency of
their alerts, dead letters.  Reads its files beside it; stops nothing, asks nobody.  Ctrl-C ends the view.
"""
EVERY_S = 1.0
FRAMES = ("accepted", "done", "duplicate", "failed", "in_flight", "queued", "sources", "alerts")


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.description = DESCRIPTION
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="that `gpudiff run` was given")
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--json", action="store_true", help="print once, as JSON")


def run(arguments: argparse.Namespace) -> int:
    """0; raises StoreFailed for a directory that is absent."""
    from rich.console import Console
    from rich.live import Live

    from gpudiff.edges.standing import as_dict, standing

    found = standing(arguments.directory)
    if arguments.json:
        print(json.dumps(as_dict(found), indent=1))
    elif arguments.once:
        Console().print(view(found, arguments.directory))
    else:
        with Live(view(found, arguments.directory), auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(EVERY_S)
                live.update(view(standing(arguments.directory), arguments.directory), refresh=True)
    return 0


def view(found: "Standing", directory: Path) -> "Group":
    """The whole picture."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(f"gpudiff  {directory}", style="bold"), *_programs(found), _visits(found)]
    if found.trouble:
        parts.append(Text(found.trouble, style="red"))
    letters = Text(f"dead letters: {found.dead_letters}", style="yellow" if found.dead_letters else "green")
    errors = [Text(f"  {one['time'][11:19]}  {one['name']}: {one['reason']}", "yellow") for one in found.errors]
    return Group(*parts, letters, *errors)


def _programs(found: "Standing") -> list[Any]:
    """A line for each program, and what became of the frames."""
    from rich.text import Text

    lines = []
    for name, said in (("differencer", found.differencer), ("associator", found.associator)):
        state = said.get("state", "never started")
        if said and not said["running"] and state != "stopped":
            state = "dead"
        style = {"running": "green", "ready": "green", "dead": "bold red"}.get(state, "yellow")
        where = said.get("frames") or said.get("detections") or ""
        lines.append(
            Text.assemble(f"{name:<12} ", (f"{state:<14}", style), f"pid {said.get('pid', '-')}  {where}")
        )
    said = found.differencer
    if said:
        counted = "  ".join(f"{key} {said.get(key, 0)}" for key in FRAMES)
        rejected = sum(said.get("rejected", {}).values())
        workers = f"workers {len(said.get('workers', []))} (restarted {said.get('worker_restarts', 0)})"
        lines.append(Text(f"{'frames':<12} {counted}  rejected {rejected}"))
        lines.append(Text(f"{'':<12} {workers}  objects {found.associator.get('objects', '-')}"))
    for name, said in (("differencer", found.differencer), ("associator", found.associator)):
        if left := said.get("load", {}).get("left_out"):
            lines.append(Text(f"{'left out':<12} {', '.join(left)} (under load, {name})", "yellow"))
    return lines


def _visits(found: "Standing") -> Any:
    """The last visits, newest below."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("visit", no_wrap=True)
    table.add_column("state")
    table.add_column("detectors")
    for name in ("sources", "known", "other", "median s", "p98 s", "max s"):
        table.add_column(name, justify="right")
    for one in found.visits:
        states = "  ".join(f"{count} {state.lower()}" for state, count in sorted(one["states"].items()))
        seconds = [_seconds(one["latency"][key]) for key in ("median_s", "p98_s", "max_s")]
        counts = [str(one[key]) for key in ("sources", "known", "new")]
        table.add_row(str(one["visit"]), one["state"], states, *counts, *seconds)
    return table


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
