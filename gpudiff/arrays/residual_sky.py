"""The smooth sky that is left in a difference: how fine a mesh it needs is decided by prediction."""

from collections.abc import Callable

import numpy as np

CELLS = 8
"""Cells along a side of a tile."""
SCALES = (4, 2, 1, 0)
"""Cells that are taken together along each axis, the smoothest first; 0: each cell as it is, no medians."""
FEWEST = 100
"""Pixels below which a mean is not used."""


def cell_sums(image: np.ndarray, use: np.ndarray) -> np.ndarray:
    """(2, 2, CELLS, CELLS) float64: of even and of odd rows, sum and number of the used pixels of each cell.

    image : (h, w) float32; use : (h, w) bool
    """
    out = np.zeros((2, 2, CELLS, CELLS))
    values = np.where(use, image, 0)
    columns = np.linspace(0, image.shape[1], CELLS + 1).astype(int)[:-1]
    for half in range(2):
        part = values[half::2], use[half::2]
        rows = np.linspace(0, len(part[0]), CELLS + 1).astype(int)[:-1]
        for kind, plane in enumerate(part):
            across = np.add.reduceat(plane.astype(np.float64), rows, 0)
            out[half, kind] = np.add.reduceat(across, columns, 1)
    return out


def level(sums: np.ndarray, together: int) -> np.ndarray:
    """(GY, GX) 3 x 3 medians of the means of together x together cells, gaps filled with their median.

    sums : (2, H, W) sum and number of pixels of each cell
    """
    medians, together = together > 0, max(together, 1)
    height, width = (side // together for side in sums.shape[1:])
    joined = sums[:, : height * together, : width * together]
    joined = joined.reshape(2, height, together, width, together).sum((2, 4))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(joined[1] >= FEWEST, joined[0] / joined[1], np.nan)
    known = np.isfinite(mean)
    mean[~known] = np.median(mean[known]) if known.any() else 0.0
    if not medians:
        return mean
    wide = np.pad(mean, 1, mode="edge")
    around = [wide[j : j + height, i : i + width] for j in range(3) for i in range(3)]
    return np.median(around, 0)


def choose(sums: np.ndarray, predict: Callable[[np.ndarray], np.ndarray]) -> int:
    """How many cells to take together: the mesh made of even rows that predicts the odd rows' cells best.

    sums : (2, 2, H, W) of all cells of the image; predict(grid) -> (H, W) the smooth plane at the cells' centres
    """
    even, odd = sums
    known = odd[1] > FEWEST / 4
    if not known.any():
        return SCALES[0]
    seen = odd[0][known] / odd[1][known]
    errors = []
    for together in SCALES:
        if min(even.shape[1:]) < together:
            errors.append(np.inf)
            continue
        ahead = predict(level(even, together))[known]
        errors.append(float((odd[1][known] * (seen - ahead) ** 2).sum()))
    return SCALES[int(np.argmin(errors))]
