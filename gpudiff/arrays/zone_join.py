"""All pairs of positions on the sky closer than a radius, by zones of declination.

Zones after Gray et al. 2006 (MSR-TR-2006-52): sort by (zone, right ascension), then each position needs one
binary search per zone it reaches.  Sort, searchsorted, repeat and gather are all there is.
"""

import numpy as np

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
    height = max(2 * radius / 3600, 1 / 1800)
    reach = radius / 3600
    key, order = _sorted_keys(ra_known, dec_known, height)
    rows, first, last = _windows(np.asarray(ra, float), np.asarray(dec, float), reach, height)
    begin, end = np.searchsorted(key, first, "left"), np.searchsorted(key, last, "right")
    count = end - begin
    i = np.repeat(rows, count)
    j = order[np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(begin, count)]
    apart = unit_vectors(ra, dec)[i] - unit_vectors(ra_known, dec_known)[j]
    near = np.einsum("ij,ij->i", apart, apart) <= (2 * np.sin(0.5 * radius * ARCSEC)) ** 2
    i, j = i[near], j[near]
    rising = np.argsort(i, kind="stable")
    return i[rising], j[rising]


def _zone(dec: np.ndarray, height: float) -> np.ndarray:
    return np.floor((dec + 90) / height)


def _sorted_keys(ra: np.ndarray, dec: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Keys of the finite positions in rising order, and which position each is."""
    finite = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
    key = _zone(np.asarray(dec, float)[finite], height) * SPAN + np.asarray(ra, float)[finite] % 360
    order = np.argsort(key, kind="stable")
    return key[order], finite[order]


def _windows(
    ra: np.ndarray, dec: np.ndarray, reach: float, height: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which position each search belongs to, and its first and last key.

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
    return np.concatenate(rows), np.concatenate(first), np.concatenate(last)
