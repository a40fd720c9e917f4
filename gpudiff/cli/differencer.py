"""gpudiff differencer: frames in over ZeroMQ, detections out."""

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Take frames from clients, subtract the template that covers each, and hand the detections to an associator.

  gpudiff differencer --directory DIR --templates TEMPLATES --detections tcp://127.0.0.1:5571

Prints `ready: frames ENDPOINT` when all its workers can take a frame.  SIGTERM finishes the frames in hand.
DIR/status.json counts what became of all frames; DIR/dead keeps those that were refused, with the reason.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    add_options(parser)
    parser.add_argument("--detections", metavar="ENDPOINT", help="where the associator listens")


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `gpudiff run` shares."""
    parser.add_argument("--directory", type=Path, required=True, help="for all that the service writes")
    parser.add_argument("--templates", type=Path, required=True, help="folder of template FITS files")
    parser.add_argument("--frames", metavar="ENDPOINT", help="where clients send frames; port 0 for a free one")
    parser.add_argument("--workers", type=int, help="worker processes (default: one a core)")
    parser.add_argument("--config", type=Path, help="TOML file")
    parser.add_argument("--metrics", metavar="[HOST:]PORT", help="serve /metrics, /healthz and /readyz there")
    parser.add_argument("--log", choices=("json", "text"), default="text", help="form of the log on stderr")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.keys import warning
    from gpudiff.model.config import load, override
    from gpudiff.model.errors import BadConfiguration
    from gpudiff.services import log
    from gpudiff.services.differencer import Differencer
    from gpudiff.services.settings import Settings

    log.start("differencer", arguments.log)
    configuration = load(arguments.config)
    if arguments.workers is not None:
        configuration = override(configuration, "service", workers=arguments.workers)
    service = configuration.service
    if arguments.detections and service.associators:
        raise BadConfiguration("expected --detections or [service] associators, got both")
    differencer = Differencer(
        Settings(
            directory=arguments.directory,
            templates=arguments.templates,
            frames=arguments.frames or service.frames,
            detections=arguments.detections or service.detections,
            configuration=configuration,
        )
    )
    differencer.stop_on_signals()
    said = warning(configuration.security, differencer.endpoint)
    if said:
        print(said, file=sys.stderr, flush=True)
    if arguments.metrics is not None:
        port = differencer.metrics.serve(arguments.metrics, differencer.alive, differencer.ready)
        log.say("metrics", port=port)
    differencer.run(lambda endpoint: print(f"ready: frames {endpoint}", flush=True))
    return 0
