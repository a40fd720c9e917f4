"""Sky level and noise in the cells of a mesh."""

from itertools import pairwise
from typing import Any

import numpy as np

from gpudiff.arrays.box import box_mean
from gpudiff.arrays.device import Launcher

FEWEST = 60
"""Values below which a cell counts as empty."""
SQUARE, ABOVE = 15, 3.0
"""Side of the squares whose mean tells sky from light where counts are few, pixels; sigmas of it beyond which it
is light: what noise has there is less than a hundredth of its scatter."""


def edges(pixels: int, cell: int) -> np.ndarray:
    """Borders of about `cell`-sized equal cells along an axis, first 0, last `pixels`."""
    return np.linspace(0, pixels, max(1, round(pixels / cell)) + 1).astype(int)


def clipped_mesh(
    image: np.ndarray, unusable: np.ndarray, cell: int, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(level, sigma) of each cell: clipped mode estimate and the scatter below it; NaN for an empty cell.

    The mode is 2.5 median - 1.5 mean where the two agree, else the median (SExtractor, Bertin & Arnouts 1996);
    sigma is median minus the 15.87 % quantile, which sources cannot raise much.

    image : (H, W) float32; unusable : (H, W) bool, NaN counts as such; step : take every step-th row and column.
    """
    rows, columns = edges(image.shape[0], cell), edges(image.shape[1], cell)
    level = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    sigma = level.copy()
    for j in range(level.shape[0]):
        band = slice(rows[j], rows[j + 1], step)
        for i in range(level.shape[1]):
            cut = (band, slice(columns[i] + (i + j) % step, columns[i + 1], step))
            ordered = np.sort(image[cut][~unusable[cut]])
            ordered = ordered[: np.searchsorted(ordered, np.nan)]
            if ordered.size >= FEWEST:
                level[j, i], sigma[j, i] = _mode(ordered)
    return level, sigma


def _mode(ordered: np.ndarray) -> tuple[float, float]:
    low, high = 0, ordered.size
    for _ in range(5):
        kept = ordered[low:high]
        median = float(kept[kept.size // 2])
        sigma = median - float(kept[int(0.1587 * kept.size)])
        if sigma <= 0:
            break
        low, high = np.searchsorted(ordered, [median - 3 * sigma, median + 2.5 * sigma])
    kept = ordered[low:high]
    mean = float(kept.mean(dtype=np.float64))
    median = float(kept[kept.size // 2])
    level = 2.5 * median - 1.5 * mean if abs(mean - median) < 0.3 * sigma else median
    return level, sigma


def counted_mesh(image: np.ndarray, unusable: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """As `clipped_mesh`, of so few counts that they are lopsided, or that a quantile is one of a few.

    Means of SQUARE x SQUARE pixels are many counts and tell where there is sky alone; of the pixels there mean and
    deviation within 5 sigma.
    """
    rows, columns = edges(image.shape[0], cell), edges(image.shape[1], cell)
    level = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    sigma = level.copy()
    seen = ~(unusable | np.isnan(image))
    total, share = (box_mean(np.asarray(one, np.float32), SQUARE) for one in (np.where(seen, image, 0), seen))
    means = np.divide(total, share, out=np.zeros_like(total), where=seen)
    for j, band in enumerate(pairwise(rows)):
        for i, across in enumerate(pairwise(columns)):
            cut = slice(*band), slice(*across)
            there = seen[cut]
            if np.count_nonzero(there) < FEWEST:
                continue
            mean = means[cut][there]
            middle, spread = _mode(np.sort(mean))
            kept, size = image[cut][there][mean <= middle + ABOVE * spread].astype(float), -1
            while kept.size != size:
                size = kept.size
                kept = kept[np.abs(kept - kept.mean()) <= 5 * kept.std()]
            level[j, i], sigma[j, i] = kept.mean(), kept.std()
    return level, sigma


def neighbours_mesh(image: np.ndarray, unusable: np.ndarray, cell: int) -> np.ndarray:
    """(GY, GX) noise of each cell by the difference of pixels from the next in a row; NaN for an empty cell.

    What is wide (nebulae, haloes, crowds) does not raise it; correlation lowers it.  Every fourth row is read.

    image, unusable : as `clipped_mesh`
    """
    rows, columns = edges(image.shape[0], cell), edges(image.shape[1], cell)
    noise = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    for j, i in np.ndindex(noise.shape):
        cut = slice(rows[j], rows[j + 1], 4), slice(columns[i], columns[i + 1])
        values = np.diff(image[cut])[~(unusable[cut][:, 1:] | unusable[cut][:, :-1])]
        if values.size >= FEWEST:
            noise[j, i] = robust_sigma(values) / np.sqrt(2)
    return noise


def step_of(values: np.ndarray) -> float:
    """The least distance between two unlike values; 0 where all are alike."""
    steps = np.diff(np.unique(values))
    return float(steps.min()) if steps.size else 0.0


def robust_surface(level: np.ndarray) -> np.ndarray:
    """(GY, GX) polynomial, quadratic at most, through a mesh, cells full of galaxy or without value left out.

    A sky mesh used as it is would take a galaxy for sky and add its own noise, correlated over a cell.
    """
    rows, columns = level.shape
    v, u = np.meshgrid(_centres(rows), _centres(columns), indexing="ij")
    order = 2
    while order and (order + 1) * (order + 2) > level.size:
        order -= 1
    design = np.stack([(u**i * v**j).ravel() for j in range(order + 1) for i in range(order + 1 - j)], 1)
    values = level.ravel()
    keep = np.isfinite(values)
    coefficients = np.zeros(design.shape[1])
    for _ in range(8):
        coefficients = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
        residual = values - design @ coefficients
        spread = max(robust_sigma(residual[keep]), 1e-9 * max(1.0, float(np.abs(values[keep]).max())))
        with np.errstate(invalid="ignore"):
            again = np.isfinite(values) & (residual < 2.5 * spread) & (residual > -4 * spread)
        if again.sum() < design.shape[1] + 1 or (again == keep).all():
            break
        keep = again
    return (design @ coefficients).reshape(level.shape)


def _centres(cells: int) -> np.ndarray:
    return (2 * np.arange(cells) + 1) / cells - 1


def robust_sigma(values: np.ndarray) -> float:
    """1.4826 times the median absolute deviation: the standard deviation of a normal sample; 0 if empty."""
    if values.size == 0:
        return 0.0
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


# ---------------------------------------------------------------- on a GPU
THREADS = 128
"""Of a block in the CUDA body, which has a cell."""


def sampled_rows(height: int, cell: int, step: int) -> np.ndarray:
    """(n,) the rows that `clipped_mesh` looks at."""
    return np.concatenate([np.arange(*band, step) for band in pairwise(edges(height, cell))])


def mesh_cuda(
    launcher: Launcher, images: Any, unusable: Any, cell: int, step: int = 1, height: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """`clipped_mesh` of a batch on a GPU: (level, sigma), (B, GY, GX) each, on the host.

    Medians, quantiles and what is clipped are the same; the mean is summed in another order of float64.
    images : (B, H, W) float32; unusable : (B, H, W) bool or uint8; both on the device or the host
    height : of the images where only their `sampled_rows` are given; 0: all rows are
    """
    batch, _, width = images.shape
    rows, columns, row_step = edges(height or images.shape[1], cell), edges(width, cell), step
    capacity = int(-(-np.diff(rows).max() // step) * -(-np.diff(columns).max() // step))
    if height:
        rows, row_step = np.cumsum([0, *(-(-np.diff(rows) // step))]), 1
    shape = batch, len(rows) - 1, len(columns) - 1
    level, sigma = launcher.empty(shape, np.float64), launcher.empty(shape, np.float64)
    arrays = [
        launcher.upload(images, np.float32),
        launcher.upload(unusable, np.uint8),
        launcher.upload(rows, np.int32),
        launcher.upload(columns, np.int32),
        launcher.empty((*shape, capacity), np.uint32),
    ]
    sizes = map(np.int32, (width, images.shape[1], row_step, step, capacity))
    launcher.launch("mesh", "clipped_mesh", shape[::-1], (THREADS, 1, 1), [*arrays, level, sigma, *sizes])
    return launcher.download(level), launcher.download(sigma)
