"""All pairs of positions on the sky closer than a radius, by zones of declination.

Zones after Gray et al. 2006 (MSR-TR-2006-52): sort by (zone, right ascension), then each position needs one
binary search per zone it reaches.  Sort, searchsorted, repeat and gather are all there is.

The associator joins on the CPU, where its tables are.  The CUDA body is for a node whose GPU holds the known
side, sorted once a night and sent up once (`Zones.on`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gpudiff.arrays.device import Launcher

ARCSEC = np.pi / 180 / 3600
SPAN = 1024.0
"""Room for right ascensions, degrees, between the keys of two zones: key = zone * SPAN + ra."""
PAD = 1e-5
"""Degrees added to each search window: more than the rounding of a key (zone < 2**20, so 2**-23 degrees); the
exact test decides afterwards."""


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N, 3) float64 directions of (N,) degrees; NaN in, NaN out."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)


@dataclass(frozen=True)
class Zones:
    """Known positions in rising order of zone and right ascension, to be joined within one radius.

    radius : arcsec, at most 10 degrees
    key : (K,) float64, rising; order : (K,) int32, which position each is; those that are not finite are none
    vectors : (3, K) float64, their directions.  All three on the host, or all on a device.
    """

    radius: float
    key: Any
    order: Any
    vectors: Any

    @classmethod
    def of(cls, ra: np.ndarray, dec: np.ndarray, radius: float) -> "Zones":
        """Of (M,) float64 degrees, ICRS; any multiple of 360 in ra."""
        ra, dec = np.asarray(ra, float), np.asarray(dec, float)
        finite = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        key = _zone(dec[finite], _height(radius)) * SPAN + ra[finite] % 360
        rising = np.argsort(key, kind="stable")
        order = finite[rising]
        return cls(radius, key[rising], order.astype(np.int32), unit_vectors(ra[order], dec[order]).T.copy())

    def on(self, launcher: Launcher) -> "Zones":
        """The same in a device's memory."""
        key, vectors = (launcher.upload(one, np.float64) for one in (self.key, self.vectors))
        return replace(self, key=key, order=launcher.upload(self.order, np.int32), vectors=vectors)

    @property
    def chord2(self) -> float:
        """The square of the distance between two directions a radius apart."""
        return float((2 * np.sin(0.5 * self.radius * ARCSEC)) ** 2)


def zone_join(
    ra: np.ndarray, dec: np.ndarray, ra_known: np.ndarray, dec_known: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (i, j) of every pair with |(ra, dec)[i] - (ra_known, dec_known)[j]| <= radius, rising in i.

    ra, dec : (N,) float64, degrees, ICRS; any multiple of 360 in ra
    ra_known, dec_known : (M,) float64, degrees
    radius : arcsec, at most 10 degrees
    Separations are great circles, so the poles and RA 0 are like any other place.  A position that is not
    finite is in no pair.  Returns two (P,) int64 arrays; the order of j within one i is not specified.
    """
    return joined(ra, dec, Zones.of(ra_known, dec_known, radius))


def joined(ra: np.ndarray, dec: np.ndarray, known: Zones) -> tuple[np.ndarray, np.ndarray]:
    """`zone_join` with a known side that was sorted before."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    rows, first, last = _windows(ra, dec, known.radius / 3600, _height(known.radius))
    begin, end = np.searchsorted(known.key, first, "left"), np.searchsorted(known.key, last, "right")
    count = end - begin
    i = np.repeat(rows, count)
    place = np.arange(len(i)) + np.repeat(begin - (np.cumsum(count) - count), count)
    directions = unit_vectors(ra, dec).T
    x, y, z = (mine[i] - theirs[place] for mine, theirs in zip(directions, known.vectors, strict=True))
    near = x * x + y * y + z * z <= known.chord2
    return i[near], known.order[place[near]].astype(np.int64)


def _height(radius: float) -> float:
    """Degrees: a zone is at least twice the radius high."""
    return max(2 * radius / 3600, 1 / 1800)


def _zone(dec: np.ndarray, height: float) -> np.ndarray:
    return np.floor((dec + 90) / height)


def _windows(
    ra: np.ndarray, dec: np.ndarray, reach: float, height: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which position each search belongs to, rising, and its first and last key.

    A position reaches two zones at most, as a zone is twice the radius high.  Its right ascensions are
    +- asin(sin(reach) / cos(dec)), all of them when the circle holds a pole; one over RA 0 is cut in two.
    """
    finite = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    ra, dec = ra[finite] % 360, dec[finite]
    polar = np.abs(dec) + reach >= 90
    ratio = np.sin(np.radians(reach)) / np.where(polar, 1.0, np.cos(np.radians(dec)))
    half = np.degrees(np.arcsin(np.minimum(ratio, 1.0))) + PAD
    around = polar | (half >= 180)
    half = np.where(around, 360.0, half)
    rows, first, last = [], [], []
    low, high = _zone(dec - reach, height), _zone(dec + reach, height)
    for zone, used in ((low, low == low), (high, high > low)):
        for turn in (-360.0, 0.0, 360.0):
            left, right = np.maximum(ra - half + turn, 0.0), np.minimum(ra + half + turn, 360.0)
            wanted = used & (left <= right) & ((turn == 0) | ~around)
            rows.append(finite[wanted])
            first.append((zone * SPAN + left)[wanted])
            last.append((zone * SPAN + right)[wanted])
    rising = np.argsort(np.concatenate(rows), kind="stable")
    return tuple(np.concatenate(each)[rising] for each in (rows, first, last))  # type: ignore[return-value]


# ---------------------------------------------------------------- on a GPU
WARPS = 8
"""Of a block in the CUDA bodies; a warp makes one search."""


def zone_join_cuda(
    launcher: Launcher, ra: np.ndarray, dec: np.ndarray, known: Zones
) -> tuple[np.ndarray, np.ndarray]:
    """`joined` on a GPU, exactly and in the same order; (i, j) are on the host.

    known : on the device or the host.  Each search's pairs are counted, the host adds up, then they are written.
    """
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    rows, first, last = _windows(ra, dec, known.radius / 3600, _height(known.radius))
    if len(rows) == 0 or len(known.key) == 0:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    known = known.on(launcher)
    searches = launcher.upload(np.stack([first, last], 1), np.float64)
    directions = launcher.upload(unit_vectors(ra, dec)[rows], np.float64)
    spans, counts = launcher.empty((len(rows), 2), np.int32), launcher.empty((len(rows),), np.int32)
    sizes = [np.int32(len(rows)), np.int32(len(known.key)), np.float64(known.chord2)]

    def launch(kernel: str, arrays: list[Any]) -> None:
        grid = (-(-len(rows) // WARPS), 1, 1)
        launcher.launch("zone_join", kernel, grid, (32 * WARPS, 1, 1), [*arrays, *sizes])

    launch("count_pairs", [searches, known.key, directions, known.vectors, spans, counts])
    ends = np.cumsum(launcher.download(counts), dtype=np.int64)
    pairs = [launcher.empty((max(int(ends[-1]), 1),), np.int32) for _ in range(2)]
    starts, names = launcher.upload(np.append(0, ends[:-1]), np.int64), launcher.upload(rows, np.int32)
    launch("write_pairs", [spans, starts, names, directions, known.vectors, known.order, *pairs])
    i, j = (launcher.download(one)[: ends[-1]].astype(np.int64) for one in pairs)
    return i, j
