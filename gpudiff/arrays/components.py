"""Detections as a list: local extrema of the score above a threshold, each once."""

import numpy as np
from scipy.spatial import cKDTree

from gpudiff.arrays.stamps import positions, stamps

APART = 4.5
"""Pixels, or FWHM if that is more, within which two extrema, of either sign, are one detection."""
SHADOW = 15.0
"""Pixels, or four FWHM, within which the wings of a bright detection make fainter extrema."""
SHADOW_SHARE = 0.02


def extrema(score: np.ndarray, threshold: float, fwhm: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) int64 of the detections, brightest first.

    A detection is a pixel whose |score| is at least `threshold` and the largest within 5 x 5; of those closer
    than 4.5 px (or one FWHM), and of those in the wings of one 50 times as significant, the brightest stands
    for all.
    Equal scores are ordered by (y, x), so the list is the same from run to run.
    score : (H, W) float32, no NaN
    """
    y, x = positions((score >= threshold) | (score <= -threshold))
    if len(y) == 0:
        return y, x
    top = np.abs(score[y, x]) >= np.abs(stamps(score, y, x, 2)).reshape(len(y), -1).max(1)
    y, x = y[top], x[top]
    size = np.abs(score[y, x])
    order = np.lexsort((x, y, -size))
    y, x, size = y[order], x[order], size[order]
    return _thin(y, x, size, max(APART, fwhm), max(SHADOW, 4 * fwhm))


def _thin(
    y: np.ndarray, x: np.ndarray, size: np.ndarray, apart: float, shadow: float
) -> tuple[np.ndarray, np.ndarray]:
    points = np.stack([y, x], 1).astype(float)
    pairs = cKDTree(points).query_pairs(shadow, output_type="ndarray")
    keep = np.ones(len(y), bool)
    if len(pairs):
        bright, faint = pairs.min(1), pairs.max(1)
        distance = np.hypot(*(points[bright] - points[faint]).T)
        covers = (distance < apart) | (size[faint] < SHADOW_SHARE * size[bright])
        order = np.lexsort((faint, bright))
        for first, second in zip(bright[order[covers[order]]], faint[order[covers[order]]], strict=True):
            if keep[first]:
                keep[second] = False
    return y[keep], x[keep]
