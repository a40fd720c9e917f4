"""gpudiff ledger: the visits of a night, and alerts that the artefact breaker holds."""

import argparse
import time
from contextlib import closing
from pathlib import Path

from gpudiff.model.config import Configuration, load

DESCRIPTION = """\
  gpudiff ledger visits --directory night                      each visit: state, detectors, sources
  gpudiff ledger release 26112200017 --detector 42 --directory night
  gpudiff ledger drop 26112200017 --detector 42 --directory night

A frame with far more detections than its detector usually has is suspect: it is committed, but its alerts wait.
`release` lets them go to the sinks, `drop` never does (the archive has them either way). Both ask the running
associator; without --detector they speak of all suspect frames of the visit.
"""
PATIENCE_S = 30.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("what", choices=("visits", "release", "drop"))
    parser.add_argument("visit", type=int, nargs="?", help="whose alerts to release or drop")
    parser.add_argument("--directory", type=Path, required=True, metavar="DIR", help="of the service")
    parser.add_argument("--detector", type=int, help="only this one's")
    parser.add_argument("--detections", metavar="ENDPOINT", help="where the associator listens")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration, TOML")


def run(arguments: argparse.Namespace) -> int:
    """Print, or ask the associator; 0 when it could be done.  Raises BadConfiguration where nothing is held."""
    from gpudiff.model.errors import BadConfiguration

    configuration = load(arguments.config)
    if arguments.what == "visits":
        return _visits(arguments.directory, configuration)
    if arguments.visit is None:
        raise BadConfiguration(f"ledger {arguments.what}: expected a visit, got none")
    return _ask(arguments, configuration)


def _visits(directory: Path, configuration: Configuration) -> int:
    from gpudiff.cli.query import print_table
    from gpudiff.edges.ledger_reader import LedgerReader

    store = configuration.ledger.store
    names = ["ok", "missing", "failed", "suspect", "known", "moving", "new"]
    with closing(LedgerReader(directory / "ledger.sqlite" if store == "sqlite" else store)) as reader:
        rows = []
        for row in reader.visits():
            counts = reader.counts(row["visit"])
            counts["known"] += counts["tonight"]
            rows.append((row["visit"], row["state"], *(counts[name] for name in names)))
    print_table(["visit", "state", *names], rows)
    return 0


def _ask(arguments: argparse.Namespace, configuration: Configuration) -> int:
    from gpudiff.edges import detections
    from gpudiff.edges.endpoint import endpoint_in
    from gpudiff.edges.keys import associator_keys
    from gpudiff.edges.transport import Dealer
    from gpudiff.model.errors import BadConfiguration, BadMessage, NeighbourLost
    from gpudiff.model.regions import parse
    from gpudiff.services.settings import one_associator

    endpoint = endpoint_in(arguments.directory, one_associator(arguments.detections, configuration.service))
    listed = {one.endpoint: one.key for one in map(parse, configuration.service.associators)}
    dealer = Dealer(endpoint, keys=associator_keys(configuration.security, listed.get(endpoint, "")))
    try:
        words = {"visit": arguments.visit, "detector": arguments.detector, "drop": arguments.what == "drop"}
        dealer.send(detections.encode_control("release", **words))
        end = time.monotonic() + PATIENCE_S
        while (message := dealer.receive(1.0)) is None:
            if time.monotonic() > end:
                raise NeighbourLost(f"{endpoint}: no answer within {PATIENCE_S:g} s")
        answer = detections.decode_answer(message)
    finally:
        dealer.close()
    if answer.status != "done":
        raise BadMessage(answer.reason)
    if not answer.alerts:
        raise BadConfiguration(f"visit {arguments.visit}: expected frames whose alerts wait, there are none")
    done = "dropped" if arguments.what == "drop" else "released"
    print(f"visit {arguments.visit}: alerts of {answer.alerts} frames {done}")
    return 0
