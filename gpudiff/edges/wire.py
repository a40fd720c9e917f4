"""Frame <-> the message `[GDF1, header, plane, ...]` that carries it from a camera client (see WIRE.md)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import xxhash

from gpudiff.edges.json_header import or_nan, or_none
from gpudiff.edges.ring import Segments
from gpudiff.edges.ring_writer import Placed
from gpudiff.edges.wire_header import FRAMES, Header, Part, PlaneHeader, decode_header, wcs
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import BadMessage, BadPsf, ChecksumMismatch, LostSegment
from gpudiff.model.frame import TIMES_AND_ANGLES, Frame, FrameId, Observation
from gpudiff.model.provenance import with_digest

MAX_PARTS = 2 + 3
DTYPES = {"image": ("<u2", "<f4"), "variance": ("<f4",), "mask": ("<i4",)}
CHECKSUM = re.compile(r"[0-9a-fA-F]{32}")
PSF_SIDE = 512
"""A PSF beyond this side is a mistake, px."""


@dataclass(frozen=True)
class Envelope:
    """A frame message whose header, sizes and checksums are as they should be; its pixels are not yet judged.

    planes : name -> (H, W) little-endian, read-only views of the message's parts, or of shared memory; left out
        by `check`
    """

    header: Header
    planes: dict[str, np.ndarray]

    @property
    def frame(self) -> FrameId:
        """The frame's identity."""
        return self.header.frame

    @property
    def content(self) -> str:
        """Checksum of all that the message says but when, how often, and which way it was sent."""
        planes = [msgspec.structs.replace(plane, shm=None) for plane in self.header.planes]
        said = msgspec.structs.replace(self.header, sent_tai=None, attempt=1, planes=planes)
        return xxhash.xxh3_128_hexdigest(msgspec.json.encode(said, order="deterministic"))


def planes_of(frame: Frame) -> dict[str, np.ndarray]:
    """The planes as they travel; those that are C-ordered and little-endian already are not copied.

    Raises BadMessage for an image that is neither uint16 nor float32.
    """
    planes = {"image": frame.image, "variance": frame.variance, "mask": frame.mask}
    return {name: _little_endian(name, plane, frame.name) for name, plane in planes.items() if plane is not None}


def encode(frame: Frame, attempt: int = 1, placed: Sequence[Placed] = ()) -> list[Part]:
    """The parts of the message.

    placed : where the planes (`planes_of`, in its order) lie in a ring; the message then has none
    Raises as `planes_of`.
    """
    made = planes_of(frame)
    observation = frame.observation
    header = Header(
        visit=observation.frame.visit,
        snap=observation.frame.snap,
        detector=observation.frame.detector,
        band=observation.band or None,
        **{name: or_none(getattr(observation, name)) for name in TIMES_AND_ANGLES},
        gain=frame.gain,
        read_noise=frame.read_noise,
        saturation=frame.saturation,
        wcs=frame.wcs,
        psf=None if frame.psf is None else frame.psf.tolist(),
        unit=frame.unit,
        zero_point=frame.zero_point,
        calibrated=frame.calibrated,
        planes=_describe_all(made, placed),
        sent_tai=tai_now(),
        attempt=attempt,
    )
    parts = () if placed else (as_bytes(plane) for plane in made.values())
    return [FRAMES, msgspec.json.encode(header), *parts]


def decode(parts: Sequence[Part], max_frame_bytes: int) -> Frame:
    """The frame in a message, with its digest; its arrays are read-only views of the parts.

    Raises as `open_envelope` does, and BadPsf.
    """
    return frame_in(open_envelope(parts, max_frame_bytes))


def open_envelope(parts: Sequence[Part], max_frame_bytes: int, segments: Segments | None = None) -> Envelope:
    """The message, checked from its magic to its checksums.

    segments : where planes in shared memory are looked for; None: they are refused
    Raises MissingKey for an absent required key, ChecksumMismatch for a plane that was damaged on its way,
    LostSegment for shared memory that is gone, and BadMessage for everything else that breaks the contract.
    """
    header, sent = _read_header(parts, max_frame_bytes, segments)
    planes = {}
    for plane in header.planes:
        if plane.shm is None or segments is None:
            part = _checked_part(header, plane, sent[plane.name])
        else:
            part = segments.pixels(plane.shm, plane.bytes, plane.xxh3_128)
        array = np.frombuffer(part, plane.dtype).reshape(plane.shape)
        planes[plane.name] = array if array.flags.aligned else array.copy()
    return Envelope(header, planes)


def check(parts: Sequence[Part], max_frame_bytes: int, segments: Segments | None) -> Envelope:
    """The message, checked as `open_envelope` does, without its planes.

    Of those in shared memory only the slots are looked at: `open_envelope` sums their pixels where they are used.
    """
    header, sent = _read_header(parts, max_frame_bytes, segments)
    for plane in header.planes:
        if plane.name in sent:
            _checked_part(header, plane, sent[plane.name])
    envelope = Envelope(header, {})
    confirm(envelope, segments)
    return envelope


def confirm(envelope: Envelope, segments: Segments | None) -> None:
    """Raises LostSegment when a plane in shared memory is no longer what the message says."""
    for plane in envelope.header.planes:
        if plane.shm is not None and segments is not None:
            segments.confirm(plane.shm, plane.bytes, plane.xxh3_128)


def whole(parts: Sequence[Part], segments: Segments | None) -> list[Part]:
    """The message with all its planes as parts, to be kept; as it is where shared memory is gone."""
    try:
        envelope = open_envelope(parts, 1 << 62, segments)
    except (BadMessage, LostSegment):
        return list(parts)
    planes = [msgspec.structs.replace(plane, shm=None) for plane in envelope.header.planes]
    if planes == envelope.header.planes:
        return list(parts)
    header = msgspec.structs.replace(envelope.header, planes=planes)
    return [parts[0], msgspec.json.encode(header), *(as_bytes(envelope.planes[plane.name]) for plane in planes)]


def _read_header(
    parts: Sequence[Part], max_frame_bytes: int, segments: Segments | None
) -> tuple[Header, dict[str, Part]]:
    """(header, plane name -> its part) of a message whose words and sizes are right."""
    if not parts or bytes(parts[0][:5]) != FRAMES:
        raise BadMessage(
            f"expected a message that begins with {FRAMES!r}, got {bytes(parts[0][:16]) if parts else b''!r}"
        )
    if not 2 <= len(parts) <= MAX_PARTS:
        raise BadMessage(f"expected {FRAMES!r}, a header and up to 3 planes, got {len(parts)} parts")
    header = decode_header(parts[1])
    sent = _planes_sent(header, parts[2:])
    _check_planes(header, sent, max_frame_bytes, segments)
    return header, sent


def _checked_part(header: Header, plane: PlaneHeader, part: Part) -> Part:
    found = xxhash.xxh3_128_hexdigest(part)
    if found != plane.xxh3_128.lower():
        raise ChecksumMismatch(f"{_plane_name(header, plane)}: xxh3_128 is {found}, expected {plane.xxh3_128}")
    return part


def frame_in(envelope: Envelope) -> Frame:
    """The frame in an envelope of `open_envelope`, with its digest; raises BadPsf.

    Of `wcs` only the keywords of a WCS are kept.  The pixels are not summed again.
    """
    header = envelope.header
    name = f"frame {header.frame}"
    times = {key: or_nan(getattr(header, key)) for key in TIMES_AND_ANGLES}
    return with_digest(
        Frame(
            name=name,
            observation=Observation(header.frame, band=header.band or "", **times),
            image=envelope.planes["image"],
            mask=envelope.planes.get("mask"),
            variance=envelope.planes.get("variance"),
            gain=header.gain,
            read_noise=header.read_noise,
            saturation=header.saturation,
            wcs=wcs(header),
            psf=None if header.psf is None else _decode_psf(header.psf, name),
            unit="adu" if header.unit is None else header.unit,
            zero_point=header.zero_point,
            calibrated=header.calibrated,
        ),
        {plane.name: plane.xxh3_128 for plane in header.planes},
    )


def _planes_sent(header: Header, parts: Sequence[Part]) -> dict[str, Part]:
    """Plane name -> its part; planes in shared memory have none."""
    name = f"frame {header.frame}"
    names = [plane.name for plane in header.planes]
    if "image" not in names or len(set(names)) != len(names) or not set(names) <= set(DTYPES):
        raise BadMessage(f"{name}: expected planes image and perhaps mask, variance, once each; got {names}")
    expected = [plane.name for plane in header.planes if plane.shm is None]
    if len(parts) != len(expected):
        raise BadMessage(f"{name}: header lists {len(expected)} planes to come, the message has {len(parts)}")
    return dict(zip(expected, parts, strict=True))


def _check_planes(header: Header, sent: dict[str, Part], max_frame_bytes: int, segments: Segments | None) -> None:
    """Names, types, shapes and sizes, before any pixel is read."""
    total = sum(len(sent[plane.name]) if plane.name in sent else plane.bytes for plane in header.planes)
    if total > max_frame_bytes:
        raise BadMessage(f"frame {header.frame}: expected at most {max_frame_bytes} bytes of pixels, got {total}")
    shape = next(plane.shape for plane in header.planes if plane.name == "image")
    for plane in header.planes:
        name, part = _plane_name(header, plane), sent.get(plane.name)
        if part is None and segments is None:
            raise BadMessage(
                f"{name}: shared memory (shm) is not offered by this service: send the pixels as parts"
            )
        if not CHECKSUM.fullmatch(plane.xxh3_128):
            raise BadMessage(f"{name}: xxh3_128: expected 32 hex digits, got {plane.xxh3_128!r:.60}")
        _check_plane(name, plane, shape, plane.bytes if part is None else len(part))


def _check_plane(name: str, plane: PlaneHeader, shape: tuple[int, int], size: int) -> None:
    if plane.dtype not in DTYPES[plane.name]:
        raise BadMessage(f"{name}: dtype is {plane.dtype!r}, expected one of {DTYPES[plane.name]}")
    if plane.shape != shape or min(plane.shape) < 1:
        wanted = shape if min(shape) > 0 else "at least 1 of each"
        raise BadMessage(f"{name}: shape is {plane.shape}, expected {wanted}")
    expected = plane.shape[0] * plane.shape[1] * np.dtype(plane.dtype).itemsize
    if not expected == plane.bytes == size:
        raise BadMessage(f"{name}: {expected} bytes by its shape, {plane.bytes} by its header, {size} came")


def _plane_name(header: Header, plane: PlaneHeader) -> str:
    return f'frame {header.frame}: plane "{plane.name}"'


def _decode_psf(value: Any, name: str) -> np.ndarray:
    """(K, K) or (n*n, K, K) float32; the nested lists were bounded by the header's size."""
    try:
        with np.errstate(over="ignore"):  # infinite then, and refused below
            psf = np.asarray(value, np.float32)
    except (TypeError, ValueError):
        raise BadPsf(f"{name}: psf: expected rows of numbers, of one length") from None
    if psf.ndim not in (2, 3) or psf.shape[-1] != psf.shape[-2] or not 1 <= psf.shape[-1] <= PSF_SIDE:
        raise BadPsf(f"{name}: psf is {psf.shape}, expected (K, K) or (n*n, K, K), K at most {PSF_SIDE}")
    if not np.isfinite(psf).all():
        raise BadPsf(f"{name}: psf: expected finite values")
    return psf


def _little_endian(name: str, plane: np.ndarray, frame: str) -> np.ndarray:
    dtype = np.dtype(plane.dtype).newbyteorder("<")
    if dtype.str not in DTYPES[name] or plane.ndim != 2:
        raise BadMessage(f"{frame}: {name} is {plane.dtype} {plane.shape}, expected (H, W) of {DTYPES[name]}")
    return np.ascontiguousarray(plane, dtype)


def _describe_all(planes: dict[str, np.ndarray], placed: Sequence[Placed]) -> list[PlaneHeader]:
    described = []
    for number, (name, plane) in enumerate(planes.items()):
        where = placed[number].place if placed else None
        checksum = placed[number].checksum if placed else xxhash.xxh3_128_hexdigest(as_bytes(plane))
        height, width = plane.shape
        described.append(PlaneHeader(name, plane.dtype.str, (height, width), plane.nbytes, checksum, where))
    return described


def as_bytes(plane: np.ndarray) -> memoryview:
    """A C-ordered plane's bytes, not copied."""
    return plane.data.cast("B") if plane.size else memoryview(b"")
