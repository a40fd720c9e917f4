"""Dead letters: frames that were refused, kept with the reason, so that nothing is lost silently."""

import heapq
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xxhash

from gpudiff.edges import wire
from gpudiff.edges.atomic import atomically
from gpudiff.edges.control import Receipt, one_line
from gpudiff.edges.folder import failing, make
from gpudiff.edges.sender import Sender
from gpudiff.edges.wire_header import FRAMES, MAX_HEADER_BYTES
from gpudiff.model.errors import GpudiffError, InputRejected, StoreFailed, UnreadableFile

Part = bytes | memoryview


@dataclass(frozen=True)
class DeadLetter:
    """A refused message: `parts` is what came, so it can be sent again once the cause is gone."""

    path: Path
    error: str
    reason: str
    time: str
    header: Any
    parts: list[bytes]


class DeadLetters:
    """A folder with two files a letter, both whole or absent:

    NAME.gdf   the parts after the magic and the header, one after the other: the planes' raw bytes
    NAME.json  error, reason, time (UTC), header (the message's own, as JSON, or as text where it is none),
               magic (the first part), sizes (of every part of the message), file (NAME.gdf); written last, so it
               never stands alone

    NAME is visit-snap-detector-ERROR, or unknown-CHECKSUM-ERROR for a message without identity: the same
    letter sent again replaces the first and takes no new room.
    """

    def __init__(self, folder: Path):
        """The folder is made where it is absent; raises StoreFailed."""
        self.folder = folder
        make(folder)

    def bury(self, parts: Sequence[Part], error: GpudiffError, frame: str = "") -> Path:
        """The JSON file of the letter just written.

        parts : the message as it came; frame : "visit-snap-detector", '' when it has no identity
        Raises StoreFailed when the disk is full.
        """
        header = bytes(parts[1][:MAX_HEADER_BYTES]) if len(parts) > 1 else b""
        name = f"{frame or 'unknown-' + _checksum(parts)}-{error.name}"
        with atomically(self.folder / f"{name}.gdf", lasting=True) as temporary, open(temporary, "wb") as file:
            for part in parts[2:]:
                file.write(part)
        letter = {
            "error": error.name,
            "reason": one_line(str(error)),
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "header": _as_json(header),
            "magic": bytes(parts[0][:64]).decode("latin-1") if parts else "",
            "sizes": [len(part) for part in parts],
            "file": f"{name}.gdf",
        }
        path = self.folder / f"{name}.json"
        try:
            with atomically(path, lasting=True) as temporary:
                temporary.write_text(json.dumps(letter, indent=1))
        except StoreFailed:
            if not path.exists():
                path.with_suffix(".gdf").unlink(missing_ok=True)
            raise
        return path

    def __len__(self) -> int:
        return len(names(self.folder))


def names(folder: Path) -> list[Path]:
    """The letters' JSON files, by name; a name with a dot in front is being written, or was."""
    return sorted(folder.glob("[!.]*.json"))


def latest(folder: Path, count: int) -> tuple[int, list[Path]]:
    """How many letters there are, and the JSON files of the last `count`, the newest last; 0 without a folder."""
    times = []
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for one in found:
            if one.name.endswith(".json") and not one.name.startswith("."):
                with suppress(FileNotFoundError):  # sent again and gone since it was listed
                    times.append((one.stat().st_mtime_ns, one.name))
    return len(times), [folder / name for _, name in sorted(heapq.nlargest(count, times))]


def read(path: Path) -> DeadLetter:
    """The letter whose JSON file is `path`; raises UnreadableFile."""
    try:
        letter = json.loads(path.read_text())
        planes = path.with_suffix(".gdf").read_bytes()
        header = letter["header"]
        text = header if isinstance(header, str) else json.dumps(header)
        magic = letter.get("magic", FRAMES.decode()).encode("latin-1")
        parts, start = [magic, text.encode("utf-8", "surrogateescape")], 0
        for size in letter["sizes"][2:]:
            parts.append(planes[start : start + size])
            start += size
        return DeadLetter(path, letter["error"], letter["reason"], letter["time"], header, parts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnreadableFile(f"{path}: expected a dead letter: {error!r}") from None


def frames_in(folder: Path, error: str | None = None, visit: int | None = None) -> list[Path]:
    """The letters of frames, by name: those with this error and of this visit, where that is asked for.

    Letters of detections are left out: the differencer keeps their frames.
    """
    found = []
    for path in names(folder):
        who, _, name = path.stem.rpartition("-")
        if path.name.startswith("detections-") or (error is not None and name != error):
            continue
        if visit is None or who.split("-")[0] == str(visit):
            found.append(path)
    return found


def send_again(path: Path, sender: Sender) -> Receipt:
    """What came of a letter's frame; raises what the sender raises, and StoreFailed.

    It is written down in requeued.jsonl before the letter of a committed frame is removed.
    """
    try:
        letter = read(path)
        receipt = sender.send(wire.decode(letter.parts, 1 << 62))
    except InputRejected as error:
        receipt = Receipt(None, None, None, None, "rejected", error=error.name, reason=one_line(str(error)))
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "letter": path.stem, **asdict(receipt)}
    with failing(path):
        with open(path.with_name("requeued.jsonl"), "a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if receipt.good:
            path.unlink(missing_ok=True)
            path.with_suffix(".gdf").unlink(missing_ok=True)
    return receipt


def _as_json(header: bytes) -> Any:
    try:
        found = json.loads(header)
        json.dumps(found, allow_nan=False)  # NaN and 1e999 are read, and are no JSON
        return found
    except (ValueError, RecursionError):
        return header.decode("utf-8", "surrogateescape")


def _checksum(parts: Sequence[Part]) -> str:
    checksum = xxhash.xxh3_64()
    for part in parts:
        checksum.update(part)
    return checksum.hexdigest()
