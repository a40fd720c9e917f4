"""Regions: which associator a place on the sky belongs to, where several share it."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WHOLE = {"ra": (0.0, 360.0), "dec": (-90.0, 90.0)}


@dataclass(frozen=True)
class Region:
    """A zone of the sky and the associator that has it.

    ra : degrees, from and to; from above to goes through 0; dec : degrees, from and to
    Each edge belongs to the zone that begins there, the north pole to the one that ends there.
    key : name of the associator's public key in the folder of keys, '' where all have one
    """

    endpoint: str
    ra: tuple[float, float] = WHOLE["ra"]
    dec: tuple[float, float] = WHOLE["dec"]
    key: str = ""

    def has(self, ra: float, dec: float) -> bool:
        """Whether a place, degrees, is in the zone; ra in [0, 360)."""
        (west, east), (south, north) = self.ra, self.dec
        between = west <= ra < east if west < east else ra >= west or ra < east
        return between and (south <= dec < north or dec == north == 90)


@dataclass(frozen=True)
class Regions:
    """All of them; every place is in exactly one (`problem` says otherwise)."""

    zones: tuple[Region, ...]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """Each associator's, once, in the order of the list."""
        return tuple(dict.fromkeys(one.endpoint for one in self.zones))

    @property
    def keys(self) -> dict[str, str]:
        """endpoint -> the name of its key."""
        return {one.endpoint: one.key for one in self.zones}

    @property
    def several(self) -> bool:
        """Whether more than one associator shares the sky."""
        return len(self.endpoints) > 1

    def of(self, ra: float, dec: float) -> str:
        """The endpoint of the associator for a place; the first one's for a place that is none (NaN)."""
        if math.isfinite(ra) and math.isfinite(dec):
            ra, dec = ra % 360, min(max(dec, -90.0), 90.0)
            for one in self.zones:
                if one.has(ra if ra < 360 else 0.0, dec):
                    return one.endpoint
        return self.zones[0].endpoint


def parse(text: str) -> Region:
    """The region in "ENDPOINT [ra FROM TO] [dec FROM TO] [key NAME]"; raises ValueError that says why."""
    endpoint, *words = text.split() or [""]
    key = words.pop() if words[-2:-1] == ["key"] else ""
    words = words[:-1] if key else words
    said = dict(WHOLE)
    if not endpoint or len(words) not in (0, 3, 6):
        raise ValueError(f'expected "ENDPOINT ra FROM TO dec FROM TO key NAME", got {text!r}')
    for axis, *limits in (words[start : start + 3] for start in range(0, len(words), 3)):
        if axis not in WHOLE or said[axis] != WHOLE[axis]:
            raise ValueError(f"{text!r}: expected ra or dec, each once, got {axis!r}")
        said[axis] = _limits(text, axis, limits)
    return Region(endpoint, said["ra"], said["dec"], key)


def _limits(text: str, axis: str, words: Sequence[str]) -> tuple[float, float]:
    low, high = WHOLE[axis]
    try:
        start, end = map(float, words)
    except ValueError:
        raise ValueError(f"{text!r}: expected two numbers after {axis}, got {' '.join(words)!r}") from None
    if not (low <= start <= high and low <= end <= high) or start == end or (axis == "dec" and start > end):
        raise ValueError(f"{text!r}: expected {axis} FROM TO within {low:g} and {high:g}, got {start:g} {end:g}")
    return start, end


def problem(texts: Sequence[str]) -> str:
    """What is wrong with a list of regions, '' when every place on the sky is in exactly one, or there is none."""
    try:
        zones = [parse(text) for text in texts]
    except ValueError as error:
        return str(error)
    for ra, dec in _cells(zones) if zones else ():
        found = [one.endpoint for one in zones if one.has(sum(ra) / 2, sum(dec) / 2)]
        if len(found) != 1:
            where = f"ra {ra[0]:g} {ra[1]:g} dec {dec[0]:g} {dec[1]:g}"
            return f"expected one associator for {where}, got {' and '.join(found) or 'none'}"
    for one in zones:
        if len(keys := sorted({other.key for other in zones if other.endpoint == one.endpoint})) > 1:
            return f"expected one key of {one.endpoint}, got {' and '.join(map(repr, keys))}"
    return ""


def _cells(zones: Sequence[Region]) -> Iterator[tuple[tuple[float, float], tuple[float, float]]]:
    """The sky cut at every edge of every zone: (ra from, to), (dec from, to)."""
    cuts = [
        sorted({*WHOLE[axis], *(edge for one in zones for edge in getattr(one, axis))}) for axis in ("ra", "dec")
    ]
    yield from itertools.product(*map(itertools.pairwise, cuts))
