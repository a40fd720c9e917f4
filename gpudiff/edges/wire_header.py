"""The JSON header of a frame message: its keys, their bounds, and what a broken one still says (see WIRE.md)."""

import math
import re
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_type_hints

import msgspec

from gpudiff.edges.ring import Place
from gpudiff.model.errors import BadMessage, BadWcs, MissingKey
from gpudiff.model.frame import FrameId
from gpudiff.model.sky import Sky

FRAMES = b"GDF1"
MAX_HEADER_BYTES = 4 << 20
Part = bytes | memoryview
Visit = Annotated[int, msgspec.Meta(ge=0, lt=1 << 39)]
Snap = Annotated[int, msgspec.Meta(ge=0, lt=1 << 15)]
Detector = Annotated[int, msgspec.Meta(ge=0, lt=1 << 8)]
Attempt = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
Days = Annotated[float, msgspec.Meta(ge=-1e6, le=1e6)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Magnitude = Annotated[float, msgspec.Meta(ge=-50, le=50)]
Band = Annotated[str, msgspec.Meta(max_length=68, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
Unit = Annotated[str, msgspec.Meta(max_length=255, pattern=r"\A[ -~]*\Z")]
"""Bounds beyond which a value is a mistake, and would not fit an alert."""


class PlaneHeader(msgspec.Struct):
    """One entry of `planes`: what the part in the same place, or the slot `shm` of a ring, holds."""

    name: str
    dtype: str
    shape: tuple[int, int]
    bytes: int
    xxh3_128: str
    shm: Place | None = None


class Header(msgspec.Struct, kw_only=True):
    """The JSON header.  A key without a default is required; None (null) means that nobody knows,
    and of another key that it is absent."""

    visit: Visit
    snap: Snap
    detector: Detector
    band: Band | None
    mjd_start_tai: Days | None
    mjd_end_tai: Days | None
    exposure_s: Seconds | None
    gain: float | None
    read_noise: float | None
    saturation: float | None
    wcs: dict[str, str | int | float | bool | None] | None
    planes: list[PlaneHeader]
    readout_end_tai: Days | None = None
    boresight_ra: float | None = None
    boresight_dec: float | None = None
    rotation_deg: float | None = None
    psf: Any = None
    unit: Unit | None = None
    zero_point: Magnitude | None = None
    calibrated: bool | None = None
    sent_tai: Days | None = None
    attempt: Attempt | None = None

    def __post_init__(self) -> None:
        start, end = self.mjd_start_tai, self.mjd_end_tai
        if start is not None and end is not None and end < start:
            raise ValueError(f"mjd_end_tai = {end!r} is before mjd_start_tai = {start!r}")

    @property
    def frame(self) -> FrameId:
        """The frame's identity."""
        return FrameId(self.visit, self.snap, self.detector)


class Identity(msgspec.Struct):
    """As much of the identity as a broken header still says; the attempt is 1 where a header says none."""

    visit: Visit | None = None
    snap: Snap | None = None
    detector: Detector | None = None
    attempt: Attempt | None = None


class _Said(msgspec.Struct):
    """What stands under the keys of the identity, unread: no other value can spoil it."""

    visit: msgspec.Raw = msgspec.Raw(b"")
    snap: msgspec.Raw = msgspec.Raw(b"")
    detector: msgspec.Raw = msgspec.Raw(b"")
    attempt: msgspec.Raw = msgspec.Raw(b"null")


def decode_header(part: Part) -> Header:
    """The JSON header; raises MissingKey and BadMessage, naming the key."""
    if len(part) > MAX_HEADER_BYTES:
        raise BadMessage(f"header: expected at most {MAX_HEADER_BYTES} bytes, got {len(part)}")
    try:
        return msgspec.json.decode(part, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if "missing required field" in str(error):
            raise MissingKey(f"{_who(part)}: header: {error}{_or_null(str(error))}") from None
        came = _what_came(part, str(error))
        raise BadMessage(f"{_who(part)}: header: expected the JSON of WIRE.md: {error}{came}") from None


def _or_null(error: str) -> str:
    """The advice that null will do, where it will for the key that the error says is missing."""
    missing = re.search(r"missing required field `(\w+)`$", error)
    unknown = missing is not None and type(None) in get_args(get_type_hints(Header).get(missing[1]))
    return "; null says that a value is unknown" if unknown else ""


def identity(parts: Sequence[Part]) -> Identity:
    """What the message says of its frame's identity, however broken the rest is; None where it does not."""
    if len(parts) < 2 or bytes(parts[0][:5]) != FRAMES or len(parts[1]) > MAX_HEADER_BYTES:
        return Identity()
    return _identity(parts[1])


def place(header: Header) -> tuple[float, float]:
    """(ra, dec), degrees, that say which associator has the frame: its boresight, so that a visit stays together;
    the middle of the frame where nobody said that; NaN without a WCS."""
    if header.boresight_ra is not None and header.boresight_dec is not None:
        return header.boresight_ra, header.boresight_dec
    rows, columns = header.planes[0].shape if header.planes else (0, 0)
    try:
        ra, dec = Sky(wcs(header)).to_sky((columns - 1) / 2, (rows - 1) / 2)
    except BadWcs:
        return math.nan, math.nan
    return float(ra), float(dec)


def wcs(header: Header) -> dict[str, Any]:
    """Of the header's `wcs` only the keywords of a WCS."""
    from gpudiff.edges.wcs import known

    return known(header.wcs or {})


def _identity(part: Part) -> Identity:
    try:
        said = msgspec.json.decode(part, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Identity()
    made = {}
    for key, kind in (("visit", Visit), ("snap", Snap), ("detector", Detector), ("attempt", Attempt | None)):
        try:
            made[key] = msgspec.json.decode(getattr(said, key), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
    if made.get("attempt", 0) is None:
        made["attempt"] = 1
    return Identity(**made)


def _what_came(part: Part, error: str) -> str:
    """ " = VALUE" of the place in the header that msgspec names at the end of its error; '' when it names none."""
    place = re.search(r"at `\$([\w.\[\]]+)`$", error)
    if place is None:
        return ""
    try:
        value = msgspec.json.decode(part)
        for key, index in re.findall(r"\.(\w+)|\[(\d+)\]", place.group(1)):
            value = value[key] if key else value[int(index)]
        return f" = {value!r:.60}"
    except (msgspec.DecodeError, LookupError, TypeError, ValueError, RecursionError):
        return ""


def _who(part: Part) -> str:
    found = _identity(part)
    if None in (found.visit, found.snap, found.detector):
        return "frame without identity"
    return f"frame {found.visit}/{found.snap}/{found.detector}"
