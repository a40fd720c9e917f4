"""Light that is not of the sky, on the difference: satellite streaks, rows of glints, spikes, halos and ghosts."""

import dataclasses

import numpy as np

from gpudiff.arrays.glints import rows_of_points
from gpudiff.arrays.ridges import along, beside
from gpudiff.arrays.streaks import Streak, find_streaks, line_pixels
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit

BRIGHT = 1000.0
"""Signal to noise of stars whose spikes are looked for; saturated ones too."""
RAY_REACH, RAY_WIDTH = 300.0, 10.0
"""Pixels from a bright star, and degrees from the direction to it, within which a line of light is its spike."""
RIDGE, PATCH, SHARE = 1.8, 0.8, 0.35
"""Mean score on a line to both sides of a detection, or all round it, that is no noise (4 sigma each); and share
of the detection's own score above which the line is not a chance neighbour."""
BEYOND = 1.0
"""Mean score beyond both ends of a trail that is no noise; and a tenth of the trail's, for its length may err."""
ROW_TOLERANCE = 0.4
"""FWHM that a glint may be off its row; a pixel at least."""


def mark_streaks(difference: Difference) -> Difference:
    """The same with the mask plane STREAK on satellite streaks of either sign, and a note of each.

    A line that does not go from edge to edge and points at a bright star is that star's spike, and left alone.
    """
    fwhm = difference.quality.science_fwhm
    found = find_streaks(difference.score, fwhm)
    bright = bright_pixels(difference) if found else np.empty((0, 2))
    found = [streak for streak in found if not _spike(streak, bright, difference.image.shape, fwhm)]
    if not found:
        return difference
    mask = difference.mask.copy()
    for streak in found:
        mask[line_pixels(mask.shape, streak.x0, streak.y0, streak.x1, streak.y1, streak.reach)] |= bit("STREAK")
    return dataclasses.replace(difference, mask=mask, notes=(*difference.notes, *map(_told, found)))


def _told(streak: Streak) -> str:
    where = "template" if streak.light < 0 else "science"
    ends = f"({streak.x0:.0f}, {streak.y0:.0f}) to ({streak.x1:.0f}, {streak.y1:.0f})"
    return f"streak in {where} from x, y = {ends}, {2 * streak.reach:.0f} px wide, score {abs(streak.light):.1f}"


def _spike(streak: Streak, bright: np.ndarray, shape: tuple[int, ...], fwhm: float) -> bool:
    """Whether a line ends inside the image and meets a bright star."""
    height, width = shape
    edge = 4 * fwhm
    ends = ((streak.x0, streak.y0), (streak.x1, streak.y1))
    out = [not (edge < x < width - edge and edge < y < height - edge) for x, y in ends]
    if all(out) or len(bright) == 0:
        return False
    along = np.array([streak.x1 - streak.x0, streak.y1 - streak.y0]) / streak.length
    dx, dy = bright[:, 1] - streak.x0, bright[:, 0] - streak.y0
    across = np.abs(dy * along[0] - dx * along[1])
    place = dx * along[0] + dy * along[1]
    return bool(((across < fwhm) & (place > -RAY_REACH / 3) & (place < streak.length + RAY_REACH / 3)).any())


def bright_pixels(difference: Difference) -> np.ndarray:
    """(N, 2) y, x of the pixels that are saturated or above the peak of a star of 1000 sigma in the template."""
    psf, plain = difference.psf[4].astype(float), difference.matched_psf[4].astype(float)
    noise = np.sqrt(float(np.nanmedian(difference.variance[::7, ::7])) / (psf**2).sum())
    bright = difference.matched > BRIGHT * noise * plain.max()
    bright |= (difference.mask & bit("SAT", "SAT_TEMPLATE")) != 0
    return np.argwhere(bright)


def off_source(
    difference: Difference,
    y: np.ndarray,
    x: np.ndarray,
    middle: tuple[np.ndarray, np.ndarray],
    length: np.ndarray,
    angle: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """((N,) on a ray of a bright star, (N,) on another patch or line of light wider than the PSF), both bool.

    What the light beside a detection leaves of its score is below the threshold, or a third of it goes on to
    both sides along a line; for a trail (length > 0, at `angle`), the line goes on beyond both its ends.
    y, x : (N,) int, peaks of |score|; middle : (y, x) (N,) float, of the trails
    """
    size = np.abs(difference.score[y, x])
    fwhm = difference.quality.science_fwhm
    light = beside(difference.score, y, x, fwhm)
    line = (light.ridge > RIDGE) & ((size - light.ridge < threshold) | (light.ridge > SHARE * size))
    patch = (light.patch > PATCH) & (size - light.patch < threshold)
    trailed = length > 0
    patch |= trailed & (light.patch > np.maximum(PATCH, 0.1 * size))
    near = length / 2 + 1.5 * fwhm
    ends = (
        along(difference.score, *middle, angle, near, near + 2 * fwhm) * np.sign(difference.score[y, x])[:, None]
    )
    line = np.where(trailed, ends.min(1) > np.maximum(BEYOND, 0.1 * size), line)
    direction = np.where(trailed, angle, light.angle)
    ray = line.copy()
    if line.any():
        ray[line] = _points_at_star(bright_pixels(difference), y[line], x[line], direction[line])
    return ray, (line | patch) & ~ray


def _points_at_star(bright: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """(N,) bool: a bright pixel lies near, in the direction of the line."""
    out = np.zeros(len(y), bool)
    for n in range(len(y)):
        dy, dx = bright[:, 0] - y[n], bright[:, 1] - x[n]
        turned = (np.degrees(np.arctan2(dy, dx)) - angle[n] + 90) % 180 - 90
        out[n] = ((np.hypot(dy, dx) < RAY_REACH) & (np.abs(turned) < RAY_WIDTH)).any()
    return out


def glints(
    difference: Difference, y: np.ndarray, x: np.ndarray, long: np.ndarray, angle: np.ndarray
) -> np.ndarray:
    """(N,) bool: detections in a row at even distances, of one sign.

    y, x : (N,) float px; long : (N,) bool, longer than the PSF at `angle`: three of them make a row, where points
    need four or more
    """
    tolerance = max(1.0, ROW_TOLERANCE * difference.quality.science_fwhm)
    area = float(difference.image.size)
    member = rows_of_points(np.stack([y, x], 1), tolerance, area)
    some = np.nonzero(long)[0]
    member[some] |= rows_of_points(np.stack([y, x], 1)[some], tolerance, area, angle[some])
    return member
