"""Cumulative fingerprints: each step's depends on all before it.

fp_k = blake2b-128(fp_{k-1} || canonical JSON of the step's name, code version, configuration digest, inputs)
"""

import hashlib
import json
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def digest(*parts: bytes) -> str:
    """Hex blake2b-128 of the parts, one after the other."""
    h = hashlib.blake2b(digest_size=16)
    for part in parts:
        h.update(part)
    return h.hexdigest()


def step(name: str, version: str, configuration: str, inputs: list[str]) -> dict[str, Any]:
    """One step as it is stored and hashed: `configuration` and `inputs` are digests."""
    return {"step": name, "version": version, "configuration": configuration, "inputs": inputs}


def extend(fingerprint: str, steps: tuple[dict[str, Any], ...] | list[dict[str, Any]]) -> str:
    """The fingerprint after more steps; start with ''."""
    for one in steps:
        fingerprint = digest(fingerprint.encode(), canonical(one))
    return fingerprint
