"""Detections as a list: local extrema of the score above a threshold, each once."""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.stamps import stamps

APART = 4.5
"""Pixels, or FWHM if that is more, within which two extrema, of either sign, are one detection."""
SHADOW = 15.0
"""Pixels, or four FWHM, within which the wings of a bright detection make fainter extrema."""
SHADOW_SHARE = 0.02
BAND = 256
"""Rows that are looked through at a time: they stay in cache."""

Tops = tuple[np.ndarray, np.ndarray, np.ndarray]
"""(y, x, value) of pixels, (N,) each."""


def extrema(score: np.ndarray, threshold: float, fwhm: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) int64 of the detections, brightest first.

    A detection is a pixel whose |score| is at least `threshold` and the largest within 5 x 5; of those closer
    than 4.5 px (or one FWHM), and of those in the wings of one 50 times as significant, the brightest stands
    for all.
    Equal scores are ordered by (y, x), so the list is the same from run to run.
    score : (H, W) float32, no NaN
    """
    y, x = tops(score, threshold)
    return thinned(y, x, score[y, x], fwhm)


def tops(score: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) int64, row by row, of pixels whose |score| is at least `threshold` and the largest within 5 x 5."""
    y, x, values = beyond(score, threshold)
    top = np.abs(values) >= np.abs(stamps(score, y, x, 2)).max((1, 2), initial=0)
    return y[top], x[top]


def beyond(plane: np.ndarray, threshold: float) -> Tops:
    """(y, x) int64, row by row, of pixels whose |value| is at least `threshold`, and their values.

    plane : (H, W) float32, also on a device
    """
    if isinstance(plane, Afar):
        return plane.on_device(lambda launcher, there: beyond_cuda(launcher, there, threshold))[0]
    found = []
    for first in range(0, len(plane), BAND):
        band = plane[first : first + BAND]
        found.append(np.flatnonzero((band >= threshold) | (band <= -threshold)) + first * plane.shape[1])
    y, x = np.divmod(np.concatenate(found), plane.shape[1])
    return y, x, plane[y, x]


def thinned(y: np.ndarray, x: np.ndarray, score: np.ndarray, fwhm: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Of tops and their scores those that stand for all, brightest first; `extrema` says which."""
    if len(y) == 0:
        return y, x
    size = np.abs(score)
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


# ---------------------------------------------------------------- on a GPU
TILE = (8, 32)
"""Rows and columns of a block in the CUDA body."""


def tops_cuda(launcher: Launcher, scores: Any, threshold: float) -> list[Tops]:
    """`tops` of a batch on a GPU, and their scores: (y, x, score) of each image, row by row, on the host.

    scores : (B, H, W) float32, no NaN, on the device or the host
    """
    return _all_listed(launcher, scores, threshold, "tops")


def beyond_cuda(launcher: Launcher, planes: Any, threshold: float) -> list[Tops]:
    """`beyond` of a batch likewise."""
    return _all_listed(launcher, planes, threshold, "beyond")


def _all_listed(launcher: Launcher, planes: Any, threshold: float, kernel: str) -> list[Tops]:
    height, width = planes.shape[1:]
    planes = launcher.upload(planes, np.float32)
    capacity = max(256, height * width // 256)  # far more than a good image has; a bad one is run again
    found = _brought_down(launcher, listed_cuda(launcher, planes, threshold, capacity, kernel))
    if max(found[0]) > capacity:
        found = _brought_down(launcher, listed_cuda(launcher, planes, threshold, max(found[0]), kernel))
    return [in_order(*frame, width) for frame in zip(*found, strict=True)]


def _brought_down(launcher: Launcher, found: tuple[Any, Any, Any]) -> Tops:
    counts, places, values = (launcher.download(one) for one in found)
    return counts, places, values


def listed_cuda(
    launcher: Launcher, scores: Any, threshold: float, capacity: int, kernel: str = "tops"
) -> tuple[Any, Any, Any]:
    """On the device, counts (B,), and the first `capacity` pixel numbers and scores of each, (B, capacity).

    scores : (B, H, W) float32, no NaN, on the device; kernel : what is listed, `tops` or `beyond`
    """
    batch, height, width = scores.shape
    counts = launcher.zeros((batch,), np.int32)
    places = launcher.empty((batch, capacity), np.int32)
    values = launcher.empty((batch, capacity), np.float32)
    sizes = [np.int32(width), np.int32(height), np.float32(threshold), np.int32(capacity)]
    grid = (-(-width // TILE[1]), -(-height // TILE[0]), batch)
    block = (TILE[0] * TILE[1], 1, 1)
    launcher.launch("components", kernel, grid, block, [scores, counts, places, values, *sizes])
    return counts, places, values


def in_order(count: int, places: np.ndarray, values: np.ndarray, width: int) -> Tops:
    """(y, x, value) of the first `count` tops of one image, sorted by pixel number, that is by (y, x).

    places, values : (N,) pixel numbers and scores, N at least `count`
    """
    order = np.argsort(places[:count])
    y, x = np.divmod(places[:count][order].astype(np.int64), width)
    return y, x, values[:count][order]
