"""gpudiff replay: archived alerts to a sink again, at the pace of their times."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from gpudiff.cli import query

DESCRIPTION = """\
Sends alerts of ARCHIVE to a sink again, in order of time and at the pace of their times, or --speed times faster.
Without --sink it prints one JSON object a line, an alert each. The conditions are those of gpudiff query.
"""
EPILOG = """\
examples:
  gpudiff replay night --speed 10x --from 61000.5 --to 61000.6 --sink zmq+tcp://127.0.0.1:5571
  gpudiff replay night --speed max
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="its folder, or a service's directory")
    parser.add_argument("--speed", type=_speed, default=1.0, metavar="10x", help="or max, for no waiting (1x)")
    parser.add_argument("--sink", metavar="URL", help="zmq+tcp://, kafka://, voevent+tcp:// (default: print)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML; its [security] says who may subscribe")
    query.conditions(parser)


def run(arguments: argparse.Namespace) -> int:
    """Replay; 0, or 1 when the sink refused alerts or was not there."""
    from gpudiff.edges.alert_archive import AlertArchive, archive_folder
    from gpudiff.edges.alert_batches import batches
    from gpudiff.edges.alert_schema import SCHEMA_ID
    from gpudiff.services.replay import replay

    opened = AlertArchive(archive_folder(arguments.archive))
    rows = query.found(opened, arguments)
    sink = _sink(arguments.sink, arguments.config)
    try:
        counts = _with_progress(
            len(rows), lambda move: replay(batches(opened, rows, SCHEMA_ID), sink, arguments.speed, progress=move)
        )
    finally:
        sink.close()
    print(f"{counts['delivered']} alerts replayed, {counts['refused']} refused", file=sys.stderr)
    return 1 if counts["refused"] else 0


class Printed:
    """A sink that prints what it gets, one JSON object an alert."""

    name = "standard output"

    def publish(self, batch: Any) -> Any:
        """Print; everything is delivered."""
        from gpudiff.model.outgoing import Delivery

        shown = ("diaSourceId", "revision", "diaObjectId", "midpointMjdTai", "band", "ra", "dec", "psfFlux", "snr")
        for row in batch.rows.rows():
            print(json.dumps({name: row[name] if row[name] == row[name] else None for name in shown}), flush=True)
        return Delivery(len(batch))

    def close(self) -> None:
        """Nothing to give back."""


def _sink(url: str | None, config: Path | None) -> Any:
    if url is None:
        return Printed()
    from gpudiff.model.config import load
    from gpudiff.services.outlets import sink_of

    return sink_of(url, load(config).security)


def _with_progress(total: int, work: Any) -> Any:
    from gpudiff.cli.progress import bars

    if not sys.stderr.isatty():
        return work(lambda alerts: None)
    done = 0
    with bars("replay") as (move,):

        def count(alerts: int) -> None:
            nonlocal done
            done += alerts
            move(done, total)

        return work(count)


def _speed(text: str) -> float:
    value = float("inf") if text == "max" else float(text.removesuffix("x"))
    if not value > 0:
        raise ValueError
    return value
