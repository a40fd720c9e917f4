"""Unusable pixels that leave a gap, and those that lie alone among good ones, which tell what is there."""

import numpy as np

from gpudiff.arrays.stamps import stamps

CROWD = 4
"""Unusable pixels of 5 x 5 up to which one lies alone: a square of four does, a column, of which there are 5, does
not.  Of pixels that are bad at random, 3 % of all, more than 99 % lie alone."""
REACH = 2
"""Pixels from the middle of such a square to its edge."""
MANY = 1 << 18
"""Pixels whose squares are looked at together."""
BLOCK = 32
"""Side of the blocks by which it is told where there are none, pixels."""


def gaps(unusable: np.ndarray) -> np.ndarray:
    """(N, S - 4, S - 4) bool: unusable pixels of stamps that do not lie alone.  unusable : (N, S, S) bool"""
    out = unusable[:, REACH:-REACH, REACH:-REACH].copy()
    some = np.flatnonzero(out.any((1, 2)))
    across = _sums(unusable[some].view(np.uint8), 2)
    out[some] &= _sums(across, 1) > CROWD
    return out


def _sums(counts: np.ndarray, axis: int) -> np.ndarray:
    """Sums of 5 on end along an axis, which it shortens by 4."""
    parts = np.moveaxis(counts, axis, 0)
    total = parts[: -2 * REACH].copy()
    for n in range(1, 2 * REACH + 1):
        total += parts[n : n + len(total)]
    return np.moveaxis(total, 0, axis)


def alone(unusable: np.ndarray, flaws: np.ndarray) -> np.ndarray:
    """(n,) those of the unusable pixels (N,), by their numbers, that lie alone.  unusable : (H, W) bool"""
    width = unusable.shape[1]
    parts = np.array_split(flaws, 1 + len(flaws) // MANY)
    crowded = [gaps(stamps(unusable, *np.divmod(part, width), REACH))[:, 0, 0] for part in parts]
    return flaws[~np.concatenate(crowded)]


def maybe_near(pixels: np.ndarray, shape: tuple[int, ...], y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N,) bool: squares of `half` round whole-pixel positions that touch a block in which one of the pixels lies.

    No other square has one of them in it: few have to be looked at.  All, where there are more pixels than blocks.
    pixels : (n,) numbers, row by row, of an image of `shape`
    """
    blocks = [-(-side // BLOCK) for side in shape]
    if len(pixels) > blocks[0] * blocks[1]:
        return np.ones(len(y), bool)
    count = np.zeros((blocks[0] + 1, blocks[1] + 1), int)
    rows, columns = np.divmod(pixels, shape[1])
    count[rows // BLOCK + 1, columns // BLOCK + 1] = 1
    count = count.cumsum(0).cumsum(1)
    (top, bottom), (left, right) = (
        (np.clip((at - half) // BLOCK, 0, most - 1), np.clip((at + half) // BLOCK, 0, most - 1) + 1)
        for at, most in zip((y, x), blocks, strict=True)
    )
    return np.asarray(count[bottom, right] - count[top, right] - count[bottom, left] + count[top, left] > 0)
