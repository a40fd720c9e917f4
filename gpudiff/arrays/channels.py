"""Levels of a sensor's readout channels: stripes of columns between which the sky steps.

Each output of an infrared array, and each amplifier of a CCD, has a pedestal that its reference pixels or overscan
tell only so well.  Light has no edge that is one pixel sharp, on one column, along half the image.
"""

import numpy as np
from scipy import ndimage

BLOCKS, FEWEST = 16, 16
"""Blocks of rows in each half of an image, by whose median a step is told, as stars and galaxies are in some of
them; rows in one, at least."""
RUN = 8
"""Of them that are looked at first, side by side: they lie together in memory."""
LINE = 5
"""Columns a line of up to 2 is told from a step among."""
WIDE = 8
"""Columns on either side of a step whose means are compared: no channel is narrower than both."""
AROUND = 65
"""Columns round a step whose median difference is the slope of the sky: four times as many as a step touches.
Half as many at the edges know none."""
SURE = 6.0
"""Scatters of a step, as steps differ from column to column and from block to block."""
ALIKE = 4.0
"""Errors by which the step to the next column may differ from that between the means, which light's does, being as
wide as the PSF; and by which one half's from the other's, where it is one along both."""
UNEVEN = 2.5
"""Times the usual error that a step has which is not the same all along: rows in one quadrant and columns in the
next are levelled one after the other.  An error of 16 blocks is known to a quarter."""
MEDIAN = 1.2533
"""Error of a median over that of a mean."""
CLIP = 3.0
"""Sigmas from the median of some rows within which a pixel is in a block's mean; a star is a few of them."""
HOLED = 0.5
"""Share of pixels left out from which on a block does not know a column's level."""

Steps = tuple[np.ndarray, np.ndarray]
"""(W,) steps to each column from the one before it, and their errors."""


def channel_levels(image: np.ndarray, unusable: np.ndarray, noise: float) -> np.ndarray | None:
    """(2, W) float32, the levels of the columns in the upper and the lower half of an image, of mean 0 in each;
    None where there is no step.  Those of rows are the transposed image's.

    image : (H, W) float32, sky-subtracted; unusable : (H, W) bool; noise : of a sky pixel, image units
    256 pixels of each column are looked at, which show steps of a sigma; all, if there is one, which show some of
    a tenth of that in 2048 rows.
    """
    rows = len(image) // (2 * BLOCKS)
    if rows < FEWEST or image.shape[1] < AROUND or not _hinted(_runs(image, rows)):
        return None
    levels = _block_levels(image, unusable, rows, noise)
    halves = [_without_lines(half) for half in (levels[:BLOCKS], levels[BLOCKS:])]
    steps = _found([(_wide(half), _next(half)) for half in halves])
    if not steps.any():
        return None
    total = np.cumsum(steps, 1)
    return np.asarray(total - total.mean(1, keepdims=True), np.float32)


# ---------------------------------------------------------------- whether there may be one
def _runs(image: np.ndarray, rows: int) -> np.ndarray:
    """(2 BLOCKS, W) mean of RUN rows of each block."""
    mean = np.full(RUN, 1 / RUN, image.dtype)
    first = np.arange(2 * BLOCKS) * rows + (rows - RUN) // 2
    return np.stack([mean @ image[row : row + RUN] for row in first])


def _hinted(levels: np.ndarray) -> bool:
    """Whether the level steps from one column to the next, in either half or both, and stays for some."""
    steps = np.diff(levels, axis=1, prepend=levels[:, :1])
    most = CLIP * _scatter(steps[:: BLOCKS // 2])
    upper, lower = np.clip(steps, -most, most, out=steps).reshape(2, BLOCKS, -1).mean(1)
    for each in (upper, lower, 0.5 * (upper + lower)):
        stays = np.diff(ndimage.median_filter(np.cumsum(each), LINE))[AROUND // 2 : -AROUND // 2]
        if (np.abs(stays) > SURE * _scatter(each)).any():
            return True
    return False


def _scatter(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values)))


# ---------------------------------------------------------------- what they are
def _block_levels(image: np.ndarray, unusable: np.ndarray, rows: int, noise: float) -> np.ndarray:
    """(2 BLOCKS, W) mean of each column in each block, without stars; where too much is left out, that of the
    column before it."""
    levels = np.empty((2 * BLOCKS, image.shape[1]))
    column = np.arange(image.shape[1])
    for n, row in enumerate(range(0, 2 * BLOCKS * rows, rows)):
        block, flaws = np.ascontiguousarray(image[row : row + rows]), unusable[row : row + rows]
        middle = np.median(block[:: max(1, rows // (2 * RUN))], 0)
        off = block - middle
        left_out = flaws | (np.abs(off) > CLIP * noise)
        off[left_out] = 0
        lost = np.count_nonzero(left_out, 0)
        level = middle + off.sum(0) / np.maximum(rows - lost, 1)
        levels[n] = level[np.maximum.accumulate(np.where(lost < HOLED * rows, column, 0))]
    return levels


def _without_lines(levels: np.ndarray) -> np.ndarray:
    """(B, W) levels of blocks without columns that differ from those beside them, to both sides."""
    middle = np.median(levels, 0)
    off = middle - ndimage.median_filter(middle, LINE)
    return levels - np.where(np.abs(off) > SURE * _scatter(off), off, 0)


def _wide(levels: np.ndarray) -> Steps:
    """Steps between the means of WIDE columns on either side."""
    steps = np.zeros(levels.shape)
    means = np.lib.stride_tricks.sliding_window_view(levels, WIDE, 1).mean(-1)
    steps[:, WIDE : 1 - WIDE] = means[:, WIDE:] - means[:, :-WIDE]
    return _of_blocks(steps)


def _next(levels: np.ndarray) -> Steps:
    """Steps from each column to the next."""
    return _of_blocks(np.diff(levels, axis=1, prepend=levels[:, :1]))


def _of_blocks(steps: np.ndarray) -> Steps:
    """Median over the blocks, (B, W), the slope of the sky taken off, and its error, inf of uneven steps."""
    middle = np.median(steps, 0)
    each = MEDIAN * 1.4826 * np.median(np.abs(steps - middle), 0) / np.sqrt(len(steps))
    middle = middle - ndimage.median_filter(middle, AROUND)
    usual = _scatter(middle)
    return middle, np.where(each > UNEVEN * usual, np.inf, np.maximum(each, usual))


def _found(halves: list[tuple[Steps, Steps]]) -> np.ndarray:
    """(2, W) the steps of both halves that are sure, 0 elsewhere: none, unless one is sure from one column to the
    next.  halves : (wide, next) of each"""
    (upper, high), (lower, low) = (wide for wide, _ in halves)
    same = np.abs(upper - lower) < ALIKE * np.hypot(high, low)
    both = [_mean(*two) for two in zip(*halves, strict=True)]
    steps, sharpest = [], 0.0
    for half in halves:
        (wide, error), (sharp, blur) = (
            tuple(np.where(same, of_both, own) for of_both, own in zip(*pair, strict=True))
            for pair in zip(both, half, strict=True)
        )
        sure = np.where(np.abs(sharp - wide) < ALIKE * np.hypot(blur, error), np.abs(wide) / error, 0)
        sure[: AROUND // 2] = sure[-AROUND // 2 :] = 0
        size = np.abs(wide)
        found = (size == ndimage.maximum_filter1d(size, 2 * WIDE - 1)) & (sure > SURE)
        sharpest = max(sharpest, (np.abs(sharp) / blur)[found].max(initial=0))
        steps.append(np.where(found, wide, 0))
    return np.stack(steps) * (sharpest > SURE)


def _mean(one: Steps, other: Steps) -> Steps:
    return 0.5 * (one[0] + other[0]), 0.5 * np.hypot(one[1], other[1])
