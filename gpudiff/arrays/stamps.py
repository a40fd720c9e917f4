"""Small squares cut out of an image, round whole-pixel positions."""

import numpy as np


def stamps(image: np.ndarray, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N, 2 half + 1, 2 half + 1) squares; beyond the image its edge pixels are repeated.

    image : (H, W); y, x : (N,) integers
    """
    offset = np.arange(-half, half + 1)
    rows = np.clip(y[:, None, None] + offset[:, None], 0, image.shape[0] - 1)
    columns = np.clip(x[:, None, None] + offset, 0, image.shape[1] - 1)
    return image[rows, columns]


def positions(flags: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the True pixels, row by row, as np.nonzero gives them in four times the time.

    flags : (H, W) bool
    """
    y, x = np.divmod(np.flatnonzero(flags), flags.shape[1])
    return y, x


def peaks(image: np.ndarray, threshold: float, block: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the brightest pixel of each block above `threshold` that is also a maximum within 3 px.

    At most one a block: made to pick stars quickly, not to be complete.  Positions within 4 px of the image's
    edge are left out.  image : (H, W) without NaN.
    """
    height, width = image.shape
    rows, columns = height // block, width // block
    if rows == 0 or columns == 0:
        return np.empty(0, int), np.empty(0, int)
    blocks = image[: rows * block, : columns * block].reshape(rows, block, columns, block)
    j, i = np.nonzero(blocks.max(1).max(2) > threshold)  # down the columns first, where pixels are neighbours
    best = blocks[j, :, i, :].reshape(len(j), block * block).argmax(1)
    y, x = j * block + best // block, i * block + best % block
    inside = (y > 3) & (y < height - 4) & (x > 3) & (x < width - 4)
    y, x = y[inside], x[inside]
    top = stamps(image, y, x, 3).reshape(len(y), -1).max(1) <= image[y, x] if len(y) else np.empty(0, bool)
    return y[top], x[top]
