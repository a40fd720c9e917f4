"""Control messages `[GDC1, JSON]` of client and service: hello, ready, receipt (see WIRE.md)."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import FrameId

CONTROL = b"GDC1"
FINAL = ("done", "duplicate", "rejected")
STATUSES = ("accepted", "busy", "failed", *FINAL)
MAX_BYTES = 1 << 16
REASON_CHARACTERS = 1000


@dataclass(frozen=True)
class Receipt:
    """What the service says of one frame.

    visit, snap, detector : None when the message had no readable identity
    status : accepted | busy | done | duplicate | rejected | failed
    sources, alerts : DIASources and alerts of the frame, once done
    fingerprint : provenance up to detection, hex
    latency_s : from the frame's arrival to its commit
    error, reason : the error's name (model.errors) and one line, when rejected or failed
    retry : the frame is good, send it again
    """

    visit: int | None
    snap: int | None
    detector: int | None
    attempt: int | None
    status: str
    sources: int | None = None
    alerts: int | None = None
    fingerprint: str | None = None
    latency_s: float | None = None
    error: str | None = None
    reason: str | None = None
    retry: bool = False

    @property
    def frame(self) -> FrameId | None:
        """The frame's identity, None when the message had none."""
        if self.visit is None or self.snap is None or self.detector is None:
            return None
        return FrameId(self.visit, self.snap, self.detector)

    @property
    def final(self) -> bool:
        """Whether the service is through with the frame."""
        return self.status in FINAL

    @property
    def good(self) -> bool:
        """Whether the frame's detections are committed."""
        return self.status in ("done", "duplicate")


def one_line(reason: str) -> str:
    """A reason as receipts give it: one line of no more than REASON_CHARACTERS, whatever the sender wrote."""
    return " ".join(reason.split())[:REASON_CHARACTERS]


def hello(client: str) -> list[bytes]:
    """The client's first message."""
    return _encode({"say": "hello", "client": client})


def ready(credit: int, lease_s: float, max_frame_bytes: int, ring: dict[str, str] | None = None) -> list[bytes]:
    """The service's answer to hello; ring : shared memory for clients on its machine (edges.ring)."""
    said = {"say": "ready", "credit": credit, "lease_s": lease_s, "max_frame_bytes": max_frame_bytes}
    return _encode({**said, "ring": ring} if ring else said)


def receipt(value: Receipt) -> list[bytes]:
    """A receipt; what is None is left out, but for the identity, which is null."""
    identity = ("visit", "snap", "detector", "attempt", "status")
    said = {k: v for k, v in asdict(value).items() if k in identity or (v is not None and v is not False)}
    if not math.isfinite(said.get("latency_s", 0.0)):
        del said["latency_s"]
    return _encode({"say": "receipt", **said})


def decode(parts: Sequence[bytes | memoryview]) -> dict[str, Any]:
    """A control message as a dict with at least `say`; raises BadMessage."""
    if len(parts) != 2 or bytes(parts[0][:5]) != CONTROL or len(parts[1]) > MAX_BYTES:
        raise BadMessage(f"expected [GDC1, JSON of at most {MAX_BYTES} bytes], got {sizes(parts)}")
    try:
        message = msgspec.json.decode(parts[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(f"control message: expected JSON: {error}") from None
    if not isinstance(message, dict) or not isinstance(message.get("say"), str):
        raise BadMessage(f'control message: expected an object with "say", a string, got {message!r:.60}')
    return message


def sizes(parts: Sequence[bytes | memoryview]) -> str:
    """What a message is made of: `parts of 4, 70021 bytes`."""
    return f"parts of {', '.join(str(len(part)) for part in parts[:5])} bytes"


def as_receipt(message: dict[str, Any]) -> Receipt:
    """The receipt in a control message; unknown keys are ignored; raises BadMessage for an unknown status."""
    known = {k: message[k] for k in Receipt.__dataclass_fields__ if k in message}
    if known.get("status") not in STATUSES:
        raise BadMessage(f"receipt: expected a status of {STATUSES}, got {known.get('status')!r}")
    for key in ("visit", "snap", "detector", "attempt"):
        known.setdefault(key, None)
    return Receipt(**known)


def _encode(message: dict[str, Any]) -> list[bytes]:
    return [CONTROL, json.dumps(message, allow_nan=False).encode()]
