"""Detections that are trails: fast movers, each once, with length and angle."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.measure import psf_stamps, weighed
from gpudiff.arrays.ridges import along
from gpudiff.arrays.trails import Powers, Starts, Trail, fit_trails, line_powers_cuda
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.science.judge import Shapes, sharper
from gpudiff.science.psf import given

HALF, WIDER = 30, 75
"""Half widths of the stamps trails are fitted on, pixels; the second where a trail goes on beyond the first."""
LONGEST = 1.5
"""Half widths of its stamp: a longer trail does not fit in."""
LEAST_GAIN = 20.0
"""Squared signal to noise that a trail must win over a point source: it has length and angle more, so that noise
alone gives one point source in 20,000 as much."""
MOST = 200
"""Detections of a frame, the brightest, that are tried: a difference with more that look like trails has none to
believe."""
OTHERS = 2.0
"""FWHM round a brighter detection whose light would be taken for the trail's."""
PART = 1.5
"""A detection on a trail that is more significant than the trail's own by this is not a part of it."""
POINT = 0.27
"""Score of a point source a FWHM from its peak, over the peak's."""
WORST = 2.5
"""chi2 a pixel above which it is neither."""


@dataclass(frozen=True)
class Trails:
    """length, angle, dy, dx : (N,) of each detection, 0 for a point source; dy, dx from its peak to the middle
    doubled : (N,) bool, detections that lie on the trail of a brighter one and are part of it
    """

    length: np.ndarray
    angle: np.ndarray
    dy: np.ndarray
    dx: np.ndarray
    doubled: np.ndarray


def find_trails(difference: Difference, y: np.ndarray, x: np.ndarray, shapes: Shapes) -> Trails:
    """The trails among detections at (y, x), (N,) int pixels, which are ordered brightest first."""
    count = len(y)
    found = Trails(np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, bool))
    with np.errstate(invalid="ignore"):
        candidates = ~shapes.pointed & (shapes.major > 1.4) & ~sharper(shapes)
    candidates &= (difference.mask[y, x] & bit("STREAK")) == 0
    candidates[candidates] = _stretched(difference, y[candidates], x[candidates], shapes.angle[candidates])
    candidates[np.flatnonzero(candidates)[MOST:]] = False
    rows = np.flatnonzero(candidates)
    if len(rows) == 0:
        return found
    size, fwhm = np.abs(difference.score[y, x]), difference.quality.science_fwhm
    psf = given(difference.psf, difference.science.shape, difference.science.name)
    psfs = psf_stamps(psf.coefficients, psf.order, psf.shape, y[rows], x[rows])

    reach = OTHERS * fwhm
    brighter = [np.flatnonzero(_near(y[:n] - y[n], x[:n] - x[n], WIDER + reach)) for n in rows]

    @cache
    def starts(half: int) -> Starts:
        return Starts(difference.psf[len(difference.psf) // 2], 2 * half + 1, _powers_on(difference.score))

    def fits(some: np.ndarray, half: int = HALF) -> list[Trail | None]:
        """Of some rows, what is known to be part of a trail not being taken for another source."""
        data, weight = weighed(difference.image, difference.variance, y[rows[some]], x[rows[some]], half)
        free = []
        for stamp, k, n in zip(weight, some, rows[some], strict=True):
            others = brighter[k][~found.doubled[brighter[k]]]
            free.append(_away_from(stamp, y[others] - y[n], x[others] - x[n], reach))
        return fit_trails(data, np.stack(free), psfs[some], shapes.angle[rows[some]], LEAST_GAIN, starts(half))

    trails = fits(np.arange(len(rows)))
    for k, n in enumerate(rows):
        if found.doubled[n]:
            continue
        if found.doubled[brighter[k]].any():
            trails[k : k + 1] = fits(np.array([k]))
        trail, half = trails[k], HALF
        if trail is not None and _goes_on(trail, HALF - fwhm):
            (trail,), half = fits(np.array([k]), WIDER), WIDER
        if trail is None or trail.gain < LEAST_GAIN or trail.chi2 > WORST:
            continue
        if not 0.5 * fwhm <= trail.length <= LONGEST * half:
            continue
        found.length[n], found.angle[n], found.dy[n], found.dx[n] = trail.length, trail.angle, trail.y, trail.x
        part = _on(trail, y - y[n], x - x[n], fwhm) & (size < PART * size[n])
        found.doubled[part & (np.arange(count) != n)] = True
    return found


def _powers_on(score: np.ndarray) -> Powers | None:
    """`line_powers` on the device that the score lies on."""
    if not isinstance(score, Afar):
        return None
    return lambda *given: score.on_device(lambda launcher, _: line_powers_cuda(launcher, *given))


def _goes_on(trail: Trail, inside: float) -> bool:
    """Whether an end of a trail lies `inside` px or more from the stamp's centre, along an axis."""
    radians = np.radians(trail.angle)
    reach = 0.5 * trail.length * np.abs([np.sin(radians), np.cos(radians)])
    return bool((np.abs([trail.y, trail.x]) + reach).max() >= inside)


def _near(dy: np.ndarray, dx: np.ndarray, reach: float) -> np.ndarray:
    """(N,) bool: within `reach` px along an axis."""
    return np.maximum(np.abs(dy), np.abs(dx)) < reach


def _away_from(weight: np.ndarray, dy: np.ndarray, dx: np.ndarray, reach: float) -> np.ndarray:
    """(P, P) weight of a stamp, 0 within `reach` px of brighter detections, which are no part of a trail.

    dy, dx : (N,) int, where they are from the stamp's centre
    """
    half = len(weight) // 2
    offset = np.arange(-half, half + 1)
    near = _near(dy, dx, half + reach)
    for row, column in zip(dy[near], dx[near], strict=True):
        weight = np.where(np.hypot((offset - row)[:, None], offset - column) > reach, weight, 0)
    return weight


def _stretched(difference: Difference, y: np.ndarray, x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(N,) bool: a FWHM away on its long axis the score is higher than beside a point source.

    A cheap look before the fit.
    """
    fwhm = np.full(len(y), difference.quality.science_fwhm)
    peak = np.abs(difference.score[y, x])
    turned = [along(difference.score, y, x, angle + turn, 0.8 * fwhm, 1.2 * fwhm).mean(1) for turn in (-12, 0, 12)]
    sides = np.max(np.abs(turned), axis=0) - POINT * peak
    return sides > np.maximum(1.0, 0.04 * peak)


def _on(trail: Trail, dy: np.ndarray, dx: np.ndarray, fwhm: float) -> np.ndarray:
    """Bool: positions (from the detection's peak) on the trail or within a FWHM of it."""
    radians = np.radians(trail.angle)
    along = (dx - trail.x) * np.cos(radians) + (dy - trail.y) * np.sin(radians)
    across = (dy - trail.y) * np.cos(radians) - (dx - trail.x) * np.sin(radians)
    return (np.abs(along) < trail.length / 2 + fwhm) & (np.abs(across) < 1.5 * fwhm)
