"""What a CCD does to the light: noise, saturation with bleeding, bad columns, cosmic rays."""

import numpy as np


def add_noise(mean: np.ndarray, exposures: int, read_noise: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 electrons: the mean of so many exposures, photon and read noise added.

    mean : (H, W) float32 >= 0, electrons expected in one exposure
    read_noise : electrons, of one exposure
    """
    photons = rng.poisson(np.multiply(mean, exposures, dtype=np.float64))
    noise = rng.standard_normal(mean.shape, dtype=np.float32)
    noise *= np.float32(read_noise * np.sqrt(exposures))
    noise += photons
    noise /= np.float32(exposures)
    return noise


def bleed(image: np.ndarray, saturated: np.ndarray, level: float) -> np.ndarray:
    """(H, W) bool: the saturated pixels with their bleeds along the columns; `image` is set to `level` there.

    The charge of n saturated pixels in a column spreads over 0.4 n^1.3 more each way, at most 150.
    """
    out = saturated.copy()
    for column in np.flatnonzero(saturated.any(0)):
        rows = np.flatnonzero(saturated[:, column])
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            spread = int(min(0.4 * len(run) ** 1.3, 150))
            out[max(0, run[0] - spread) : run[-1] + 1 + spread, column] = True
    image[out] = level
    return out


def bad_columns(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool: `count` columns dead from somewhere to the top or the bottom of the sensor."""
    out = np.zeros(shape, bool)
    for _ in range(count):
        column, start = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
        rows = slice(start, None) if rng.integers(2) else slice(None, start)
        out[rows, column] = True
    return out


def add_cosmic_rays(image: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) float64: x, y of the middle and electrons of each ray; the rays are added to `image`.

    A ray is a straight track, exponential in length (mean 6 px), leaving 300 to 4000 electrons a pixel in
    pixels that the PSF does not blur.
    """
    height, width = image.shape
    out = np.zeros((count, 3))
    for n in range(count):
        length, angle = rng.exponential(6) + 1, rng.uniform(0, np.pi)
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        steps = np.arange(0, length, 0.5)
        columns = (x + (steps - length / 2) * np.cos(angle)).astype(int)
        rows = (y + (steps - length / 2) * np.sin(angle)).astype(int)
        charge = 0.5 * rng.uniform(300, 4000) * rng.uniform(0.3, 1, len(steps))
        on = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        np.add.at(image, (rows[on], columns[on]), charge[on])
        out[n] = x, y, charge[on].sum()
    return out
