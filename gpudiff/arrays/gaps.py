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
