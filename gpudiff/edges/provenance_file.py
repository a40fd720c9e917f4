"""The steps behind the fingerprints of a visit's alerts, beside its archive files: VISIT.provenance.jsonl.

One JSON object a line: `fingerprint`, `after` (the fingerprint it goes on from, '' for a frame's) and `steps`,
a chain of model.provenance.  Content-addressed: a line that stands there twice says the same twice, and a line
that is not whole, or not of this form, is passed over, as the ledger has the steps too.
"""

import json
import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec

from gpudiff.edges.folder import failing
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.provenance import chain

SUFFIX = ".provenance.jsonl"


class Step(msgspec.Struct, omit_defaults=True):
    """One step of a line (see PROVENANCE.md)."""

    step: str
    version: str
    configuration: str
    inputs: list[str]
    fingerprint: str = ""
    device: str = ""


class Link(msgspec.Struct):
    """One line."""

    fingerprint: Annotated[str, msgspec.Meta(min_length=1)]
    steps: list[Step]
    after: str = ""


def keep_steps(
    folder: Path, visit: int, fingerprint: str, steps: Sequence[dict[str, Any]], after: str = ""
) -> None:
    """Add the steps behind a fingerprint, before its alerts are there.  Raises StoreFailed."""
    line = json.dumps({"fingerprint": fingerprint, "after": after, "steps": chain(steps, after)}).encode() + b"\n"
    with failing(folder), open(folder / f"{visit}{SUFFIX}", "a+b") as file:
        file.write(b"\n" + line if _torn(file) else line)


def stored_steps(folder: Path, fingerprint: str, more: Sequence[Path] = ()) -> list[dict[str, Any]]:
    """The whole chain of steps behind a fingerprint, [] when nobody kept them.

    folder : of the archive, with the ledger one folder up perhaps; more : files of the same form, as brokers
    send them
    """
    files = sorted(folder.glob(f"*{SUFFIX}"))
    links = {one["fingerprint"]: one for path in (*files, *more) for one in _lines(path)}
    found: list[dict[str, Any]] = []
    wanted, seen = fingerprint, set()
    while wanted in links and wanted not in seen:
        seen.add(wanted)
        found = [*links[wanted]["steps"], *found]
        wanted = links[wanted].get("after", "")
    return found or _of_ledger(folder.parent / "ledger.sqlite", fingerprint)


def _torn(file: BinaryIO) -> bool:
    """Whether the last line is not whole, as a crash leaves it."""
    if not file.tell():
        return False
    file.seek(-1, os.SEEK_END)
    return file.read() != b"\n"


def _lines(path: Path) -> list[dict[str, Any]]:
    found = []
    for line in path.read_bytes().splitlines():
        try:
            found.append(msgspec.to_builtins(msgspec.json.decode(line, type=Link)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    return found


def _of_ledger(path: Path, fingerprint: str) -> list[dict[str, Any]]:
    """The ledger keeps no fingerprints between the steps: the last one is that of the alert, or it is not."""
    if not path.is_file():
        return []
    with closing(LedgerReader(path)) as ledger:
        return chain(ledger.steps(fingerprint))
