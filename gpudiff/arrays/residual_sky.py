"""The smooth sky that is left in a difference, as fine as its cells show by predicting one another.

A quadratic surface is fitted round each cell to the cells near it, with Gaussian weights; how near is decided by
how well each cell is predicted by all others (local regression and its cross-validation: Fan & Gijbels, Local
Polynomial Modelling and Its Applications, 1996, sections 3.2 and 4.10).
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache, partial

import numpy as np

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over
from gpudiff.arrays.positive import solve_last

CELLS = 16
"""Cells along a side of a tile."""
SCALES = (*((n, width) for n in (16, 8, 4, 2, 1) for width in (2.8, 2.2, 1.8)), (1, 1.4), (1, 1.1))
"""Cells that are taken together along each axis, powers of 2 up to CELLS, and of these the width (1 sigma) of the
Gaussian weight; the smoothest first."""
FEWEST, LEAST = 4, 100
"""Cells along a side, and pixels of the fullest cell, below which nothing is fitted: no cell may be a source."""
JUDGED = 48
"""Cells along a side, at most, that are predicted."""
WILD = 5.0
"""Sigmas from the median of the 3 x 3 cells round it that a cell is not believed."""
FAR = 9.0
"""Widths from which on a Gaussian weight, times its distance's fourth power, is nothing to float64."""
TOGETHER = 4096
"""Cells whose surfaces are fitted at a time: they stay in cache."""
POWERS = ((0, 2), (1, 1), (2, 0), (0, 1), (1, 0), (0, 0))
"""Of y and x in a quadratic surface; last its value in the middle."""

STIFF = 1e-4
"""Of a cell's mean number of pixels: where too few cells are near, the surface is flat, and at last zero."""

Near = tuple[slice, slice, np.ndarray]
Job = tuple[np.ndarray, float, int, int]
"""(2, H, W) sums and numbers of cells, width of their weights, steps between rows and columns that are fitted."""
Surface = tuple[np.ndarray, np.ndarray]


def cell_sums(image: np.ndarray, use: np.ndarray) -> np.ndarray:
    """(2, CELLS, CELLS) float32: sum and number of the used pixels of each cell.

    image : (h, w) float32; use : (h, w) bool
    """
    rows, columns = (_members(side) for side in image.shape)
    planes = np.where(use, image, np.float32(0)), use.astype(np.float32)
    return np.stack([rows @ plane @ columns.T for plane in planes])


@cache
def _members(pixels: int) -> np.ndarray:
    """(CELLS, pixels) float32: 1 where a pixel belongs to a cell."""
    return (np.arange(pixels) * CELLS // pixels == np.arange(CELLS)[:, None]).astype(np.float32)


def residual_sky(
    sums: np.ndarray,
    threads: int = 1,
    finest: float = 0.0,
    surfaces: Callable[[list[Job]], Sequence[Surface]] | None = None,
) -> Surface:
    """(sky, own), both (GY, GX) float64, at the centres of GY x GX equal cells.

    sky : (1, 1), its median, where nothing is predicted; own : share of a cell's mean in its sky, 0 without one
    sums : (2, H, W) sum and number of the pixels of each cell of the image; H and W multiples of CELLS
    finest : cells, least width (1 sigma) of the weights: what follows less follows sources
    surfaces : `fitted` of each job, on whatever device
    """
    surfaces = surfaces or partial(over, lambda job: fitted(*job), threads=threads)
    sums = sums.astype(float)
    known = sums[1] > 0
    if not known.any():
        return np.zeros((1, 1)), np.zeros((1, 1))
    middle = float(np.median(sums[0][known] / sums[1][known]))
    sums[0] -= middle * sums[1]
    sums[:, _wild(sums)] = 0
    joined = _joined(sums)
    tried = [(joined[together], width) for together, width in SCALES if together * width >= finest]
    tried = [one for one in tried if min(one[0].shape[1:]) >= FEWEST and one[0][1].max() >= LEAST]
    jobs: list[Job] = [(cells, width, *(-(-side // JUDGED) for side in cells.shape[1:])) for cells, width in tried]
    most, chosen = 0.0, None
    for job, surface in zip(jobs, surfaces(jobs), strict=True):
        explained = _explained(job, surface)
        if explained > most:
            most, chosen = explained, job
    if chosen is None:
        return np.full((1, 1), middle), np.zeros((1, 1))
    [(sky, own)] = surfaces([(*chosen[:2], 1, 1)])
    return middle + sky, own


def _wild(sums: np.ndarray) -> np.ndarray:
    """(H, W) bool: cells that differ from those round them by more than the noise of cells does."""
    mean = sums[0] / np.maximum(sums[1], 1)
    off = np.abs(mean - _median_round(mean)) * np.sqrt(sums[1])
    return off > WILD * 1.4826 * np.median(off[sums[1] > 0])


def _median_round(plane: np.ndarray) -> np.ndarray:
    """(H, W) median of the 3 x 3 round each, edges repeated, in a tenth of the time of scipy's: of the sorted
    columns the middle one of the highest low, the median middle and the lowest high."""
    height, width = plane.shape
    wide = np.pad(plane, 1, "edge")
    low, middle, high = _sorted_three(*(wide[n : n + height] for n in range(3)))
    lows, middles, highs = ([one[:, n : n + width] for n in range(3)] for one in (low, middle, high))
    highest, lowest = np.maximum.reduce(lows), np.minimum.reduce(highs)
    return _sorted_three(highest, _sorted_three(*middles)[1], lowest)[1]


def _sorted_three(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(least, middle, greatest) of three arrays."""
    less, more = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(less, c), np.maximum(less, np.minimum(more, c)), np.maximum(more, c)


def _joined(sums: np.ndarray) -> dict[int, np.ndarray]:
    """The sums of cells taken together, by how many along each axis."""
    joined = {1: sums}
    for together in sorted({n for n, _ in SCALES} - {1}):
        rows = joined[together // 2][:, ::2] + joined[together // 2][:, 1::2]
        joined[together] = rows[..., ::2] + rows[..., 1::2]
    return joined


def _explained(job: Job, surface: Surface) -> float:
    """The sum of squares, over pixels, that is gone when each cell is predicted by the others.

    surface : `fitted` of the job
    Of the cells that are judged its share, times the sum of all (the ratio estimator: Cochran 1977, Sampling
    Techniques, chapter 6): how much sky lies on them by chance says nothing.
    """
    (sums, _, down, across), (sky, own) = job, surface
    number = sums[1][::down, ::across]
    mean = sums[0][::down, ::across] / np.maximum(number, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.where((number > 0) & (own < 0.99), (mean - sky) / (1 - own), mean)
    squares = float((number * mean**2).sum())
    gone = 1 - float((number * left**2).sum()) / squares if squares else 0.0
    return gone * float((sums[0] ** 2 / np.maximum(sums[1], 1)).sum())


def fitted(sums: np.ndarray, width: float, step_y: int, step_x: int) -> Surface:
    """(sky in every `step`-th row and column of cells, share of that which is the cell's own), both (R, C).

    sums : (2, H, W) sum and number of the pixels of each cell; width : of the weights (1 sigma), cells
    """
    down, across = _weights(sums.shape[1], step_y, width), _weights(sums.shape[2], step_x, width)
    moments, levels = _moments(sums[1], down, across, 5), _moments(sums[0], down, across, 3)
    stiff = STIFF * sums[1].mean()
    sky, own = np.empty((2, *moments.shape[2:]))
    block = max(1, TOGETHER // sky.shape[1])
    for first in range(0, len(sky), block):
        rows = slice(first, first + block)
        sky[rows], own[rows] = _in_the_middle(moments[:, :, rows], levels[:, :, rows], stiff)
    return sky, own * sums[1][::step_y, ::step_x]


def _in_the_middle(moments: np.ndarray, levels: np.ndarray, stiff: float) -> tuple[np.ndarray, np.ndarray]:
    """(value of the surface in the middle of each cell, what it changes by for a unit more of the cell's sum)."""
    rows = []
    for n, (p, q) in enumerate(POWERS):
        rows.append(np.array([*(moments[p + r, q + s] for r, s in POWERS[n:]), levels[p, q]]))
        rows[-1][0] += stiff
    return solve_last(rows)


def _moments(cells: np.ndarray, down: list[Near], across: list[Near], powers: int) -> np.ndarray:
    """(P, P, R, C) sums of the cells (H, W) under the weights of each row and column, powers 0 to P - 1 of each.

    Unless their powers together are less than P there is nothing.
    """
    rows = np.empty((powers, down[-1][0].stop, cells.shape[1]))
    for out, near, weights in down:
        rows[:, out] = (_flat(weights[:powers]) @ cells[near]).reshape(powers, -1, rows.shape[2])
    made = np.empty((powers, powers, rows.shape[1], across[-1][0].stop))
    for out, near, weights in across:
        for power, row in enumerate(rows):
            sums = row[:, near] @ _flat(weights[: powers - power]).T
            made[power, : powers - power, :, out] = sums.reshape(len(row), -1, out.stop - out.start).swapaxes(0, 1)
    return made


def _flat(stack: np.ndarray) -> np.ndarray:
    return stack.reshape(-1, stack.shape[-1])


@lru_cache(64)
def _weights(side: int, step: int, width: float) -> list[Near]:
    """The Gaussian weights of the cells round each `step`-th, times the powers of their distance, 0 to 4.

    (slice of these, slice of the cells near them, (5, R, N) the weights), a block of neighbours at a time: farther
    cells weigh nothing.
    """
    far = int(np.ceil(FAR * width))
    middle = np.arange(0, side, step)
    block = max(1, -(-2 * far // step))
    made = []
    for first in range(0, len(middle), block):
        some = slice(first, min(first + block, len(middle)))
        near = slice(max(0, middle[some][0] - far), min(side, middle[some][-1] + far + 1))
        distance = (np.arange(near.start, near.stop) - middle[some, None]) / width
        powers = np.ones((5, *distance.shape))
        powers[1:] = distance
        made.append((some, near, np.exp(-0.5 * distance**2) * powers.cumprod(0)))  # pow takes three times as long
    return made


# ---------------------------------------------------------------- on a GPU
def fitted_cuda(launcher: Launcher, jobs: Sequence[Job]) -> list[Surface]:
    """`fitted` of each job on a GPU, in one launch; on the host.  Widths of up to 3.4 cells."""
    grids = {id(sums): sums for sums, *_ in jobs}
    places = dict(zip(grids, np.cumsum([0, *(sums.size for sums in grids.values())]).tolist(), strict=False))
    shapes = [(-(-sums.shape[1] // down), -(-sums.shape[2] // across)) for sums, _, down, across in jobs]
    ends = np.cumsum([0, *(tall * wide for tall, wide in shapes)]).tolist()
    if not jobs:
        return []
    table = [
        (first, places[id(sums)], *sums.shape[1:], down, across, wide, int(np.ceil(FAR * width)))
        for (sums, width, down, across), (_, wide), first in zip(jobs, shapes, ends, strict=False)
    ]
    scales = [(width, STIFF * sums[1].mean()) for sums, width, _, _ in jobs]
    cells = np.concatenate([sums.ravel() for sums in grids.values()])
    given = launcher.upload(cells, np.float64), launcher.upload(np.array(table), np.int32)
    found = launcher.empty((2, ends[-1]), np.float64)
    arguments = [*given, launcher.upload(np.array(scales), np.float64), found, np.int32(len(jobs))]
    launcher.launch("residual_sky", "fitted", (ends[-1], 1, 1), (32, 1, 1), arguments)
    sky, own = launcher.download(found)
    pieces = zip(shapes, ends, ends[1:], strict=False)
    return [(sky[a:b].reshape(shape), own[a:b].reshape(shape)) for shape, a, b in pieces]
