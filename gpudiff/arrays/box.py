"""Means over small squares."""

import numpy as np


def box_mean(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W) float32 mean of the side x side pixels round each; beyond the image its edge pixels are repeated.

    image : (H, W) float32, finite; side : odd.  `scipy.ndimage.uniform_filter`, mode "nearest", in half its
    time: a window is made of windows of 1, 2, 4 ... pixels, and each of those of two of half its size.
    """
    half, (height, width) = side // 2, image.shape
    wide = np.empty((height + 2 * half, width + 2 * half), np.float32)
    rows, columns = slice(half, half + height), slice(half, half + width)
    wide[rows, columns] = image
    wide[:half, columns], wide[rows.stop :, columns] = image[0], image[-1]
    wide[:, :half], wide[:, columns.stop :] = wide[:, half, None], wide[:, columns.stop - 1, None]
    down = _sums(wide, side)
    total = _sums(down.T, side).T
    total /= np.float32(side**2)
    return total


def _sums(values: np.ndarray, count: int) -> np.ndarray:
    """(N - count + 1, ...) sums of `count` rows on end."""
    length, place, size = len(values) - count + 1, 0, 1
    total = np.zeros_like(values[:length])
    while True:
        if count & size:
            total += values[place : place + length]
            place += size
        if count < 2 * size:
            return total
        values = values[:-size] + values[size:]
        size *= 2
