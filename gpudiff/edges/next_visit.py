"""Next-visit messages `[GDN1, JSON]` and files of them (see WIRE.md)."""

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gpudiff.edges.control import CONTROL, sizes
from gpudiff.edges.control import decode as decode_control
from gpudiff.edges.json_header import decode_header, or_nan, or_none
from gpudiff.model.clock import UNIX_EPOCH_MJD
from gpudiff.model.errors import BadMessage, InputRejected, UnreadableFile, WrongCoordinates
from gpudiff.model.next_visit import HORIZONS, NAN, NextVisit

ANNOUNCE = b"GDN1"
MAX_BYTES = 1 << 16
MOST_IMAGES = 100
"""Of a visit: each of each detector is a row that the associator writes before it goes on."""
FURTHEST_DAYS, LONGEST_S = 1e6, 1e9
"""MJDs (either side of 0) and durations beyond these are mistakes, as in a frame: a Julian date, milliseconds."""
ICRS, SKY = (2, "ICRS"), (2, "SKY")
"""The coordinate and the rotation system that are understood: Rubin's numbers, and their names."""
REQUIRED = ("visit", "revision", "horizon", "position", "coordinateSystem", "rotationSystem", "cameraAngle")
SCHEDULER = ("observationId", "observationStartMJD", "visitTime", "filter", "fieldRA", "fieldDec", "rotSkyPos")
POINTINGS = ("visit", "mjd_start_tai", "exposure_s", "band", "ra", "dec", "rotation_deg")
"""Columns of a night's CSV: visit, start (MJD TAI), seconds, band, and the boresight, degrees."""


class Message(msgspec.Struct):
    """The keys of a message; WIRE.md says what they mean.  Unknown ones are ignored."""

    visit: int
    revision: int
    horizon: str
    position: tuple[float, float]
    coordinateSystem: int | str
    rotationSystem: int | str
    cameraAngle: float
    startTime: float | None = None
    filters: str | None = None
    duration: float | None = None
    nimages: int | None = None
    detectors: list[int] | None = None
    supersedes: list[int] | None = None
    cancelled: bool | None = None
    valid_until: float | None = None
    groupId: str | None = None
    instrument: str | None = None
    survey: str | None = None
    private_sndStamp: float | None = None


def decode(parts: Sequence[bytes | memoryview]) -> NextVisit:
    """The visit in a message.  Raises MissingKey, WrongCoordinates, BadMessage."""
    if len(parts) != 2 or bytes(parts[0][:5]) != ANNOUNCE or len(parts[1]) > MAX_BYTES:
        raise BadMessage(f"next visit: expected [GDN1, JSON of at most {MAX_BYTES} bytes], got {sizes(parts)}")
    return from_json(bytes(parts[1]))


def encode(visit: NextVisit) -> list[bytes]:
    """The message that `decode` gives back equal."""
    said = {
        "groupId": visit.group,
        "visit": visit.visit,
        "revision": visit.revision,
        "horizon": visit.horizon,
        "position": [visit.ra, visit.dec],
        "coordinateSystem": ICRS[0],
        "rotationSystem": SKY[0],
        "cameraAngle": visit.rotation_deg,
        "startTime": _to_unix(visit.start_tai),
        "filters": visit.band,
        "duration": or_none(visit.duration_s),
        "nimages": visit.images,
        "detectors": list(visit.detectors),
        "supersedes": list(visit.supersedes),
        "cancelled": visit.cancelled,
        "valid_until": or_none(visit.valid_until),
        "instrument": visit.instrument,
        "survey": visit.survey,
        "private_sndStamp": _to_unix(visit.sent_tai),
    }
    return [ANNOUNCE, json.dumps(said, allow_nan=False).encode()]


def answer(visit: int | None, revision: int | None, status: str, error: str = "", reason: str = "") -> list[bytes]:
    """The service's answer: what became of an announcement (model.schedule), or why it was refused."""
    said = {"say": "announced", "visit": visit, "revision": revision, "status": status}
    why = {"error": error, "reason": reason} if error else {}
    return [CONTROL, json.dumps({**said, **why}).encode()]


def decode_answer(parts: Sequence[bytes | memoryview]) -> dict[str, Any] | None:
    """The answer in a control message; None when it is another one."""
    said = decode_control(parts)
    return said if said["say"] == "announced" else None


def from_json(text: bytes) -> NextVisit:
    """The visit in a JSON object.  Raises as `decode`."""
    return _checked(decode_header(text, Message, REQUIRED, "next visit"))


def read_visits(path: str | Path, revision: int = 1, horizon: str = "night") -> Iterator[NextVisit]:
    """The visits in a file: JSON lines of messages, or the CSV of a simulated night.

    A CSV (suffix .csv) has the columns of Rubin's simulations (SCHEDULER), or those of `gpudiff simulate`
    (POINTINGS); its visits get the revision and horizon given.
    Raises UnreadableFile, and what `decode` raises with the file and line named.
    """
    try:
        with open(path, newline="", encoding="utf-8") as text:
            if str(path).endswith(".csv"):
                for line, row in enumerate(csv.DictReader(text), 2):
                    yield _from_row(f"{path}: line {line}", row, revision, horizon)
                return
            for line, words in enumerate(text, 1):
                if words.strip():
                    yield _from_line(f"{path}: line {line}", words)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnreadableFile(f"{path}: expected a text file of visits: {error}") from None


def _from_line(where: str, words: str) -> NextVisit:
    try:
        return from_json(words.encode())
    except BadMessage as error:
        raise type(error)(f"{where}: {error}") from None


def _from_row(where: str, row: dict[str, str], revision: int, horizon: str) -> NextVisit:
    try:
        visit, start, duration, band, *place = (row[name] for name in (POINTINGS if "visit" in row else SCHEDULER))
        ra, dec, rotation = map(float, place)
        return NextVisit(
            visit=int(visit),
            revision=revision,
            horizon=horizon,
            ra=ra,
            dec=dec,
            rotation_deg=rotation,
            start_tai=float(start),
            band=band,
            duration_s=float(duration),
        )
    except KeyError as error:
        raise InputRejected(f"{where}: expected a column {error}") from None
    except (TypeError, ValueError) as error:
        raise InputRejected(f"{where}: expected numbers: {error}") from None


def _checked(said: Message) -> NextVisit:
    """Raises BadMessage for a number that cannot be."""
    if said.coordinateSystem not in ICRS or said.rotationSystem not in SKY:
        got = f"{said.coordinateSystem!r} and {said.rotationSystem!r}"
        raise WrongCoordinates(f"next visit {said.visit}: expected coordinates ICRS and rotation SKY, got {got}")
    ra, dec = said.position
    detectors, supersedes = said.detectors or [], said.supersedes or []
    good = {
        "visit": (0 <= said.visit < 1 << 39, "0 to 2^39 - 1"),
        "revision": (0 <= said.revision < 1 << 31, "0 to 2^31 - 1"),
        "horizon": (said.horizon in HORIZONS, f"one of {HORIZONS}"),
        "position": (0 <= ra < 360 and -90 <= dec <= 90, "[0 to 360 (not included), -90 to 90]"),
        "cameraAngle": (math.isfinite(said.cameraAngle), "a number"),
        "detectors": (all(0 <= detector < 256 for detector in detectors), "0 to 255 each"),
        "startTime": (_is_time(_to_mjd(said.startTime)), "TAI seconds counted from 1970"),
        "duration": (0 <= (said.duration or 0) <= LONGEST_S, "seconds, 0 or more"),
        "valid_until": (_is_time(or_nan(said.valid_until)), "an MJD"),
        "supersedes": (all(0 <= visit < 1 << 39 for visit in supersedes), "0 to 2^39 - 1 each"),
        "nimages": (0 <= (said.nimages or 0) <= MOST_IMAGES, f"0 to {MOST_IMAGES}"),
    }
    wrong = [
        f"{key}: expected {what}, got {getattr(said, key)!r}" for key, (fine, what) in good.items() if not fine
    ]
    if wrong:
        raise BadMessage(f"next visit {said.visit}: {'; '.join(wrong)}")
    return NextVisit(
        visit=said.visit,
        revision=said.revision,
        horizon=said.horizon,
        ra=ra,
        dec=dec,
        rotation_deg=said.cameraAngle,
        start_tai=_to_mjd(said.startTime),
        band=" ".join((said.filters or "").split())[:68],
        duration_s=or_nan(said.duration),
        images=said.nimages or 0,
        detectors=tuple(dict.fromkeys(detectors)),
        supersedes=tuple(supersedes),
        cancelled=bool(said.cancelled),
        valid_until=or_nan(said.valid_until),
        group=said.groupId or "",
        instrument=said.instrument or "",
        survey=said.survey or "",
        sent_tai=_to_mjd(said.private_sndStamp),
    )


def _is_time(mjd: float) -> bool:
    """Whether an MJD may be one; NaN, for a time that nobody said, may."""
    return not abs(mjd) > FURTHEST_DAYS


def _to_mjd(seconds: float | None) -> float:
    """MJD TAI of TAI seconds counted as Unix time is, Rubin's way."""
    return NAN if seconds is None else UNIX_EPOCH_MJD + seconds / 86400


def _to_unix(mjd: float) -> float | None:
    return (mjd - UNIX_EPOCH_MJD) * 86400 if math.isfinite(mjd) else None
