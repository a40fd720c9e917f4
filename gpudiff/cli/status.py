"""gpudiff status: how a running service stands, in a terminal."""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, Group

    from gpudiff.edges.standing import Standing

DESCRIPTION = """\
Show how the service of DIRECTORY stands: programs, frames, queues, the last hour, how far each sink is behind,
visits with their detectors by state, latency of their alerts, dead letters.  Reads its files beside it; stops
nothing, asks nobody.  Ctrl-C ends the view.
"""
EVERY_S = 1.0
SHORT = {"COMMITTED": "ok"}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="that `gpudiff run` was given")
    parser.add_argument("--once", action="store_true", help="print once and end")
    parser.add_argument("--json", action="store_true", help="print once, as JSON")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML; its [ledger] store, where that is no file"
    )


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from gpudiff.edges.standing import standing
    from gpudiff.model.config import load

    store = load(arguments.config).ledger.store
    found = standing(arguments.directory, store)
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
    elif arguments.once:
        Console().print(view(found, arguments.directory))
    else:
        console = Console()
        first = fitting(found, arguments.directory, console)
        with Live(first, console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(EVERY_S)
                found = standing(arguments.directory, store)
                live.update(fitting(found, arguments.directory, console), refresh=True)
    return 0


def fitting(found: "Standing", directory: Path, console: "Console") -> "Group":
    """The picture with as many of the last visits as the terminal has lines for, one at the least."""
    for count in range(len(found.visits), 1, -1):
        made = view(replace(found, visits=found.visits[-count:]), directory)
        if len(console.render_lines(made)) <= console.height:
            return made
    return view(replace(found, visits=found.visits[-1:]), directory)


def view(found: "Standing", directory: Path) -> "Group":
    """The whole picture."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Any] = [Text(f"gpudiff  {directory}", style="bold"), _lines(found)]
    for one in found.sinks:
        parts += [Text(), *_sink(one)]
    elsewhere = bool(found.differencer) and not found.associator
    if not (found.trouble and elsewhere):  # else the ledger is where the associator is
        parts += [Text(), _visits(found), *([Text(found.trouble, style="red")] if found.trouble else [])]
    letters = Text(f"dead letters: {found.dead_letters}", style="yellow" if found.dead_letters else "green")
    errors = [Text(f"  {one['time'][11:19]}  {one['name']}: {one['reason']}", "yellow") for one in found.errors]
    return Group(*parts, letters, *errors)


def _lines(found: "Standing") -> Any:
    """Programs, what became of the frames, queues, the last hour: a name and what is to be said of it."""
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    told = [*_programs(found), *_frames(found.differencer, found.associator)]
    for name, said in (("differencer", found.differencer), ("associator", found.associator)):
        if left := said.get("load", {}).get("left_out"):
            told.append(("left out", f"[yellow]{', '.join(left)} (under load, {name})[/]"))
    if shut := _not_let_in(found):
        told.append(("not let in", f"[yellow]{escape(', '.join(shut))}[/]"))
    if found.held:
        told.append(("held", f"[yellow]{found.held} alerts of suspect frames wait for `gpudiff ledger`[/]"))
    for one in found.filters_off:
        told.append(
            ("filter off", f"[yellow]{escape(one['name'])} of {escape(one['owner'])}: {escape(one['reason'])}[/]")
        )
    if found.filters_wrong:
        told.append(("filters", f"[yellow]the old ones stay: {escape(found.filters_wrong)}[/]"))
    for row in [*told, *_hour(found.hour)]:
        grid.add_row(*row)
    return grid


def _not_let_in(found: "Standing") -> list[str]:
    """Connections that were refused for their keys, by what they wanted and why."""
    refused = {f"frames: {why}": count for why, count in found.differencer.get("refused", {}).items()}
    for name, count in found.associator.get("counts", {}).items():
        if name.startswith("refused "):
            refused[name.removeprefix("refused ")] = count
    return [f"{count} {name}" for name, count in refused.items()]


def _programs(found: "Standing") -> Iterator[tuple[str, str]]:
    for name, said in (("differencer", found.differencer), ("associator", found.associator)):
        if not said:
            yield name, "[dim]never started in this directory[/]"
            continue
        state = said["state"]
        if not said["running"] and state != "stopped":
            state = "dead"
        style = {"running": "green", "ready": "green", "dead": "bold red"}.get(state, "yellow")
        where = said.get("frames") or said.get("detections") or ""
        yield name, f"[{style}]{state:<12}[/] pid {said['pid']}  {escape(where)}"


def _frames(said: dict[str, Any], associator: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What became of frames, who works on them, what waits; nothing without a differencer."""
    if not said:
        return
    rejected = sum(said.get("rejected", {}).values())
    yield "frames", f"{_counts(said, 'accepted', 'done', 'duplicate', 'failed')}  rejected {rejected}"
    held, room = said.get("bytes", 0) / 1e9, said.get("room", 0) / 1e9
    in_hand = f"in hand {said.get('in_flight', 0)}  queued {said.get('queued', 0)}"
    yield "queue", f"{in_hand}  {held:.2f} of {room:.2f} GB"
    yield "clients", f"{said.get('clients', 0)} with frames in hand, {said.get('credit', 0)} frames each at most"
    workers = f"{said.get('busy', 0)} of {len(said.get('workers', []))} busy"
    yield "workers", f"{workers}, {said.get('worker_restarts', 0)} restarted"
    yield "results", f"{_counts(said, 'sources', 'alerts')}  objects {associator.get('objects', '-')}"
    others = said.get("associators", {})
    for endpoint, one in () if associator and len(others) == 1 else others.items():
        state = "[green]connected[/]" if one["connected"] else f"[bold red]{one['refused'] or 'away'}[/]"
        yield "associators" if endpoint == next(iter(others)) else "", f"{state}  {escape(endpoint)}"
    if said.get("away"):
        yield "", f"[yellow]{said['away']} frames wait for an associator that is away[/]"
    if said.get("put_off") or said.get("forced_dropped"):
        told = f"{said.get('put_off', 0)} frames to be made up, {said.get('forced_dropped', 0)} dropped"
        yield "forced", f"[yellow]{told}[/]"


def _hour(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if said:
        yield "last hour", _counts(said, "visits", "frames", "alerts")
        times = said["latency"]
        shown = "  ".join(f"{name} {_seconds(times[f'{name}_s'])} s" for name in ("median", "p98", "max"))
        yield "", f"latency {shown}" if times["count"] else "latency -"


def _counts(said: dict[str, Any], *names: str) -> str:
    return "  ".join(f"{name} {said.get(name, 0)}" for name in names)


def _sink(one: dict[str, Any]) -> Iterator[Any]:
    """Its name, whole on a line; what is archived but not yet delivered to it; its trouble."""
    from rich.text import Text

    style = "yellow" if one["frames"] or one["refused"] else ""
    yield Text(f"sink {one['name']}", style or "bold", no_wrap=True, overflow="ignore")
    waits = f"{one['alerts']} alerts wait for {_seconds(one['wait_s'])} s" if one["frames"] else "nothing waits"
    yield Text(f"  {waits}  {_counts(one, 'delivered', 'refused', 'errors')}", style)
    if one["trouble"]:
        yield Text(f"  {one['trouble']}", "yellow")


def _visits(found: "Standing") -> Any:
    """The last visits, newest below; all of it fits 80 columns."""
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("visit", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("detectors")
    for name in ("sources", "known", "median p98 max s"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found.visits:
        states = (f"{count} {SHORT.get(state, state.lower())}" for state, count in sorted(one["states"].items()))
        seconds = " ".join(f"{_seconds(one['latency'][key]):>4}" for key in ("median_s", "p98_s", "max_s"))
        counts = [str(one[key]) for key in ("sources", "known")]
        table.add_row(str(one["visit"]), one["state"], " ".join(states), *counts, seconds)
    return table


def escape(text: str) -> str:
    """The text as rich shows it without reading marks in it."""
    from rich.markup import escape as escaped

    return escaped(text)


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
