"""Detections that are trails: fast movers, each once, with length and angle."""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.measure import psf_stamps
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.trails import Trail, fit_trail
from gpudiff.model.frame import Difference
from gpudiff.science.judge import Shapes
from gpudiff.science.psf import given

HALF = 30
"""Half width of the stamps trails are fitted on, pixels."""
LEAST_GAIN = 25.0
"""Squared signal to noise that a trail must win over a point source."""
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
    """The trails among detections at (y, x), which are ordered brightest first."""
    count = len(y)
    found = Trails(np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, bool))
    with np.errstate(invalid="ignore"):
        candidates = shapes.noticed & ~shapes.pointed & (shapes.major > 1.4) & (shapes.minor > 0.4)
    for n in np.nonzero(candidates)[0]:
        if found.doubled[n]:
            continue
        trail = _fit(difference, int(y[n]), int(x[n]), float(shapes.angle[n]))
        if trail.gain < LEAST_GAIN or trail.chi2 > WORST or trail.length < 0.5 * difference.quality.science_fwhm:
            continue
        found.length[n], found.angle[n], found.dy[n], found.dx[n] = trail.length, trail.angle, trail.y, trail.x
        found.doubled[
            _on(trail, y - y[n], x - x[n], difference.quality.science_fwhm) & (np.arange(len(y)) != n)
        ] = True
    return found


def _fit(difference: Difference, y: int, x: int, angle: float) -> Trail:
    at = np.array([y]), np.array([x])
    offset = np.arange(-HALF, HALF + 1)
    rows, columns = y + offset, x + offset
    inside = ((rows >= 0) & (rows < difference.image.shape[0]))[:, None]
    inside = inside & (columns >= 0) & (columns < difference.image.shape[1])
    data, variance = (stamps(plane, *at, HALF)[0] for plane in (difference.image, difference.variance))
    known = inside & np.isfinite(data) & (variance > 0)
    weight = np.where(known, 1 / np.where(known, variance, 1), 0)
    model = given(difference.psf, difference.science.shape, difference.science.name)
    psf = psf_stamps(model.coefficients, model.order, model.shape, *at)[0]
    return fit_trail(np.where(known, data, 0), weight, psf, angle)


def _on(trail: Trail, dy: np.ndarray, dx: np.ndarray, fwhm: float) -> np.ndarray:
    """Bool: positions (from the detection's peak) on the trail or within a FWHM of it."""
    radians = np.radians(trail.angle)
    along = (dx - trail.x) * np.cos(radians) + (dy - trail.y) * np.sin(radians)
    across = (dy - trail.y) * np.cos(radians) - (dx - trail.x) * np.sin(radians)
    return (np.abs(along) < trail.length / 2 + fwhm) & (np.abs(across) < 1.5 * fwhm)
