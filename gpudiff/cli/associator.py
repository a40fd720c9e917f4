"""gpudiff associator: decide known or new, keep the ledger, publish alerts."""

import argparse
import signal
import sys
from pathlib import Path

from gpudiff.model.config import load

DESCRIPTION = """\
Takes detections from differencers over ZeroMQ. In DIR it keeps ledger.sqlite (detections, objects, states),
alerts/VISIT.avro (one Avro file a visit), dead/ (messages it refused, with the reason) and associator.json
(what it counted). Prints one line, `ready: detections ENDPOINT`, when it takes detections. Stops on SIGTERM
or Ctrl-C, after the batch in hand.
"""
EXAMPLE = "example: gpudiff associator --directory night --detections tcp://127.0.0.1:5571"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = DESCRIPTION, EXAMPLE
    parser.add_argument("--directory", type=Path, required=True, metavar="DIR", help="where results are kept")
    parser.add_argument(
        "--detections", metavar="ENDPOINT", help="where differencers connect to; needed with [service] associators"
    )
    parser.add_argument("--metrics", metavar="[HOST:]PORT", help="serve /metrics, /healthz and /readyz there")
    parser.add_argument("--log", choices=("json", "text"), default="text", help="form of the log on stderr")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration, TOML")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.keys import warning
    from gpudiff.services import log
    from gpudiff.services.associator_loop import serve
    from gpudiff.services.settings import one_associator

    configuration = load(arguments.config)
    endpoint = one_associator(arguments.detections, configuration.service)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda which, _: told.append(which))

    def ready(bound: str) -> None:
        said = warning(configuration.security, bound)
        if said:
            print(said, file=sys.stderr, flush=True)
        print(f"ready: detections {bound}", flush=True)

    log.start("associator", arguments.log)
    serve(arguments.directory, endpoint, configuration, ready, lambda: bool(told), arguments.metrics)
    return 0
