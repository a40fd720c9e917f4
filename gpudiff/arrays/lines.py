"""Columns and rows of one pixel that are off by a constant from those beside them.

A sensor's warm columns, and those that charge was lost or left in.  They begin and end anywhere; stars, streaks
and spikes are as wide as the PSF and are none, nor is a step that stays, as between two amplifiers.
"""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.stamps import positions

SHORTEST = 128
"""Pixels of a line: of a shorter one too little is known."""
BLOCK, RUN = 128, 8
"""Pixels along a line of which RUN are looked at, side by side: they lie together in memory."""
MIDDLE = slice((BLOCK - RUN) // 2, (BLOCK + RUN) // 2)
"""Where they lie."""
DOUBLED = 2
"""Times that blocks are taken together by two: of long lines fainter ones show."""
SOME = 5000
"""Steps that tell the scatter of all: to 2 %."""
HINT = 5.0, 3.0
"""Scatters of the step to either side that a block has, or each of two in turn, before all pixels of a line are
looked at: noise alone has the latter once in some frames of 4096 px."""
SURE = 6.0
"""Those of the mean of all its pixels that make it a line."""
SHARP = 1 / 3
"""Share of that step by which pixels beside a line differ from the next.  Of a star of FWHM 1.8 px it is 2 / 3."""
CLIP = 4.0
"""Sigmas of a pixel up to which a step counts: a star on a line is a few of its pixels."""
GRID = 32
"""Pixels between the places at which a line may begin or end, before that is known to the pixel."""
BESIDE = 2
"""Pixels on either side of a line that are looked at."""
NOISY = 1.2
"""Scatter of its pixels, over that of those beside it, above which a level does not mend a line.  Of the shortest
it is known to 10 %."""


@dataclass(frozen=True)
class Line:
    """The usable pixels of a line.

    y, x : (N,) int, in order; is_row : False for a column
    level : image units, median of what they are off from the mean of the two beside each
    noisy : they scatter more, too, than those beside them
    """

    y: np.ndarray
    x: np.ndarray
    is_row: bool
    level: float
    noisy: bool


def find_lines(image: np.ndarray, unusable: np.ndarray, noise: float) -> list[Line]:
    """The lines of an image, each column or row once.

    image : (H, W) float32, sky-subtracted; unusable : (H, W) bool
    noise : of a sky pixel, image units; lines of 140 px are found from 4 of it, of 1100 px from 1
    A sixteenth of the pixels are looked at, once for columns and once for rows, and all near a line.
    """
    found = []
    for is_row, steps in (
        (False, _across_columns(image, CLIP * noise)),
        (True, _across_rows(image, CLIP * noise)),
    ):
        pixels, flaws = (image.T, unusable.T) if is_row else (image, unusable)
        for at in _hints(steps):
            line = _line(pixels, flaws, int(at), noise, is_row)
            if line is not None:
                found.append(line)
    return found


# ---------------------------------------------------------------- where one may be
def _across_columns(image: np.ndarray, most: float) -> np.ndarray:
    """(B, W - 1) mean step from each column to the next in a run of each block of rows, clipped at `most`."""
    blocks = len(image) // BLOCK
    runs = image[: blocks * BLOCK].reshape(blocks, BLOCK, image.shape[1])[:, MIDDLE]
    steps = runs[..., 1:] - runs[..., :-1]
    return np.asarray(np.clip(steps, -most, most, out=steps).mean(1))


def _across_rows(image: np.ndarray, most: float) -> np.ndarray:
    """(B, H - 1) the same of rows, in runs of each block of columns."""
    blocks = image.shape[1] // BLOCK
    runs = image[:, : blocks * BLOCK].reshape(len(image), blocks, BLOCK)[..., MIDDLE].copy()
    steps = runs[1:] - runs[:-1]
    means = np.clip(steps, -most, most, out=steps) @ np.full(RUN, 1 / RUN, steps.dtype)
    return np.ascontiguousarray(means.T)  # as it is looked through, in half the time


def _hints(steps: np.ndarray) -> np.ndarray:
    """(N,) places along an axis that stand out to both sides: in a block, in two in turn, or in two means of some.

    steps : (B, n - 1) from each place to the next
    """
    found = [_standing_out(steps, HINT[0], 1)]
    for _ in range(DOUBLED + 1):
        found.append(_standing_out(steps, HINT[1], 2))
        even = len(steps) // 2 * 2
        steps = 0.5 * (steps[:even:2] + steps[1:even:2])
    return np.unique(np.concatenate(found))


def _standing_out(steps: np.ndarray, scatters: float, turns: int) -> np.ndarray:
    """(N,) those that do so by `scatters` in so many blocks in turn, 1 or 2, and where the next steps are less."""
    if len(steps) < turns:
        return np.zeros(0, int)
    some = np.abs(steps.reshape(-1)[:: max(1, steps.size // SOME)])
    some = some[some > 0]  # not of what is empty, nor of the same few photons in a row
    if len(some) == 0:
        return np.zeros(0, int)
    least = scatters * 1.4826 * np.median(some)
    last = len(steps) - turns + 1
    signs = [one[:last] & one[turns - 1 :] for one in (steps > least, steps < -least)]
    places = [positions(one[:, 1:-2] & other[:, 2:-1]) for one, other in (signs, signs[::-1])]
    block, left = np.concatenate(places, 1)
    before, up, down, after = (
        np.abs(steps[block, left + n] + steps[block + turns - 1, left + n]) for n in range(2 * BESIDE)
    )
    return np.asarray(left[np.maximum(before, after) < np.minimum(up, down)] + BESIDE)


# ---------------------------------------------------------------- what it is
def _line(pixels: np.ndarray, flaws: np.ndarray, at: int, noise: float, is_row: bool) -> Line | None:
    """The line in column `at`, if one is there.  pixels, flaws : of rows, too, as columns"""
    beside = slice(at - BESIDE, at + BESIDE + 1)
    near, good = pixels[:, beside].astype(float), ~flaws[:, at - 1 : at + 2].any(1)
    off = near[:, BESIDE] - 0.5 * (near[:, BESIDE - 1] + near[:, BESIDE + 1])
    along = np.flatnonzero(good)[_part(np.clip(off[good], -CLIP * noise, CLIP * noise))]
    if len(along) < SHORTEST:
        return None
    steps = np.clip(np.diff(near[along], axis=1) * [1, 1, -1, -1], -CLIP * noise, CLIP * noise)
    mean, error = steps.mean(0), steps[:, ::3].std() / np.sqrt(len(along))  # 0 is the median of few photons' steps
    height = np.abs(mean[1:3]).min()
    if mean[1] * mean[2] < 0 or height < SURE * error or np.abs(mean[[0, 3]]).max() > SHARP * height + error:
        return None
    scatter = [robust_sigma(one) for one in near[along].T]
    others = np.full(len(along), at)
    y, x = (others, along) if is_row else (along, others)
    return Line(y, x, is_row, float(np.median(off[along])), bool(scatter[BESIDE] > NOISY * np.median(scatter)))


def _part(off: np.ndarray) -> slice:
    """The part of a line, (N,) that differs most surely from 0, to the pixel where it most likely ends."""
    total = np.concatenate([[0.0], np.cumsum(off)])
    ends = np.append(np.arange(0, len(off), GRID), len(off))
    length = np.maximum(ends - ends[:, None], 1)
    sums = (total[ends] - total[ends][:, None]) / np.sqrt(length)
    first, last = np.unravel_index(np.argmax(np.abs(np.triu(sums))), sums.shape)
    level = (total[ends[last]] - total[ends[first]]) / length[first, last]
    likely = np.concatenate([[0.0], np.cumsum(np.sign(level) * off - 0.5 * abs(level))])
    end = int(np.argmax(likely - np.minimum.accumulate(likely)))
    return slice(int(np.argmin(likely[: end + 1])), end)
