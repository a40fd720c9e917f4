"""gpudiff verify: derive an alert's fingerprint again from its steps, and name the first that differs."""

import argparse
from pathlib import Path

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
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("archive", type=Path, metavar="ARCHIVE", help="its folder, or a service's directory")
    parser.add_argument("id", type=int, metavar="DIASOURCEID")
    parser.add_argument("--frame", type=Path, metavar="FITS", help="the science frame, as it was sent")
    parser.add_argument("--template", type=Path, metavar="FITS", help="that was subtracted")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration of the service, TOML")
    parser.add_argument("--steps", type=Path, action="append", default=[], metavar="JSONL", help="of brokers")
    parser.add_argument("--fingerprint", metavar="HEX", help="another than the alert's: a broker's")


def run(arguments: argparse.Namespace) -> int:
    from gpudiff.edges.alert_archive import archive_folder
    from gpudiff.services.verification import Given, alert_fingerprint, verify

    folder = archive_folder(arguments.archive)
    fingerprint = arguments.fingerprint or alert_fingerprint(folder, arguments.id)
    given = Given(arguments.frame, arguments.template, arguments.config)
    verdict = verify(folder, fingerprint, arguments.steps, given)
    for number, step in enumerate(verdict.steps):
        told = "" if number != verdict.broken else "   DIFFERS: this step does not give its fingerprint"
        device, so_far = step.get("device", ""), step.get("fingerprint", "")
        print(_one_line(f"{step['step']:<12} {step['version']:<10} {device:<8} {so_far}{told}"))
    print(_one_line(f"first that differs: {verdict.wrong[0]}" if verdict.wrong else f"verified: {fingerprint}"))
    return 3 if verdict.wrong else 0


def _one_line(text: str) -> str:
    """The text with escapes for line ends and all else that a terminal would obey: brokers wrote it."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
