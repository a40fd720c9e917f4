"""Small squares round each pixel: means over them, and whether anything is in them."""

import numpy as np


def box_mean(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W) float32 mean of the side x side pixels round each; beyond the image its edge pixels are repeated.

    image : (H, W) float32, finite; side : odd.  As `scipy.ndimage.uniform_filter`, mode "nearest": a
    window is made of windows of 1, 2, 4 ... pixels, and each of those of two of half its size.
    """
    return _squares(_wider(image, side // 2), side) / np.float32(side**2)


def box_means(image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """`box_mean` of `side` and of three times `side`, which is made of nine squares of the smaller one."""
    height, width = image.shape
    small = _squares(_wider(image, side + side // 2), side)
    down = small[:height] + small[side : side + height] + small[2 * side :]
    large = down[:, :width] + down[:, side : side + width] + down[:, 2 * side :]
    return small[side:-side, side:-side] / np.float32(side**2), large / np.float32(9 * side**2)


def grown(flags: np.ndarray, reach: int) -> np.ndarray:
    """(..., H, W) bool: pixels within `reach` along both axes of one that is True.

    As `scipy.ndimage.maximum_filter` of 2 reach + 1, in a fifth of its time: a window is made of two of half its
    size, and all rows are one, in which what is moved beyond an edge ends in a rim.
    """
    height, width = flags.shape[-2:]
    out = np.zeros((*flags.shape[:-2], height + 2 * reach, width + 2 * reach), bool)
    out[..., :height, :width] = flags
    row = out.reshape(-1)
    for stride in (1, width + 2 * reach):
        size = 1
        while size <= 2 * reach:
            step = min(size, 2 * reach + 1 - size) * stride
            row[step:] |= row[:-step]
            size += step // stride
    return out[..., reach : reach + height, reach : reach + width]


def _wider(image: np.ndarray, rim: int) -> np.ndarray:
    """The image with its edge pixels repeated `rim` times."""
    height, width = image.shape
    out = np.empty((height + 2 * rim, width + 2 * rim), np.float32)
    rows, columns = slice(rim, rim + height), slice(rim, rim + width)
    out[rows, columns] = image
    out[:rim, columns], out[rows.stop :, columns] = image[0], image[-1]
    out[:, :rim], out[:, columns.stop :] = out[:, rim, None], out[:, columns.stop - 1, None]
    return out


def _squares(values: np.ndarray, side: int) -> np.ndarray:
    """(H - side + 1, W - side + 1) sums of side x side pixels."""
    return _sums(_sums(values, side).T, side).T


def _sums(values: np.ndarray, count: int) -> np.ndarray:
    """(N - count + 1, ...) sums of `count` rows on end, an odd number."""
    length, place, size = len(values) - count + 1, 1, 1
    total = values[:length]
    while 2 * size <= count:
        values = values[:-size] + values[size:]
        size *= 2
        if count & size:
            total = total + values[place : place + length]
            place += size
    return total
