"""DetectionBatch <-> the message that carries it from the differencer to the associator.

A message is eight parts, or eleven where science and template cutouts have planes of their own:

    0  b"GDD2", the version of this contract
    1  header, JSON: what `Header` lists; a NaN is null; unknown keys are ignored
    2  the DIASources, one Arrow IPC stream with one record batch; the schema's metadata repeat visit,
       detector and fingerprint so that the part can be read alone
    3  cutouts, raw '<f4' in C order, shape in the header
    4  PSF, raw '<f4' in C order, shape in the header
    5  forced photometry, one Arrow IPC stream with one record batch of model.tables.FORCED_SOURCE
    6  variance of the cutouts of the difference, raw '<f4' in C order, (count, S, S)
    7  mask of the same, raw '<u2' in C order, (count, S, S)
    8  variance of science and template, raw '<f4' in C order, (count, 2, S, S)
    9  mask of the same, raw '<u2' in C order, (count, 2, S, S)
    10 their PSFs, raw '<f4' in C order, (2, P, P)

The associator answers with two parts, b"GDA1" and the JSON of `Answer`.

Forced photometry that was made up later is three parts: b"GDL1", the JSON of `LaterHeader`, and what part 5 is
above.  It is answered as a batch is.

A control message is two parts, b"GDV1" and a JSON object: {"say": "announce", "visit", "detectors", and perhaps
"snaps", "readout_end_tai"}, {"say": "failed", "visit", "snap", "detector", "reason"}, {"say": "visit", "visit",
"state", "reason"}, {"say": "release", "visit", "detector" (null: all), "drop"} or {"say": "load"}, which asks for
nothing but the answer's load.  The answer has status "done" or "failed".
"""

import math
import re
from functools import cache, lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from gpudiff.edges.json_header import decode_header, or_nan
from gpudiff.model.batch import DetectionBatch, OwnPlanes
from gpudiff.model.errors import BadMessage, MissingKey
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import TIMES_AND_ANGLES, FrameId, Observation
from gpudiff.model.tables import DIASOURCE, FORCED_SOURCE, Column, Table

MAGIC = b"GDD2"
ANSWER_MAGIC = b"GDA1"
CONTROL_MAGIC = b"GDV1"
LATER_MAGIC = b"GDL1"
PARTS = 8, 11


class Header(msgspec.Struct):
    """The JSON header.  Every key is required; null stands for a NaN, and for a zero point nobody knows."""

    visit: int
    snap: int
    detector: int
    band: str
    mjd_start_tai: float | None
    mjd_end_tai: float | None
    readout_end_tai: float | None
    exposure_s: float | None
    boresight_ra: float | None
    boresight_dec: float | None
    rotation_deg: float | None
    count: int
    cutouts_shape: list[int]
    psf_shape: list[int]
    wcs: dict[str, Any]
    fingerprint: str
    steps: list[dict[str, Any]]
    quality: dict[str, Any]
    unit: str
    zero_point: float | None
    received_tai: float | None
    sent_tai: float | None


class LaterHeader(msgspec.Struct):
    """The JSON header of forced photometry that was made up, of the frame as it was committed."""

    visit: int
    snap: int
    detector: int
    fingerprint: str
    unit: str
    zero_point: float | None


class Answer(msgspec.Struct):
    """What the associator says of one batch.

    frame : (visit, snap, detector), or None when the message did not say
    status : "committed", "duplicate" (the same frame and fingerprint are in the ledger already) or "failed"
    alerts, known, new : how many alerts went out, how many sources joined a known object, how many made one
    error, reason : the error's name and its one line, '' unless failed
    latency_s : from readout end (or arrival, when that is unknown) to the commit; None when neither is known
    load : how many steps are to be left out under load: 1 and more: forced photometry, 4: intake
    """

    frame: list[int] | None
    status: str
    alerts: int = 0
    known: int = 0
    new: int = 0
    error: str = ""
    reason: str = ""
    latency_s: float | None = None
    load: int = 0


def encode(batch: DetectionBatch) -> list[Any]:
    """The parts of the message, bytes or memoryviews of the batch's own arrays."""
    cutouts, psf = batch.cutouts.astype("<f4", copy=False), batch.psf.astype("<f4", copy=False)
    observation = batch.observation
    header = Header(
        visit=observation.frame.visit,
        snap=observation.frame.snap,
        detector=observation.frame.detector,
        band=observation.band,
        **{name: float(getattr(observation, name)) for name in TIMES_AND_ANGLES},
        count=len(batch.sources),
        cutouts_shape=list(cutouts.shape),
        psf_shape=list(psf.shape),
        wcs=batch.wcs,
        fingerprint=batch.fingerprint,
        steps=list(batch.steps),
        quality=batch.quality,
        unit=batch.unit,
        zero_point=batch.zero_point,
        received_tai=float(batch.received_tai),
        sent_tai=float(batch.sent_tai),
    )
    json = msgspec.json.encode(header, enc_hook=_numpy_scalar)
    name = observation.frame, batch.fingerprint
    sources, forced = (_encode_table(table, *name) for table in (batch.sources, batch.forced))
    planes = [_raw(cutouts, "<f4"), _raw(psf, "<f4"), forced, _raw(batch.variance, "<f4"), _raw(batch.mask, "<u2")]
    if batch.own is not None:
        own = batch.own
        planes += [_raw(own.variance, "<f4"), _raw(own.mask, "<u2"), _raw(own.psf, "<f4")]
    return [MAGIC, json, sources, *planes]


def _raw(array: np.ndarray, dtype: str) -> memoryview:
    """An array's bytes in C order, its own where it has them so."""
    return np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(-1).view(np.uint8).data


def decode(parts: list[Any]) -> DetectionBatch:
    """The batch in a message's parts (bytes or memoryviews); its arrays are read-only views of them.

    Raises MissingKey for an absent header key or column, BadMessage for all else that breaks the contract.
    """
    if len(parts) not in PARTS or bytes(parts[0]) != MAGIC:
        first = bytes(parts[0])[:16] if parts else b""
        raise BadMessage(f"detections: expected 8 or 11 parts, the first {MAGIC!r}; got {len(parts)}, {first!r}")
    header = _decode_header(parts[1])
    frame = FrameId(header.visit, header.snap, header.detector)
    name = f"detections {frame}"
    _check_wcs(header.wcs, name)
    sources = _decode_table(parts[2], DIASOURCE, f"{name}: sources")
    forced = _decode_table(parts[5], FORCED_SOURCE, f"{name}: forced")
    _check_ids(sources, frame, header.count, name)
    _check_frame(forced, frame, f"{name}: forced")
    cutouts = _decode_array(parts[3], header.cutouts_shape, f"{name}: cutouts")
    if cutouts.ndim != 4 or cutouts.shape[:2] != (header.count, 3) or cutouts.shape[2] != cutouts.shape[3]:
        raise BadMessage(f"{name}: cutouts are {cutouts.shape}, expected ({header.count}, 3, S, S)")
    square = [header.count, *cutouts.shape[2:]]
    variance = _decode_array(parts[6], square, f"{name}: variance")
    mask = _decode_array(parts[7], square, f"{name}: mask", "<u2")
    psf = _decode_array(parts[4], header.psf_shape, f"{name}: psf")
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1]:
        raise BadMessage(f"{name}: psf is {psf.shape}, expected (P, P)")
    times = {key: or_nan(getattr(header, key)) for key in TIMES_AND_ANGLES}
    return DetectionBatch(
        observation=Observation(frame, header.band, **times),
        sources=sources,
        cutouts=cutouts,
        variance=variance,
        mask=mask,
        psf=psf,
        wcs=header.wcs,
        fingerprint=header.fingerprint,
        steps=tuple(header.steps),
        quality={key: or_nan(value) for key, value in header.quality.items()},
        unit=header.unit,
        zero_point=header.zero_point,
        received_tai=or_nan(header.received_tai),
        sent_tai=or_nan(header.sent_tai),
        forced=forced,
        own=_own_planes(parts[8:], square, name) if len(parts) > 8 else None,
    )


def _own_planes(parts: list[Any], square: list[int], name: str) -> OwnPlanes:
    """The planes of science and template; square : (count, S, S)."""
    shape = [square[0], 2, *square[1:]]
    variance = _decode_array(parts[0], shape, f"{name}: variance of science and template")
    mask = _decode_array(parts[1], shape, f"{name}: mask of science and template", "<u2")
    side = math.isqrt(memoryview(parts[2]).nbytes // 8)
    return OwnPlanes(variance, mask, _decode_array(parts[2], [2, side, side], f"{name}: their psf"))


def frame_of(parts: list[Any]) -> list[int] | None:
    """(visit, snap, detector) of a message that may be broken elsewhere; None when it does not say."""
    try:
        header = msgspec.json.decode(parts[1])
        frame = [header[key] for key in ("visit", "snap", "detector")]
    except (LookupError, TypeError, RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return frame if all(type(number) is int for number in frame) else None


def is_control(parts: list[Any]) -> bool:
    """Whether a message is a control message, not a batch."""
    return bool(parts) and bytes(parts[0][:5]) == CONTROL_MAGIC


def encode_control(say: str, **values: Any) -> list[bytes]:
    """A control message to the associator: `announce`, `failed`, `visit`, `release` or `load`, with its values."""
    return [CONTROL_MAGIC, msgspec.json.encode({"say": say, **values})]


def decode_control(parts: list[Any]) -> dict[str, Any]:
    """What a control message says; raises BadMessage when it is none."""
    try:
        said = msgspec.json.decode(parts[1]) if len(parts) == 2 else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"control: expected JSON: {error}") from None
    if not isinstance(said, dict) or not isinstance(said.get("say"), str):
        raise BadMessage(f'control: expected [{CONTROL_MAGIC!r}, an object with "say"], got {len(parts)} parts')
    return said


def is_later(parts: list[Any]) -> bool:
    """Whether a message is forced photometry that was made up."""
    return bool(parts) and bytes(parts[0][:5]) == LATER_MAGIC


def encode_later(made: MadeUp) -> list[bytes]:
    """The three parts of forced photometry that was made up."""
    frame, words = made.frame, (made.fingerprint, made.unit, made.zero_point)
    header = LaterHeader(frame.visit, frame.snap, frame.detector, *words)
    return [LATER_MAGIC, msgspec.json.encode(header), _encode_table(made.forced, frame, made.fingerprint)]


def decode_later(parts: list[Any]) -> MadeUp:
    """The forced photometry in a message's parts; raises MissingKey, BadMessage."""
    if len(parts) != 3 or not is_later(parts):
        raise BadMessage(f"forced: expected 3 parts, the first {LATER_MAGIC!r}; got {len(parts)}")
    header = decode_header(parts[1], LaterHeader, LaterHeader.__struct_fields__, "forced: header")
    frame = FrameId(header.visit, header.snap, header.detector)
    forced = _decode_table(parts[2], FORCED_SOURCE, f"forced {frame}")
    _check_frame(forced, frame, f"forced {frame}")
    return MadeUp(frame, header.fingerprint, header.unit, header.zero_point, forced)


def encode_answer(answer: Answer) -> list[bytes]:
    """The two parts of an answer."""
    return [ANSWER_MAGIC, msgspec.json.encode(answer)]


def decode_answer(parts: list[Any]) -> Answer:
    """The answer in a message's parts; raises BadMessage when it is not one."""
    if len(parts) != 2 or bytes(parts[0]) != ANSWER_MAGIC:
        raise BadMessage(f"answer: expected 2 parts, the first {ANSWER_MAGIC!r}; got {len(parts)}")
    try:
        return msgspec.json.decode(parts[1], type=Answer)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"answer: {error}") from None


def _numpy_scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"expected JSON values, got {type(value).__name__}")


def _encode_table(table: Table, frame: FrameId, fingerprint: str) -> bytes:
    metadata = {"visit": str(frame.visit), "detector": str(frame.detector), "fingerprint": fingerprint}
    record = pa.RecordBatch.from_pydict({c.name: pa.array(table[c.name]) for c in table.schema})
    record = record.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, record.schema) as writer:
        writer.write_batch(record)
    return sink.getvalue().to_pybytes()


def _decode_header(part: Any) -> Header:
    header = decode_header(part, Header, Header.__struct_fields__, "detections: header")
    if not (0 <= header.visit < 1 << 39 and 0 <= header.snap < 1 << 15 and 0 <= header.detector < 256):
        frame = (header.visit, header.snap, header.detector)
        raise BadMessage(f"detections: expected visit < 2**39, snap < 2**15, detector < 256; got {frame}")
    return header


def _check_wcs(wcs: dict[str, Any], name: str) -> None:
    for key, value in wcs.items():
        if not _is_keyword(key) or not isinstance(value, str | int | float):
            raise BadMessage(f"{name}: wcs: expected FITS keywords and values, got {key!r}: {value!r}")


@lru_cache(1024)
def _is_keyword(key: str) -> bool:
    return re.fullmatch("[A-Z0-9_-]{1,8}", key) is not None


def _decode_table(part: Any, schema: tuple[Column, ...], name: str) -> Table:
    try:
        (rows,) = pa.ipc.open_stream(part)
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadMessage(f"{name}: not an Arrow stream of one batch: {error}") from None
    columns = dict(zip(rows.schema.names, rows.columns, strict=True))
    missing = [c.name for c in schema if c.name not in columns]
    if missing:
        raise MissingKey(f"{name}: missing {', '.join(missing)}")
    return Table(schema, {c.name: _decode_column(columns[c.name], c, name) for c in schema})


def _decode_column(values: pa.Array, column: Column, name: str) -> np.ndarray:
    expected = _arrow_type(column.dtype)
    if values.type != expected or values.null_count:
        found = f"{values.type} with {values.null_count} nulls"
        raise BadMessage(f"{name}: column {column.name}: expected {expected} without nulls, got {found}")
    return values.to_numpy(zero_copy_only=False)


@cache
def _arrow_type(dtype: str) -> pa.DataType:
    return pa.string() if np.dtype(dtype).kind == "U" else pa.from_numpy_dtype(np.dtype(dtype))


def _check_ids(sources: Table, frame: FrameId, count: int, name: str) -> None:
    ids = sources["diaSourceId"]
    if len(ids) != count:
        raise BadMessage(f"{name}: header says {count} sources, the stream has {len(ids)}")
    if np.any(ids >> 16 != (frame.visit << 8 | frame.detector)) or np.any(np.diff(ids) <= 0):
        raise BadMessage(f"{name}: expected rising diaSourceIds of this visit and detector")
    _check_frame(sources, frame, name)


def _check_frame(table: Table, frame: FrameId, name: str) -> None:
    if not np.all(table["visit"] == frame.visit) or not np.all(table["detector"] == frame.detector):
        raise BadMessage(f"{name}: expected the columns visit and detector to agree with the header")


def _decode_array(part: Any, shape: list[int], name: str, dtype: str = "<f4") -> np.ndarray:
    size = np.dtype(dtype).itemsize
    for length in shape:
        size *= length
    given = memoryview(part).nbytes
    if any(length < 0 for length in shape) or len(shape) > 4 or size != given:
        raise BadMessage(f"{name}: {given} bytes do not make {tuple(shape)} of {dtype!r}")
    return np.frombuffer(part, dtype).reshape(shape)
