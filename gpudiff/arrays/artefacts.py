"""Light that is in an image and not on the sky: streaks, spikes, halos, ghosts, hot pixels, uneven sky."""

import numpy as np
from scipy.ndimage import gaussian_filter


def add_streak(image: np.ndarray, x: float, y: float, angle_rad: float, peak: float, fwhm: float) -> None:
    """Add a straight line of light through (x, y) across the whole image, Gaussian in profile, in place.

    image : (H, W) float32; peak : image units, on the line; fwhm : px
    """
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    across = (rows - y) * np.cos(angle_rad) - (columns - x) * np.sin(angle_rad)
    image += (peak * np.exp(-4 * np.log(2) * (across / fwhm) ** 2)).astype(np.float32)


def add_spikes(image: np.ndarray, x: float, y: float, flux: float, angle_rad: float, fwhm: float) -> None:
    """Add the four diffraction spikes of a star, in place: of its flux 1e-4 / (1 + r / 20 px)^2 a pixel."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    dx, dy = columns - x, rows - y
    for turn in (angle_rad, angle_rad + np.pi / 2):
        along = dx * np.cos(turn) + dy * np.sin(turn)
        across = dy * np.cos(turn) - dx * np.sin(turn)
        profile = np.exp(-4 * np.log(2) * (across / fwhm) ** 2) / (1 + np.abs(along) / 20) ** 2
        image += (1e-4 * flux * profile).astype(np.float32)


def add_halo(image: np.ndarray, x: float, y: float, flux: float) -> None:
    """Add a star's halo, in place: 4e-6 / (1 + (r / 15 px)^2) of its flux a pixel, out to 150 px."""
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    squared = (columns - x) ** 2 + (rows - y) ** 2
    image += (4e-6 * flux / (1 + squared / 225) * (squared < 150**2)).astype(np.float32)


def add_ghost(image: np.ndarray, x: float, y: float, flux: float) -> None:
    """Add a reflection of a star, in place: a ring of 20 to 60 px radius, 3e-6 of its flux a pixel.

    image : (H, W) float32; x, y : px, its middle; flux : the star's, image units
    """
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    radius = np.hypot(columns - x, rows - y)
    image += (3e-6 * flux * ((radius > 20) & (radius < 60))).astype(np.float32)


def hot_pixels(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) float64: x, y (whole pixels, no two the same) and electrons, 200 to 20,000, of hot pixels."""
    height, width = shape
    y, x = np.divmod(rng.choice(height * width, count, replace=False), width)
    return np.stack([x, y, 200 * 100 ** rng.uniform(size=count)], -1).astype(float)


def rough_surface(shape: tuple[int, int], scale: float, rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32 of mean 0 and rms 1: a Gaussian random field smoothed by `scale` px (1 sigma)."""
    coarse = max(1, int(scale // 4))  # drawn on a coarser grid, where it is smooth already
    height, width = (-(-side // coarse) + 2 for side in shape)
    noise = gaussian_filter(rng.standard_normal((height, width)), scale / coarse, mode="wrap")
    y = np.arange(shape[0]) / coarse
    x = np.arange(shape[1]) / coarse
    field = _linear(_linear(noise, y).T, x).T
    return ((field - field.mean()) / field.std()).astype(np.float32)


def _linear(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Rows of `array` at fractional row numbers."""
    low = at.astype(int)
    share = (at - low)[:, None]
    return array[low] * (1 - share) + array[low + 1] * share
