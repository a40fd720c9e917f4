"""Points at even distances on a line: the flashes of one tumbling satellite in one exposure."""

import numpy as np
from scipy.spatial import cKDTree

CHANCE = 1e-3
"""Rows that random points may make in a frame."""
LEAST_STEP = 6.0
"""Tolerances that two neighbours in a row are apart at least."""
MOST = 12
"""Points of a row, at most, that are asked for: where chance makes longer ones none is believed."""
ALIGNED = 15.0
"""Degrees between a row and its members' own elongation."""


def rows_of_points(
    points: np.ndarray, tolerance: float, area: float, angle: np.ndarray | None = None
) -> np.ndarray:
    """(N,) bool: the point belongs to a row of neighbours at even distances, too long to be chance.

    A row is grown from two points, each next one expected where the last two and all before point to.  Rows of m
    points are kept where random points of the same number would make fewer than 1e-3 of them in a frame.
    points : (N, 2) float y, x, px; tolerance : px; area : of the frame, px^2
    angle : (N,) degrees from +x to +y, of points that are long themselves: then a row must lie along all of them
    """
    count = len(points)
    member = np.zeros(count, bool)
    if count < 3:
        return member
    reaches = 0.05 * np.sqrt(area) * 2.0 ** np.arange(4)
    least = np.array([_least(count, tolerance, area, reach, angle is not None) for reach in reaches])
    reaches = reaches[least <= MOST]  # the farther apart neighbours may be the more must they be
    if len(reaches) == 0:
        return member
    tree = cKDTree(points)
    pairs = _pairs(tree, points, tolerance, reaches[-1], angle)
    apart = np.hypot(*(points[pairs[:, 1]] - points[pairs[:, 0]]).T)
    for (first, second), enough in zip(pairs.tolist(), least[np.searchsorted(reaches[:-1], apart)], strict=True):
        row = _grown(tree, points, first, second, tolerance, angle)
        if len(row) >= enough:
            member[row] = True
    return member


def _least(count: int, tolerance: float, area: float, reach: float, aligned: bool) -> int:
    """Points of a row, neighbours at most `reach` px apart, that chance makes fewer than 1e-3 of in a frame."""
    turned = 2 * ALIGNED / 180 if aligned else 1.0
    pairs = 0.5 * count**2 * min(1.0, np.pi * reach**2 / area) * turned**2
    third = min(1.0, count * np.pi * tolerance**2 / area) * turned
    length = 2
    while pairs * third ** (length - 2) > CHANCE / 4 or length < 3:
        length += 1
        if length > MOST:
            break
    return length


def _pairs(
    tree: cKDTree, points: np.ndarray, tolerance: float, reach: float, angle: np.ndarray | None
) -> np.ndarray:
    """(M, 2) pairs that a third point follows, in either order."""
    pairs = tree.query_pairs(reach, output_type="ndarray")
    pairs = np.concatenate([pairs, pairs[:, ::-1]])
    step = points[pairs[:, 1]] - points[pairs[:, 0]]
    good = np.hypot(*step.T) > LEAST_STEP * tolerance
    if angle is not None:
        good &= _along(step, angle[pairs[:, 0]]) & _along(step, angle[pairs[:, 1]])
    pairs, step = pairs[good], step[good]
    if len(pairs) == 0:
        return pairs
    farthest = np.nextafter(tolerance, np.inf)  # a bound that is not reached itself, and spares most of the search
    followed = np.isfinite(tree.query(points[pairs[:, 1]] + step, distance_upper_bound=farthest)[0])
    return pairs[followed]


def _along(step: np.ndarray, angle: np.ndarray) -> np.ndarray:
    direction = np.degrees(np.arctan2(step[..., 0], step[..., 1]))
    return np.abs((direction - angle + 90) % 180 - 90) < ALIGNED


def _grown(
    tree: cKDTree, points: np.ndarray, first: int, second: int, tolerance: float, angle: np.ndarray | None
) -> list[int]:
    """Members of the row that starts with these two, in order."""
    row = [first, second]
    while True:
        step = (points[row[-1]] - points[first]) / (len(row) - 1)
        distance, n = tree.query(points[row[-1]] + step)
        if distance > tolerance or n in row or (angle is not None and not _along(step, angle[n])):
            return row
        row.append(int(n))
