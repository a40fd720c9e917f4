"""Cumulative fingerprints: each step's depends on all before it.

fp_k = blake2b-128(fp_{k-1} || canonical JSON of the step's name, code version, configuration digest, inputs)
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import xxhash

from gpudiff.model.frame import Frame


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(*parts: bytes) -> str:
    """Hex blake2b-128 of the parts, one after the other."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(part)
    return h.hexdigest()


HASHED = ("step", "version", "configuration", "inputs")
"""The keys of a step that its fingerprint depends on; others stand beside them: the device, the fingerprint."""


def step(name: str, version: str, configuration: str, inputs: list[str], device: str = "") -> dict[str, Any]:
    """One step as it is stored and hashed: `configuration` and `inputs` are digests.

    device : what computed it (cpu, cuda:0 ...), told beside the step and not hashed: the algorithm is the same
    """
    made = {"step": name, "version": version, "configuration": configuration, "inputs": inputs}
    return {**made, "device": device} if device else made


def extend(fingerprint: str, steps: Sequence[dict[str, Any]]) -> str:
    """The fingerprint after more steps; start with ''."""
    for one in steps:
        fingerprint = digest(fingerprint.encode(), canonical({key: one[key] for key in HASHED if key in one}))
    return fingerprint


def chain(steps: Sequence[dict[str, Any]], after: str = "") -> list[dict[str, Any]]:
    """The steps, each with the fingerprint up to and including it: so that a change is found where it is."""
    linked = []
    for one in steps:
        after = extend(after, [one])
        linked.append({**one, "fingerprint": after})
    return linked


def first_broken(links: Sequence[dict[str, Any]]) -> int | None:
    """The number, from 0, of the first step of a `chain` whose fingerprint does not follow; None when all do."""
    after = ""
    for number, one in enumerate(links):
        if extend(after, [one]) != one.get("fingerprint"):
            return number
        after = one["fingerprint"]
    return None


NONE: Mapping[str, str] = MappingProxyType({})


def frame_digest(frame: Frame, checksums: Mapping[str, str] = NONE) -> str:
    """Hex blake2b-128 of a frame's pixels and of what was said about them, however the frame came.

    The hashed document is the canonical JSON of `planes` (name -> dtype, shape and xxh3-128 of the bytes,
    little-endian, C order; the checksums of the wire), gain, read_noise, saturation, wcs and observation.
    Every number is a float, NaN is null: a header's 512 and 512.0 are one.  The same values as uint16 and as
    float32 are different planes.  Name, unit and zero point are left out: they change no pixel.

    checksums : plane name -> xxh3-128, of planes whose pixels were just summed: they are not summed again
    """
    planes = {"image": frame.image, "mask": frame.mask, "variance": frame.variance, "psf": frame.psf}
    given = {name: plane for name, plane in planes.items() if plane is not None}
    document = {
        "planes": {name: _plane_digest(plane, checksums.get(name, "")) for name, plane in given.items()},
        "gain": frame.gain,
        "read_noise": frame.read_noise,
        "saturation": frame.saturation,
        "wcs": frame.wcs,
        "observation": dataclasses.asdict(frame.observation),
    }
    return digest(canonical(_plain(document)))


def with_digest(frame: Frame, checksums: Mapping[str, str] = NONE) -> Frame:
    """The frame, carrying its digest.  checksums : as `frame_digest`"""
    return dataclasses.replace(frame, digest=frame_digest(frame, checksums))


def _plane_digest(plane: np.ndarray, checksum: str) -> dict[str, Any]:
    """checksum : of its bytes, '' for one that nobody knows yet"""
    dtype = plane.dtype.newbyteorder("<")
    if not checksum:
        little = np.ascontiguousarray(plane, dtype)
        checksum = xxhash.xxh3_128_hexdigest(little.data.cast("B") if little.size else b"")
    return {"dtype": dtype.str, "shape": list(plane.shape), "xxh3_128": checksum.lower()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | str) or value is None:
        return value
    number = float(value) + 0.0
    return number if math.isfinite(number) else None
