"""gpudiff requeue: send refused frames again, once the cause is gone."""

import argparse
import json
from collections import Counter
from pathlib import Path

DESCRIPTION = """\
Send the frames that a service refused (its dead letters) again, once the cause is gone.

  gpudiff requeue night                        to the service that runs in the directory
  gpudiff requeue --error NoTemplate --visit 12 night --to tcp://differencer:5570

What came of each is a line of night/dead/requeued.jsonl.  A letter is removed when its detections are
committed; one that is refused again stays.  Interrupted half-way, nothing is lost: what was sent already is a
duplicate then.
Exit status 0 when all are committed, 3 when some are refused again, 1 when the service does not answer.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    parser.add_argument("directory", type=Path, metavar="DIRECTORY", help="of the service that refused them")
    parser.add_argument("--error", metavar="NAME", help="only those refused with this error")
    parser.add_argument("--visit", type=int, metavar="N", help="only those of this visit")
    parser.add_argument("--to", metavar="ENDPOINT", help="default: the service that runs in the directory")
    parser.add_argument("--key", type=Path, metavar="FILE", help="NAME.key_secret, with service.key beside it")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="S", help="longest silence (%(default)g)")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges import dead_letters
    from gpudiff.edges.client import FrameClient
    from gpudiff.model.errors import BadConfiguration

    folder = arguments.directory / "dead"
    if not folder.is_dir():
        raise BadConfiguration(f"{folder}: expected the dead letters of a service")
    letters = dead_letters.frames_in(folder, arguments.error, arguments.visit)
    counts: Counter[str] = Counter()
    endpoint = arguments.to or running(arguments.directory)
    with FrameClient(endpoint, "gpudiff requeue", arguments.timeout, keys=arguments.key) as client:
        for path in letters:
            said = dead_letters.send_again(path, client)
            counts["committed" if said.good else "refused again"] += 1
            print(f"{path.stem}: {said.status}{f': {said.error}: {said.reason}' if not said.good else ''}")
    print(f"{len(letters)} letters: {counts['committed']} committed, {counts['refused again']} refused again")
    return 3 if counts["refused again"] else 0


def running(directory: Path) -> str:
    """Where the directory's service takes frames; raises BadConfiguration when it does not say."""
    from gpudiff.model.errors import BadConfiguration

    try:
        return str(json.loads((directory / "status.json").read_text())["frames"]).replace("0.0.0.0", "127.0.0.1")
    except (OSError, ValueError, KeyError, TypeError):
        raise BadConfiguration(f"{directory}: expected a service that runs here, or --to ENDPOINT") from None
