"""gpudiff verify: derive an alert's fingerprint again from its steps, and name the first that differs."""

import argparse
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Derives the fingerprint of the alert DIASOURCEID in ARCHIVE again from the steps that stand beside it (or in the
ledger), and says which step is the first that does not give its fingerprint. With the frame, the template and the
configuration it also compares their digests with those in the steps. Exit status 3 when something differs.
"""
EPILOG = """\
examples:
  gpudiff verify night 117702656
  gpudiff verify night 117702656 --frame night/frames/7.fits --template night/templates/r.fits
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("archive", type=Path, metavar="ARCHIVE")
    parser.add_argument("id", type=int, metavar="DIASOURCEID")
    parser.add_argument("--frame", type=Path, metavar="FITS", help="the science frame, as it was sent")
    parser.add_argument("--template", type=Path, metavar="FITS")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration of the service, TOML")
    parser.add_argument("--steps", type=Path, action="append", default=[], metavar="JSONL", help="of brokers")
    parser.add_argument("--fingerprint", metavar="HEX", help="another than the alert's: a broker's")


def run(arguments: argparse.Namespace) -> int:
    """Print the steps and the verdict; 0, or 3 when something differs."""
    from gpudiff.edges.alert_archive import archive_folder
    from gpudiff.edges.provenance_file import stored_steps
    from gpudiff.model.errors import UnreadableFile
    from gpudiff.model.provenance import first_broken

    folder = archive_folder(arguments.archive)
    fingerprint = arguments.fingerprint or alert_fingerprint(folder, arguments.id)
    steps = stored_steps(folder, fingerprint, arguments.steps)
    if not steps:
        raise UnreadableFile(f"{folder}: expected the steps behind {fingerprint}, nobody kept them")
    broken = first_broken(steps)
    for number, step in enumerate(steps):
        told = "" if number != broken else "   DIFFERS: this step does not give its fingerprint"
        print(f"{step['step']:<12} {step['version']:<10} {step.get('device', ''):<8} {step['fingerprint']}{told}")
    wrong = [] if broken is None else [f"{steps[broken]['step']}: its fingerprint does not follow"]
    wrong += inputs_that_differ(steps, arguments)
    if broken is None and steps[-1]["fingerprint"] != fingerprint:
        wrong.append(f"the steps give {steps[-1]['fingerprint']}, the alert says {fingerprint}")
    print(f"verified: {fingerprint}" if not wrong else f"first that differs: {wrong[0]}")
    return 3 if wrong else 0


def alert_fingerprint(folder: Path, dia_source_id: int) -> str:
    """The fingerprint, hex, that the alert carries in its last revision."""
    from gpudiff.edges.alert_archive import AlertArchive
    from gpudiff.edges.alert_table import decode
    from gpudiff.model.alert_index import AlertQuery
    from gpudiff.model.errors import UnreadableFile

    opened = AlertArchive(folder)
    rows = opened.find(AlertQuery(dia_source_id=dia_source_id))
    if not len(rows):
        raise UnreadableFile(f"{folder}: expected an alert with diaSourceId {dia_source_id}, there is none")
    (stored,) = opened.alerts(rows.take(slice(-1, None)))
    origin = decode(stored, '{"provenance": {}}').get("provenance")
    if not origin:
        raise UnreadableFile(f"alert {dia_source_id}: expected a fingerprint, it carries none")
    return bytes(origin["fingerprint"]).hex()


def inputs_that_differ(steps: list[dict[str, Any]], arguments: argparse.Namespace) -> list[str]:
    """A line for each step that was made of something else than the files given, in the order of the steps."""
    expected = expectations(arguments)
    wrong = []
    for step in steps:
        for key, value in expected.get(step["step"], {}).items():
            if step[key] != value:
                wrong.append(f"{step['step']}: {key} {step[key]}, the file given has {value}")
    return wrong


def expectations(arguments: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What the files given say should stand in which step."""
    from gpudiff.edges.fits import read_frame
    from gpudiff.model.config import load
    from gpudiff.model.provenance import frame_digest

    expected: dict[str, dict[str, Any]] = {"calibrate": {}, "difference": {}, "detect": {}}
    if arguments.frame:
        expected["calibrate"]["inputs"] = [frame_digest(read_frame(arguments.frame))]
    if arguments.template:
        expected["difference"]["inputs"] = [frame_digest(read_frame(arguments.template))]
    if arguments.config:
        configuration = load(arguments.config)
        for step, section in (("calibrate", "calibrate"), ("difference", "match"), ("detect", "detect")):
            expected[step]["configuration"] = configuration.digest(section)
    return expected
