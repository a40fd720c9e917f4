"""gpudiff announce: tell a running service which visits come next."""

import argparse
from collections import Counter
from pathlib import Path

DESCRIPTION = """\
Announce visits to a running service, so that their templates are ready before their frames come.

  gpudiff announce visits.jsonl
  gpudiff announce night.csv --horizon night --to tcp://camera-hall:5570

A file has one JSON message a line (WIRE.md says which keys), or is the CSV of a simulated night: of Rubin's
scheduler, or the pointings.csv of `gpudiff simulate`.
Exit status 0 when every visit was answered, 3 when one was refused, 1 when the service did not answer.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON lines, or a CSV file")
    parser.add_argument("--to", metavar="ENDPOINT", help="default: [service] frames, tcp://127.0.0.1:5570")
    parser.add_argument("--config", type=Path, help="TOML file")
    parser.add_argument("--revision", type=int, default=1, help="of the visits of a CSV file (%(default)s)")
    parser.add_argument(
        "--horizon", choices=("night", "hour", "next"), default="night", help="of the visits of a CSV file (night)"
    )
    parser.add_argument("--key", type=Path, metavar="FILE", help="NAME.key_secret, with service.key beside it")
    parser.add_argument("--timeout", type=float, default=10.0, metavar="S", help="longest silence (%(default)g)")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.announcer import announce
    from gpudiff.edges.next_visit import read_visits
    from gpudiff.model.config import load

    visits = list(read_visits(arguments.file, arguments.revision, arguments.horizon))
    endpoint, tally = arguments.to or load(arguments.config).service.frames, Counter[str]()
    for said in announce(endpoint, visits, arguments.timeout, arguments.key):
        tally[said["status"]] += 1
        if said["status"] == "refused":
            print(f"visit {said['visit']}: {said['error']}: {said['reason']}")
    print(f"{len(visits)} visits: " + ", ".join(f"{count} {status}" for status, count in tally.items()))
    return 3 if tally["refused"] else 0
