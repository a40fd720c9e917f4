"""Star candidates: bright maxima of an image, picked quickly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.stamps import squares

BLOCK = 16
"""Pixels along the side of the blocks that have one candidate each."""
REACH, EDGE = 3, 4
"""Pixels within which a candidate is the maximum, and from the image's edge within which there is none."""

Positions = tuple[np.ndarray, np.ndarray]


def peaks(image: np.ndarray, threshold: float, lost: np.ndarray | None = None) -> Positions:
    """(y, x) int64 of the brightest pixel of each 16 x 16 block above `threshold`, if it is a maximum within 3 px.

    At most one a block, in the order of the blocks: made to pick stars quickly, not to be complete.  Positions
    within 4 px of the image's edge are left out, and what is beyond the last whole block.
    image : (H, W) float32 without NaN; lost : (H, W) bool, where the image, which may be NaN there, counts as 0;
        both also on a device
    threshold : taken as float32
    """
    if isinstance(image, Afar):
        gone = lost.there if isinstance(lost, Afar) else None if lost is None else lost[None]
        return image.on_device(lambda launcher, there: peaks_cuda(launcher, there, [threshold], gone))[0]
    height, width = image.shape
    rows, columns = height // BLOCK, width // BLOCK
    if rows == 0 or columns == 0:
        return np.empty(0, int), np.empty(0, int)

    def seen(place: Any) -> np.ndarray:
        return image[place] if lost is None else np.where(lost[place], 0, image[place])

    def cut(top: np.ndarray, left: np.ndarray, side: int) -> np.ndarray:
        values = squares(image, top, left, side)
        return values if lost is None else np.where(squares(lost, top, left, side), 0, values)

    bands = (seen((slice(row * BLOCK, (row + 1) * BLOCK), slice(columns * BLOCK))) for row in range(rows))
    tops = np.array([band.max(0).reshape(columns, BLOCK).max(1) for band in bands])
    j, i = np.nonzero(tops > np.float32(threshold))
    best = cut(j * BLOCK, i * BLOCK, BLOCK).reshape(len(j), BLOCK * BLOCK).argmax(1)
    y, x = j * BLOCK + best // BLOCK, i * BLOCK + best % BLOCK
    inside = (y >= EDGE) & (y < height - EDGE) & (x >= EDGE) & (x < width - EDGE)
    y, x = y[inside], x[inside]
    top = cut(y - REACH, x - REACH, 2 * REACH + 1).max((1, 2)) <= image[y, x]
    return y[top], x[top]


# ---------------------------------------------------------------- on a GPU
WARPS = 8
"""Of a block of threads in the CUDA body, each with a block of pixels."""


def peaks_cuda(
    launcher: Launcher, images: Any, thresholds: Sequence[float], lost: Any | None = None
) -> list[Positions]:
    """`peaks` of a batch on a GPU, exactly: (y, x) of each image, on the host.

    images : (B, H, W) float32; lost : (B, H, W) bool or uint8, or None; both on the device or the host
    thresholds : (B,)
    """
    batch, height, width = images.shape
    rows, columns = height // BLOCK, width // BLOCK
    if rows == 0 or columns == 0:
        return [(np.empty(0, int), np.empty(0, int))] * batch
    found = launcher.empty((batch, rows, columns), np.int32)
    arrays = [
        launcher.upload(images, np.float32),
        launcher.upload(np.zeros(1) if lost is None else lost, np.uint8),
        launcher.upload(np.asarray(thresholds), np.float32),
        found,
    ]
    sizes = map(np.int32, (width, height, columns, lost is not None))
    launcher.launch("peaks", "peaks", (-(-columns // WARPS), rows, batch), (32 * WARPS, 1, 1), [*arrays, *sizes])
    tables = launcher.download(found).reshape(batch, -1)
    return [_positions(table, width) for table in tables]


def _positions(table: np.ndarray, width: int) -> Positions:
    y, x = np.divmod(table[table >= 0].astype(np.int64), width)
    return y, x
