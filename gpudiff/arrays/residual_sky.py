"""The smooth sky that is left in a difference, as fine as its cells show by predicting one another.

A quadratic surface is fitted round each cell to the cells near it, with Gaussian weights; how near is decided by
how well each cell is predicted by all others (local regression and its cross-validation: Fan & Gijbels, Local
Polynomial Modelling and Its Applications, 1996, sections 3.2 and 4.10).
"""

from functools import cache

import numpy as np
from scipy.ndimage import median_filter

from gpudiff.arrays.parallel import over

CELLS = 16
"""Cells along a side of a tile."""
SCALES = (*((n, width) for n in (16, 8, 4, 2, 1) for width in (2.8, 2.2, 1.8)), (1, 1.4), (1, 1.1))
"""Cells that are taken together along each axis, and of these the width (1 sigma) of the Gaussian weight; the
smoothest first."""
FEWEST, LEAST = 4, 100
"""Cells along a side, and pixels of the fullest cell, below which nothing is fitted: no cell may be a source."""
JUDGED = 48
"""Cells along a side, at most, that are predicted."""
WILD = 5.0
"""Sigmas from the median of the 3 x 3 cells round it that a cell is not believed."""
POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
"""Of y and x in a quadratic surface."""


def cell_sums(image: np.ndarray, use: np.ndarray) -> np.ndarray:
    """(2, CELLS, CELLS) float32: sum and number of the used pixels of each cell.

    image : (h, w) float32; use : (h, w) bool
    """
    rows, columns = (_members(side) for side in image.shape)
    planes = np.where(use, image, np.float32(0)), use.astype(np.float32)
    return np.stack([rows @ plane @ columns.T for plane in planes])


@cache
def _members(pixels: int) -> np.ndarray:
    """(CELLS, pixels) float32: 1 where a pixel belongs to a cell."""
    return (np.arange(pixels) * CELLS // pixels == np.arange(CELLS)[:, None]).astype(np.float32)


def residual_sky(sums: np.ndarray, threads: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """(sky, own), both (GY, GX) float64, at the centres of GY x GX equal cells.

    sky : (1, 1), its median, where nothing is predicted; own : share of a cell's mean in its sky, 0 without one
    sums : (2, H, W) sum and number of the pixels of each cell of the image; H and W multiples of CELLS
    """
    sums = sums.astype(float)
    known = sums[1] > 0
    if not known.any():
        return np.zeros((1, 1)), np.zeros((1, 1))
    middle = float(np.median(sums[0][known] / sums[1][known]))
    sums[0] -= middle * sums[1]
    sums[:, _wild(sums)] = 0
    tried = [(_joined(sums, together), width) for together, width in SCALES]
    tried = [one for one in tried if min(one[0].shape[1:]) >= FEWEST and one[0][1].max() >= LEAST]
    most, chosen = 0.0, None
    for one, explained in zip(tried, over(lambda one: _explained(*one), tried, threads), strict=True):
        if explained > most:
            most, chosen = explained, one
    if chosen is None:
        return np.full((1, 1), middle), np.zeros((1, 1))
    sky, own = _fitted(*chosen, *(np.arange(side) for side in chosen[0].shape[1:]))
    return middle + sky, own


def _wild(sums: np.ndarray) -> np.ndarray:
    """(H, W) bool: cells that differ from those round them by more than the noise of cells does."""
    mean = sums[0] / np.maximum(sums[1], 1)
    off = np.abs(mean - median_filter(mean, 3, mode="nearest")) * np.sqrt(sums[1])
    return off > WILD * 1.4826 * np.median(off[sums[1] > 0])


def _joined(sums: np.ndarray, together: int) -> np.ndarray:
    height, width = (side // together for side in sums.shape[1:])
    return sums.reshape(2, height, together, width, together).sum((2, 4))


def _explained(sums: np.ndarray, width: float) -> float:
    """The sum of squares, over pixels, that is gone when each cell is predicted by the others.

    Of the cells that are judged its share, times the sum of all (the ratio estimator: Cochran 1977, Sampling
    Techniques, chapter 6): how much sky lies on them by chance says nothing.
    """
    rows, columns = (np.arange(0, side, -(-side // JUDGED)) for side in sums.shape[1:])
    number = sums[1][np.ix_(rows, columns)]
    mean = sums[0][np.ix_(rows, columns)] / np.maximum(number, 1)
    fitted, own = _fitted(sums, width, rows, columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.where((number > 0) & (own < 0.99), (mean - fitted) / (1 - own), mean)
    squares = float((number * mean**2).sum())
    gone = 1 - float((number * left**2).sum()) / squares if squares else 0.0
    return gone * float((sums[0] ** 2 / np.maximum(sums[1], 1)).sum())


def _fitted(
    sums: np.ndarray, width: float, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(sky at the given rows and columns of cells, share of that which is the cell's own), both (R, C)."""
    down, across = (_weights(side, at, width) for side, at in zip(sums.shape[1:], (rows, columns), strict=True))
    moments = _moments(sums[1], down, across)
    normal = np.array([[moments[p + r, q + s] for r, s in POWERS] for p, q in POWERS]).transpose(2, 3, 0, 1)
    right, levels = np.zeros((*normal.shape[:3], 2)), _moments(sums[0], down[:3], across[:3])
    right[..., 0] = np.moveaxis(np.array([levels[p, q] for p, q in POWERS]), 0, -1)
    right[..., 0, 1] = 1
    stiff = 1e-4 * sums[1].mean()  # where too few cells are near, the surface is flat, and at last zero
    solved = np.linalg.solve(normal + stiff * np.eye(len(POWERS)), right)[..., 0, :]
    return solved[..., 0], solved[..., 1] * sums[1][np.ix_(rows, columns)]


def _moments(cells: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
    """(P, Q, R, C) sums of the cells (H, W) under the weights (P, R, H) and (Q, C, W) of each row and column."""
    rows = down.reshape(-1, down.shape[2]) @ cells
    return (
        (rows @ across.reshape(-1, across.shape[2]).T).reshape(*down.shape[:2], *across.shape[:2]).swapaxes(1, 2)
    )


def _weights(side: int, at: np.ndarray, width: float) -> np.ndarray:
    """(5, R, side): Gaussian weights of all cells round those at `at`, times the powers of their distance."""
    distance = (np.arange(side) - at[:, None]) / width
    powers = np.ones((5, *distance.shape))
    powers[1:] = distance
    return np.exp(-0.5 * distance**2) * powers.cumprod(0)  # pow takes three times as long
