"""Sky level and noise in the cells of a mesh."""

import numpy as np


def edges(pixels: int, cell: int) -> np.ndarray:
    """Borders of about `cell`-sized equal cells along an axis, first 0, last `pixels`."""
    return np.linspace(0, pixels, max(1, round(pixels / cell)) + 1).astype(int)


def clipped_mesh(
    image: np.ndarray, unusable: np.ndarray, cell: int, step: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """(level, sigma) of each cell: clipped mode estimate and the scatter below it; NaN for an empty cell.

    The mode is 2.5 median - 1.5 mean where the two agree, else the median (SExtractor, Bertin & Arnouts 1996);
    sigma is median minus the 15.87 % quantile, which sources cannot raise much.

    image : (H, W) float32; unusable : (H, W) bool; step : take every step-th row and column.
    """
    rows, columns = edges(image.shape[0], cell), edges(image.shape[1], cell)
    level = np.full((len(rows) - 1, len(columns) - 1), np.nan)
    sigma = level.copy()
    for j in range(level.shape[0]):
        band = slice(rows[j], rows[j + 1], step)
        for i in range(level.shape[1]):
            cut = (band, slice(columns[i] + (i + j) % step, columns[i + 1], step))
            values = image[cut][~unusable[cut]]
            if values.size >= 60:
                level[j, i], sigma[j, i] = _mode(np.sort(values))
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


def robust_surface(level: np.ndarray, order: int = 2) -> np.ndarray:
    """(GY, GX) low-order polynomial through a mesh, cells full of galaxy or without value left out.

    A sky mesh used as it is would take a galaxy for sky and add its own noise, correlated over a cell.
    """
    rows, columns = level.shape
    v, u = np.meshgrid(_centres(rows), _centres(columns), indexing="ij")
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
