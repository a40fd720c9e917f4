"""Light that is not of the sky, on the difference: satellite streaks, rows of glints."""

import dataclasses

import numpy as np

from gpudiff.arrays.glints import rows_of_points
from gpudiff.arrays.streak_shape import Streak, line_pixels
from gpudiff.arrays.streaks import find_streaks
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.science.spikes import BrightStars, bright_stars

RAY_REACH = 100.0
"""Pixels beyond a line's ends where a star may lie whose spike it is."""
ROW_TOLERANCE = 0.4
"""FWHM that a glint may be off its row; a pixel at least."""


def mark_streaks(difference: Difference, threads: int = 0) -> Difference:
    """The same with the mask plane STREAK on satellite streaks of either sign, and a note of each.

    A line that does not go from edge to edge and points at a bright star is that star's spike, and left alone.
    """
    fwhm = difference.quality.science_fwhm
    found = find_streaks(difference.score, fwhm, threads)
    if found:
        stars = bright_stars(difference)
        found = [streak for streak in found if not _spike(streak, stars, difference.image.shape, fwhm)]
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


def _spike(streak: Streak, stars: BrightStars, shape: tuple[int, ...], fwhm: float) -> bool:
    """Whether a line ends inside the image and meets a bright star."""
    height, width = shape
    edge = 4 * fwhm
    ends = ((streak.x0, streak.y0), (streak.x1, streak.y1))
    if all(not (edge < x < width - edge and edge < y < height - edge) for x, y in ends):
        return False
    along = np.array([streak.x1 - streak.x0, streak.y1 - streak.y0]) / streak.length
    dx, dy = stars.x - streak.x0, stars.y - streak.y0
    across = np.abs(dy * along[0] - dx * along[1])
    place = dx * along[0] + dy * along[1]
    near = (place > -RAY_REACH) & (place < streak.length + RAY_REACH)
    return bool(((across < fwhm + stars.core) & near).any())


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
