"""Small squares cut out of an image, round whole-pixel positions."""

from typing import Any

import numpy as np
import scipy.fft


def stamps(image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N, 2 half + 1, 2 half + 1) squares; beyond the image its edge pixels are repeated.

    image : (H, W); y, x : (N,) integers
    """
    rows, columns = _square(y, x, np.arange(-half, half + 1))
    return image[np.clip(rows, 0, image.shape[0] - 1), np.clip(columns, 0, image.shape[1] - 1)]


def inside(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N, S, S) bool: pixels of the squares that lie on an image of `shape`."""
    rows, columns = _square(y, x, np.arange(-half, half + 1))
    return (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])


def positions(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the True pixels, row by row, as np.nonzero gives them in four times the time.

    flags : (H, W) bool
    """
    y, x = np.divmod(np.flatnonzero(flags), flags.shape[1])
    return y, x


def peaks(
    image: np.ndarray, threshold: float, block: int = 16, known: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the brightest pixel of each block above `threshold` that is also a maximum within 3 px.

    At most one a block: made to pick stars quickly, not to be complete.  Positions within 4 px of the image's
    edge are left out.  image : (H, W) without NaN; known : (H, W) bool, where False the image counts as 0
    """
    height, width = image.shape
    rows, columns = height // block, width // block
    if rows == 0 or columns == 0:
        return np.empty(0, int), np.empty(0, int)

    def seen(place: Any) -> np.ndarray:
        return image[place] if known is None else np.where(known[place], image[place], 0)

    bands = (seen((slice(row * block, (row + 1) * block), slice(columns * block))) for row in range(rows))
    tops = np.array([band.max(0).reshape(columns, block).max(1) for band in bands])
    j, i = np.nonzero(tops > threshold)
    best = seen(_square(j * block, i * block, np.arange(block))).reshape(len(j), block * block).argmax(1)
    y, x = j * block + best // block, i * block + best % block
    inside = (y > 3) & (y < height - 4) & (x > 3) & (x < width - 4)
    y, x = y[inside], x[inside]
    top = seen(_square(y, x, np.arange(-3, 4))).max((1, 2)) <= image[y, x]
    return y[top], x[top]


def convolved(stamps: np.ndarray, kernels: np.ndarray, size: int) -> np.ndarray:
    """(N, size * size) float32: every stamp convolved with a kernel of its own.

    stamps : (N, S, S) with S = size + K - 1; kernels : (N, K, K)
    """
    reach = kernels.shape[1] - 1
    side = scipy.fft.next_fast_len(stamps.shape[1], real=True)  # wraps only into pixels that are cut off
    product = scipy.fft.rfft2(stamps, (side, side)) * scipy.fft.rfft2(kernels.astype(np.float32), (side, side))
    valid = slice(reach, reach + size)
    return scipy.fft.irfft2(product, (side, side))[:, valid, valid].reshape(len(stamps), -1)


def _square(y: np.ndarray, x: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The indices of (N, S, S) pixels at the given offsets along both axes."""
    return y[:, None, None] + offset[:, None], x[:, None, None] + offset
