"""Tracklets: detections of one night that belong to nothing known and lie on one straight line in time.

Every pair of a new detection and an earlier loose one within the limits of rate is a possible motion.  In a
crowded night most are chance, so a link is made only where chance would hardly have made it: the number of
links as good as this one that unrelated detections make, by their own local number, is below a limit.

* Two: chance makes n (rate / fastest)^2 slower pairs, n the number of pairs of this detection.  Only slow motion
  in a sparse field passes.
* Three: another pair of the same detection has the same velocity within the errors.  Of n (n - 1) / 2
  combinations chance makes the share of the velocities' circle that the error ellipse covers.  (The linking of
  pairs in velocity is that of Kubica et al. 2007, Icarus 189, 151, without their tree.)
"""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.zone_join import ARCSEC, unit_vectors, zone_join
from gpudiff.model.tables import Table
from gpudiff.science.objects import covariance, separation

MINUTES = 1440.0
FLOOR = 0.1
"""Arcsec per axis: systematic error of positions, and what the motion bends in an hour."""
CHI2 = 9.21
"""Two velocities agree below this: 99 % of true ones do (chi2 with two degrees of freedom)."""
MOST_PAIRS = 400
"""Pairs of one detection, the slowest; more make triples by chance anyway."""


@dataclass(frozen=True)
class LinkLimits:
    """slowest, fastest : arcsec a minute; window : minutes back; chance : expected false links a detection"""

    slowest: float = 0.02
    fastest: float = 3.0
    window: float = 90.0
    chance: float = 1e-3


@dataclass(frozen=True)
class _Pairs:
    """i : new detection, k : loose one, rising in i; velocity : (P, 2), arcsec a minute; minutes : (P,) from k to
    i; number : (P,) pairs of the same i; own, theirs : (P,) variance of their positions, arcsec2 an axis"""

    i: np.ndarray
    k: np.ndarray
    velocity: np.ndarray
    minutes: np.ndarray
    number: np.ndarray
    own: np.ndarray
    theirs: np.ndarray


def link(sources: Table, loose: Table, limits: LinkLimits) -> np.ndarray:
    """(N,) int64 tracklet of each source, 0 for none.

    sources : Table of DIASOURCE, of one frame, that belong to nothing known, with sky positions
    loose : Table of LOOSE; what is later than the sources, or of the same frame, is left alone
    The tracklet's id is that of the loose detections it joins, or the diaSourceId of the earliest of them.
    """
    if not (len(sources) and len(loose)):
        return np.zeros(len(sources), np.int64)
    pairs = _pairs(sources, loose, limits)
    best, chance = np.full(len(sources), -1), np.full(len(sources), limits.chance)
    _offer(best, chance, pairs.i, pairs.k, pairs.number * (_rate(pairs) / limits.fastest) ** 2)
    i, first, triple_chance = _triples(pairs, loose, limits)
    _offer(best, chance, i, first, triple_chance)
    named = np.where(loose["trackletId"] > 0, loose["trackletId"], loose["diaSourceId"])
    return np.where(best >= 0, np.append(named, 0)[best], 0)


def _offer(best: np.ndarray, chance: np.ndarray, i: np.ndarray, k: np.ndarray, offered: np.ndarray) -> None:
    """Keep for each source the loose detection of the least likely chance."""
    order = np.argsort(-offered, kind="stable")
    order = order[offered[order] < chance[i[order]]]
    best[i[order]], chance[i[order]] = k[order], offered[order]


def _pairs(sources: Table, loose: Table, limits: LinkLimits) -> _Pairs:
    age = (sources["midpointMjdTai"].max() - loose["midpointMjdTai"].min()) * MINUTES
    reach = limits.fastest * np.fmin(limits.window, np.maximum(0.0, 1.01 * age))  # NaN, of no time, limits nothing
    i, k = zone_join(sources["ra"], sources["dec"], loose["ra"], loose["dec"], reach)
    minutes = (sources["midpointMjdTai"][i] - loose["midpointMjdTai"][k]) * MINUTES
    mine, theirs = (unit_vectors(one["ra"], one["dec"]) for one in (sources, loose))
    chord = np.linalg.norm(mine[i] - theirs[k], axis=1) / ARCSEC
    soon = (minutes > 0.1) & (minutes <= limits.window)
    soon &= chord <= 1.01 * limits.fastest * minutes  # in the tangent plane they are nearer, by less
    i, k, minutes = i[soon], k[soon], minutes[soon]
    r, _ = separation(sources, loose, i, k)
    rate = np.hypot(*r.T) / minutes
    wanted = (rate <= limits.fastest) & (rate >= limits.slowest)
    i, k, r, minutes, rate = i[wanted], k[wanted], r[wanted], minutes[wanted], rate[wanted]
    number = np.bincount(i, minlength=len(sources))[i]
    order = np.lexsort((rate, i))
    start = np.cumsum(np.bincount(i, minlength=len(sources))) - np.bincount(i, minlength=len(sources))
    order = order[np.arange(len(i)) - start[i[order]] < MOST_PAIRS]
    i, k, r, minutes, number = i[order], k[order], r[order], minutes[order], number[order]
    return _Pairs(i, k, r / minutes[:, None], minutes, number, _variance(sources, i), _variance(loose, k))


def _variance(table: Table, rows: np.ndarray) -> np.ndarray:
    """(P,) mean of both axes, arcsec2, with the floor."""
    return 0.5 * np.trace(covariance(table, rows), axis1=1, axis2=2) + FLOOR**2


def _rate(pairs: _Pairs) -> np.ndarray:
    return np.hypot(*pairs.velocity.T)


def _triples(pairs: _Pairs, loose: Table, limits: LinkLimits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, earliest loose detection and chance of every two pairs of a source with one velocity."""
    a, b = _same_source(pairs.i)
    different = np.abs(pairs.minutes[a] - pairs.minutes[b]) > 0.1
    a, b = a[different], b[different]
    since = 1 / pairs.minutes
    variance = pairs.theirs[a] * since[a] ** 2 + pairs.theirs[b] * since[b] ** 2
    variance += pairs.own[a] * (since[a] - since[b]) ** 2
    off = pairs.velocity[a] - pairs.velocity[b]
    agree = np.sum(off * off, -1) <= CHI2 * variance
    a, b, variance = a[agree], b[agree], variance[agree]
    number = pairs.number[a].astype(float)
    chance = 0.5 * number * (number - 1) * CHI2 * variance / limits.fastest**2
    named = loose["trackletId"]
    one_line = (named[pairs.k[a]] > 0) & (named[pairs.k[a]] == named[pairs.k[b]])
    chance[one_line] = 0
    earliest = np.where(pairs.minutes[a] > pairs.minutes[b], pairs.k[a], pairs.k[b])
    return pairs.i[a], earliest, chance


def _same_source(i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every two entries of a rising list that are equal: their places, the first before the second."""
    last = np.searchsorted(i, i, "right")
    later = last - np.arange(len(i)) - 1
    first = np.repeat(np.arange(len(i)), later)
    return first, first + 1 + np.arange(len(first)) - np.repeat(np.cumsum(later) - later, later)
