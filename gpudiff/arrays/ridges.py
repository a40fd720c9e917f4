"""Light that goes on to both sides of a detection: a spike, a halo, a ghost, not a source."""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.rays import CORRELATED, MEDIAN, median_of_known, nearest

RADII = np.arange(2.0, 4.25, 0.5)
"""FWHM from a detection, where light beside it is no more its own."""
DIRECTIONS = 24


@dataclass(frozen=True)
class Beside:
    """Mean scores beside detections, 2 to 4 FWHM away, positive where they have the detection's sign; all (N,).

    ridge : in the direction where the fainter of the two sides is brightest; of noise alone about 0.6 +- 0.3
    angle : that direction, degrees from +x to +y
    patch : median over all directions; of noise alone 0 +- 0.2
    What has no value says nothing.  For a side of which less than half has one, as beyond the image, stands what
    the other side is 2 FWHM farther on; 0 where that has none either.
    """

    ridge: np.ndarray
    angle: np.ndarray
    patch: np.ndarray


def beside(score: np.ndarray, y: np.ndarray, x: np.ndarray, fwhm: float) -> Beside:
    """The light beside detections.

    score : (H, W) float32, 0 where there is no value and beyond the image; y, x : (N,) int, peaks of |score|
    """
    light = _around(score, y, x, fwhm)
    both = _mean_of_known(light)
    cut = np.flatnonzero((both == 0).any((1, 2)))
    farther = _mean_of_known(_around(score, y[cut], x[cut], fwhm, RADII[-1] - RADII[0]))[..., ::-1]
    both[cut] = np.where(both[cut] == 0, farther, both[cut])
    sides = both.min(-1)
    best = sides.argmax(1)
    patch = _median_of_known(light)
    return Beside(sides[np.arange(len(y)), best], 180 / DIRECTIONS * best, patch)


OWN = 1.5
"""FWHM from a trail's line within which light is its own."""


def patch_beside(score: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray, fwhm: float) -> np.ndarray:
    """(N,) `Beside.patch` of trails, whose own light is left out.  angle : (N,) degrees from +x to +y"""
    turned = np.radians(180 / DIRECTIONS * np.arange(DIRECTIONS) - angle[:, None])
    own = np.abs(np.sin(turned))[..., None] * RADII < OWN
    return _median_of_known(np.where(own[:, :, None], 0, _around(score, y, x, fwhm)))


def _median_of_known(light: np.ndarray) -> np.ndarray:
    """(N,) median of what has a value, is not 0, of `_around`; 0 of nothing."""
    return median_of_known(light.reshape(len(light), 2 * DIRECTIONS * len(RADII)))[1]


def _around(score: np.ndarray, y: np.ndarray, x: np.ndarray, fwhm: float, farther: float = 0.0) -> np.ndarray:
    """(N, DIRECTIONS, 2, RADII) score, in the sign of the detection, on both sides of it in all directions.

    farther : FWHM, beyond RADII
    """
    angle = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    step = np.concatenate([RADII + farther, -RADII - farther]) * fwhm
    rows = y[:, None, None] + np.sin(angle)[:, None] * step
    columns = x[:, None, None] + np.cos(angle)[:, None] * step
    light = _at(score, rows, columns) * np.sign(score[y, x])[:, None, None]
    return light.reshape(len(y), DIRECTIONS, 2, len(RADII))


def along(
    score: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray, near: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """(N, 2) mean score from `near` to `far` px away on either side of (y, x) in a direction, in five samples.

    angle : (N,) degrees from +x to +y; score as in `beside`; 0 for a side of which less than half has a value
    """
    return _mean_of_known(_at(score, *_sides(y, x, angle, near, far)))


def before_the_edge(
    score: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray, near: np.ndarray, far: np.ndarray
) -> np.ndarray:
    """(N, 2) the same as `along` of a side that leaves the image before `far`, and of what little it has there.

    NaN where that is nothing; 0 for a side that does not leave the image
    """
    rows, columns = _sides(y, x, angle, near, far)
    values = _at(score, rows, columns)
    inside = [
        (at[..., -1] >= 0) & (at[..., -1] < side) for at, side in zip((rows, columns), score.shape, strict=True)
    ]
    count = np.count_nonzero(values, -1)
    light = np.where(count > 0, values.sum(-1) / np.maximum(count, 1), np.nan)
    return np.where(inside[0] & inside[1], 0, light)


def _sides(
    y: np.ndarray, x: np.ndarray, angle: np.ndarray, near: np.ndarray, far: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(y, x), each (N, 2, 5), of the samples that `along` takes."""
    step = near[:, None] + (far - near)[:, None] * np.linspace(0, 1, 5)
    step = np.stack([step, -step], 1)
    radians = np.radians(angle)[:, None, None]
    return y[:, None, None] + np.sin(radians) * step, x[:, None, None] + np.cos(radians) * step


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """The mean over the last axis of what has a value, is not 0; 0 where that is less than half."""
    count = np.count_nonzero(values, -1)
    return np.where(2 * count < values.shape[-1], 0, values.sum(-1) / np.maximum(count, 1))


def _at(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The image's values at the nearest pixels, 0 beyond the middles of its outermost."""
    within = (y >= 0) & (y <= image.shape[0] - 1) & (x >= 0) & (x <= image.shape[1] - 1)
    row, column = (np.floor(np.where(within, at, 0) + 0.5).astype(int) for at in (y, x))
    return np.where(within, image[row, column], 0)


FLANK = np.arange(2.0, 3.6, 0.5)
"""FWHM from a trail's middle line, where light is no more its own."""


def flanks(
    score: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray, length: np.ndarray, fwhm: float
) -> tuple[np.ndarray, np.ndarray]:
    """((N,) the larger |median score| of the two sides of a trail, 2 to 3.5 FWHM from it, (N,) its error).

    y, x : (N,) its middle; angle : (N,) degrees from +x to +y; length, fwhm : px; score as in `beside`
    """
    radians = np.radians(angle)[:, None, None]
    step = 0.5 * length[:, None, None] * np.linspace(-1, 1, 41)
    out = np.zeros(len(y))
    for side in (1, -1):
        off = side * FLANK[:, None] * fwhm
        rows = y[:, None, None] + np.sin(radians) * step + np.cos(radians) * off
        columns = x[:, None, None] + np.cos(radians) * step - np.sin(radians) * off
        values = nearest(score, rows, columns).reshape(len(y), FLANK.size * step.shape[-1])
        out = np.maximum(out, np.abs(median_of_known(values)[1]))
    independent = np.maximum(length / (CORRELATED * fwhm), 1) * np.ptp(FLANK) / CORRELATED
    return out, MEDIAN / np.sqrt(independent)


ROUND = np.arange(2.0, 6.25, 0.5)
"""FWHM from a detection, where the scatter of the score round it is taken."""
CLIP, CLIPPED = 3.0, 0.995
"""A larger score counts as this; mean square of a unit normal that is clipped so."""
SECTOR, QUIETER = 8, 0.935
"""Directions on end, of 48, that a neighbour may fill, and the rms of noise alone without the loudest so many."""


def scatter_round(
    score: np.ndarray, y: np.ndarray, x: np.ndarray, angle: np.ndarray, length: np.ndarray, fwhm: float
) -> np.ndarray:
    """(N,) rms of the score round detections, 2 to 6 FWHM away: 1 +- 0.08 where there is nothing but noise.

    The sector of 60 degrees with the most is left out: one bright neighbour is no restless sky.
    y, x : (N,) middle; angle : (N,) degrees from +x to +y, and length : (N,) px, of trails, 0 for a point
    1 where less than a quarter of it has a value; score as in `beside`
    """
    turn = 2 * np.pi * np.arange(2 * DIRECTIONS) / (2 * DIRECTIONS)
    across = np.sin(turn)[:, None] * ROUND * fwhm
    along = np.cos(turn)[:, None] * (ROUND * fwhm + length[:, None, None] / 2)
    sin, cos = (of(np.radians(angle))[:, None, None] for of in (np.sin, np.cos))
    rows, columns = y[:, None, None] + sin * along + cos * across, x[:, None, None] + cos * along - sin * across
    values = nearest(score, rows, columns)
    weight = (values != 0) * ROUND  # as the pixels lie
    sums = np.stack([weight.sum(2), (weight * np.minimum(values**2, CLIP**2)).sum(2)])
    ends = np.concatenate([sums, sums[..., : SECTOR - 1]], 2).cumsum(2)
    sectors = ends[..., SECTOR - 1 :] - np.concatenate([0 * ends[..., :1], ends[..., :-SECTOR]], 2)
    known, square = sums.sum(2)[..., None] - sectors
    least = (square / np.maximum(known, 1)).min(1)
    return np.where(sums[0].sum(1) > 0.25 * turn.size * ROUND.sum(), np.sqrt(least / CLIPPED) / QUIETER, 1.0)
