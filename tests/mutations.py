"""Damage to a frame message: what a broken, old or hostile client may send."""

import json
import random
from collections.abc import Callable
from typing import Any

from gpudiff.edges import wire

NUMBERS = [-1, 0, 1, 255, 256, 1 << 39, 1 << 63, 10**40, 0.5, -1e308, 1e-308, 1e308]
NESTED = [[], [[]], [1, 2, 3], [[0.0]], [[1e38, 1], [1, -1e38]], {}, {"CTYPE1": "RA---TAN"}, {"a": [1]}]
ODD: list[Any] = [None, True, *NUMBERS, "", "x", "<f8", "\x00\n", *NESTED, "x" * 100_000]
"""Values that a key hardly expects."""


def odd_value(parts: list[bytes], rng: random.Random) -> None:
    """A key of the header holds something else."""
    header = json.loads(parts[1])
    header[rng.choice([*wire.Header.__struct_fields__])] = rng.choice(ODD)
    parts[1] = json.dumps(header).encode()


def odd_wcs(parts: list[bytes], rng: random.Random) -> None:
    """A WCS keyword holds something else, or is not there."""
    header = json.loads(parts[1])
    key, value = rng.choice(sorted(header["wcs"])), rng.choice([*ODD, ...])
    header["wcs"][key] = value
    header["wcs"] = {key: value for key, value in header["wcs"].items() if value is not ...}
    parts[1] = json.dumps(header).encode()


def odd_plane(parts: list[bytes], rng: random.Random) -> None:
    """A key of a plane's description holds something else."""
    header = json.loads(parts[1])
    rng.choice(header["planes"])[rng.choice([*wire.PlaneHeader.__struct_fields__])] = rng.choice(ODD)
    parts[1] = json.dumps(header).encode()


def odd_place(parts: list[bytes], rng: random.Random) -> None:
    """A plane is said to lie in shared memory, anywhere."""
    header = json.loads(parts[1])
    place = {"segment": rng.choice(["x.ring", "../x.ring", "/etc/passwd", "", "a.ring"])}
    place |= {key: rng.choice([rng.choice(ODD), 64, 1 << 40]) for key in ("offset", "sequence")}
    plane = rng.randrange(len(header["planes"]))
    header["planes"][plane]["shm"] = place
    if rng.random() < 0.8:
        del parts[2 + plane]
    parts[1] = json.dumps(header).encode()


def lost_key(parts: list[bytes], rng: random.Random) -> None:
    """A key of the header is not there."""
    header = json.loads(parts[1])
    del header[rng.choice(sorted(header))]
    parts[1] = json.dumps(header).encode()


def flipped(parts: list[bytes], rng: random.Random) -> None:
    """A few bytes of a part are others."""
    part = rng.randrange(len(parts))
    made = bytearray(parts[part])
    for _ in range(rng.choice([1, 1, 2, 9])):
        made[rng.randrange(len(made))] = rng.randrange(256)
    parts[part] = bytes(made)


def cut(parts: list[bytes], rng: random.Random) -> None:
    """A part ends early."""
    part = rng.randrange(len(parts))
    parts[part] = parts[part][: rng.randrange(len(parts[part]))]


def shuffled(parts: list[bytes], rng: random.Random) -> None:
    """A part is lost, comes twice, or in another's place."""
    rng.choice([parts.pop, parts.reverse, lambda: parts.append(parts[-1]), lambda: parts.insert(0, parts[1])])()


def control_message(parts: list[bytes], rng: random.Random) -> None:
    """Words instead of a frame."""
    said = rng.choice([b'{"say": "hello"}', b'{"say": 5}', b"[", b"", b'{"say": "receipt"}', b"{" * 70_000])
    parts[:] = [b"GDC1", said]


DAMAGE: list[Callable[[list[bytes], random.Random], None]] = [
    *(odd_value, odd_wcs, odd_plane, odd_place, lost_key, flipped, cut, shuffled, control_message)
]
