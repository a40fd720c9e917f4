"""gpudiff run: the whole service on this machine."""

import argparse

from gpudiff.cli.differencer import add_options

DESCRIPTION = """\
Start a differencer and an associator, keep both running, stop both in order on SIGTERM or Ctrl-C.

  gpudiff run --directory DIR --templates TEMPLATES
  gpudiff send FRAMES...

Prints `ready: frames ENDPOINT directory DIR` when frames may come.  DIR holds ledger.sqlite, alerts/, dead/
(frames that were refused, with the reason) and status.json (what became of all frames).
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    add_options(parser)
    parser.add_argument(
        "--associator-metrics", metavar="[HOST:]PORT", help="the same for the associator, at another port"
    )


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.model.config import load
    from gpudiff.model.errors import BadConfiguration, NoTemplate
    from gpudiff.services import log
    from gpudiff.services.run import Options, Supervisor

    log.start("run", arguments.log)
    service = load(arguments.config).service
    if service.associators:
        raise BadConfiguration("[service] associators: `gpudiff run` has one; start the programs one by one")
    if not arguments.templates.is_dir():
        raise NoTemplate(f"{arguments.templates}: expected a folder of template FITS files")
    Supervisor(
        Options(
            directory=arguments.directory,
            templates=arguments.templates,
            frames=arguments.frames or service.frames,
            detections=service.detections,
            workers=arguments.workers,
            config=arguments.config,
            metrics=arguments.metrics,
            associator_metrics=arguments.associator_metrics,
            log=arguments.log,
        )
    ).run()
    return 0
