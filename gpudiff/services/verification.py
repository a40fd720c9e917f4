"""An alert's fingerprint derived again from its steps, and what differs from the files it was made of."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_table import decode
from gpudiff.edges.fits import read_frame
from gpudiff.edges.provenance_file import stored_steps
from gpudiff.model.alert_index import AlertQuery
from gpudiff.model.config import load
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.provenance import first_broken, frame_digest


@dataclass(frozen=True)
class Given:
    """Files whose digests are held against those in the steps: FITS, FITS, TOML; None: not compared."""

    frame: Path | None = None
    template: Path | None = None
    config: Path | None = None


@dataclass(frozen=True)
class Verdict:
    """steps : a chain of model.provenance; broken : the number of the first whose fingerprint does not follow

    wrong : a line for each thing that differs, the first step's first; () when the fingerprint is verified
    """

    fingerprint: str
    steps: list[dict[str, Any]]
    broken: int | None
    wrong: tuple[str, ...]


def verify(folder: Path, fingerprint: str, more: Sequence[Path] = (), given: Given | None = None) -> Verdict:
    """The verdict on a fingerprint, hex.

    folder : of the archive; more : files of steps, as brokers send them
    Raises UnreadableFile when nobody kept its steps.
    """
    steps = stored_steps(folder, fingerprint, more)
    if not steps:
        raise UnreadableFile(f"{folder}: expected the steps behind {fingerprint}, nobody kept them")
    broken = first_broken(steps)
    wrong = [] if broken is None else [f"{steps[broken]['step']}: its fingerprint does not follow"]
    wrong += inputs_that_differ(steps, given or Given())
    if broken is None and steps[-1]["fingerprint"] != fingerprint:
        wrong.append(f"the steps give {steps[-1]['fingerprint']}, the alert says {fingerprint}")
    return Verdict(fingerprint, steps, broken, tuple(wrong))


def alert_fingerprint(folder: Path, dia_source_id: int) -> str:
    """The fingerprint, hex, that the alert carries in its last revision.  Raises UnreadableFile."""
    opened = AlertArchive(folder)
    try:
        rows = opened.find(AlertQuery(dia_source_id=dia_source_id))
        if not len(rows):
            raise UnreadableFile(f"{folder}: expected an alert with diaSourceId {dia_source_id}, there is none")
        (stored,) = opened.alerts(rows.take(slice(-1, None)))
    finally:
        opened.close()
    origin = decode(stored, '{"provenance": {}}').get("provenance")
    if not origin:
        raise UnreadableFile(f"alert {dia_source_id}: expected a fingerprint, it carries none")
    return bytes(origin["fingerprint"]).hex()


def inputs_that_differ(steps: Sequence[dict[str, Any]], given: Given) -> list[str]:
    """A line for each step that was made of something else than the files given, in the order of the steps."""
    expected = _expectations(given)
    return [
        f"{step['step']}: {key} {step[key]}, the file given has {value}"
        for step in steps
        for key, value in expected.get(step["step"], {}).items()
        if step[key] != value
    ]


def _expectations(given: Given) -> dict[str, dict[str, Any]]:
    """What the files given say should stand in which step."""
    expected: dict[str, dict[str, Any]] = {"calibrate": {}, "difference": {}, "detect": {}}
    if given.frame:
        expected["calibrate"]["inputs"] = [frame_digest(read_frame(given.frame))]
    if given.template:
        expected["difference"]["inputs"] = [frame_digest(read_frame(given.template))]
    if given.config:
        configuration = load(given.config)
        for step, section in (("calibrate", "calibrate"), ("difference", "match"), ("detect", "detect")):
            expected[step]["configuration"] = configuration.digest(section)
    return expected
