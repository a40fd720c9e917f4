"""Satellite streaks: straight lines across an image of significances, found by a fast Radon transform.

The transform sums along all lines of an N x N image in N^2 log N additions (Brady 1998, SIAM J. Comput. 27,
107); on images of significance it finds streaks fainter than the noise of a pixel (Nir, Zackay & Ofek 2018,
AJ 156, 229).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar, pixels_cuda
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over
from gpudiff.arrays.streak_shape import Streak, line_pixels, looked_at

FINEST, MOST_CELLS = 4, 512
"""Pixels of a cell's side at least, and cells on an image's side at most."""
BAND = 16
"""Rows of cells that are summed at a time."""
THREADS = 256
"""Of a block in the CUDA body, each for a cell."""
BLOCKS = 64
"""That an image's lines are shared among where the best is looked for."""
CLIP = 2.0
"""Mean significance of a cell that counts at most: a star is no line."""
SUSPECTED = 8.0
"""Sigmas of a line's sum, of all lines' scatter, from which a line is looked at in full resolution."""
FEW, MANY = 10_000, 100_000
"""Lines whose scatter is known to 1.2 and to 0.4 %."""
TRIES = 16
"""Lines looked at in one image at most."""


def find_streaks(score: np.ndarray, fwhm: float, threads: int = 0) -> list[Streak]:
    """The streaks of either sign, most significant first.

    score : (H, W) float32, unit normal where nothing is, 0 where there is no value; fwhm : of the PSF, px
    """
    side = max(FINEST, -(-max(score.shape) // MOST_CELLS))
    means = cells(score, side)

    def steepest(images: np.ndarray) -> Sequence[Line]:
        if isinstance(score, Afar):
            return score.on_device(lambda launcher, _: steepest_cuda(launcher, images))
        return steepest_lines(images, threads)

    found: list[Streak] = []
    for _ in range(TRIES):
        ends, significance = brightest_line(means, steepest)
        if significance < SUSPECTED:
            break
        middle = np.asarray(ends) * side + (side - 1) / 2
        streak = looked_at(score, middle, fwhm, 1.5 * side)
        if streak is not None and streak not in found:
            found.append(streak)
            _cross_out(means, streak, side)
        else:  # a streak that lies beside the line that led to it is met again
            x0, y0, x1, y1 = (float(value) for value in middle)
            _cross_out(means, Streak(x0, y0, x1, y1, 0.5 * side, 0.0), side)
    return found


def cells(score: np.ndarray, side: int) -> np.ndarray:
    """(h, w) float32 mean score of cells, clipped; what does not fill a cell at the far edges is left out.

    score : (H, W) float32, also on a device
    """
    if isinstance(score, Afar):
        return score.on_device(lambda launcher, there: cells_cuda(launcher, there, side))[0]
    height, width = (length // side for length in score.shape)
    means = np.empty((height, width), np.float32)
    ones = np.full(side, 1 / side**2, np.float32)
    for first in range(0, height, BAND):  # a band at a time stays in cache
        band = slice(first, min(first + BAND, height))
        cut = np.clip(score[band.start * side : band.stop * side, : width * side], -3 * CLIP, 3 * CLIP)
        means[band] = (cut.reshape(-1, side) @ ones).reshape(-1, side, width).sum(1)
    return np.clip(means, -CLIP, CLIP, out=means)


def cells_cuda(launcher: Launcher, scores: Any, side: int) -> np.ndarray:
    """`cells` of a batch on a GPU, by float32 sums: (B, h, w) on the host.  scores : (B, H, W) float32"""
    batch, height, width = scores.shape
    made = launcher.empty((batch, height // side, width // side), np.float32)
    if made.size:
        grid = (-(-(made.size // batch) // THREADS), 1, batch)
        arguments = [launcher.upload(scores, np.float32), made, *map(np.int32, (width, height, side))]
        launcher.launch("streaks", "cell_means", grid, (THREADS, 1, 1), arguments)
    return launcher.download(made)


def _cross_out(cells: np.ndarray, streak: Streak, side: int) -> None:
    """Zeroes a streak in cells and four on either side, where its wings and sidelobes are, in place."""
    x0, y0, x1, y1 = ((value - (side - 1) / 2) / side for value in (streak.x0, streak.y0, streak.x1, streak.y1))
    height, width = cells.shape
    cells[line_pixels((height, width), x0, y0, x1, y1, streak.reach / side + 4)] = 0


# ---------------------------------------------------------------- fast Radon transform
Line = tuple[float, int, float]
"""Significance, row at the first column, rows gained at the last."""


def brightest_line(
    cells: np.ndarray, steepest: Callable[[np.ndarray], Sequence[Line]] | None = None
) -> tuple[tuple[float, float, float, float], float]:
    """((x0, y0, x1, y1), significance) of the line with the largest |sum|, from edge to edge of the image.

    cells : (h, w) float32, 0 where there is no value.  Significance: the sum over the square root of its cells'
    number, in units of that figure's robust scatter over lines of at least a third of the shorter side; 0 for an
    empty image.
    steepest : `steepest_lines`, on whatever device
    """
    best, ends = 0.0, (0.0, 0.0, 0.0, 0.0)
    known = (cells != 0).astype(np.float32)
    for turned in (False, True):
        both = np.stack([plane.T if turned else plane for plane in (cells, known)])
        height, width = both.shape[1:]
        found = (steepest or steepest_lines)(np.concatenate([both, both[:, ::-1]]))
        for mirrored, (value, start, slope) in zip((False, True), found, strict=True):
            if value <= best:
                continue
            best = value
            x0, x1, y0, y1 = 0.0, width - 1.0, float(start), float(start + slope)
            if mirrored:
                y0, y1 = height - 1 - y0, height - 1 - y1
            ends = (y0, x0, y1, x1) if turned else (x0, y0, x1, y1)
    return ends, best


def steepest_lines(images: np.ndarray, threads: int = 0) -> Sequence[Line]:
    """B times the best line with slope 0 to 1.

    images : (2 B, H, W) float32, cells and those that are known, in turn
    """
    sums = radon(images, threads)
    return over(partial(_steepest, shape=images.shape[1:]), zip(sums[::2], sums[1::2], strict=True), threads)


def _steepest(lines: tuple[np.ndarray, np.ndarray], shape: tuple[int, int], sample: int = FEW) -> Line:
    """The best line with slope 0 to 1.

    lines : from `radon`, of cells and of those that are known, (H, W) `shape`
    sample : of the lines, whose scatter is taken; a line that is nearly suspected is measured by MANY
    """
    sums, counts = lines
    long = counts >= min(shape) / 3
    if not long.any():
        return 0.0, 0, 0.0
    values = np.maximum(counts, 1)
    np.divide(sums, np.sqrt(values, out=values), out=values)
    step = max(1, values.size // sample)
    thin = values.ravel()[::step][long.ravel()[::step]]
    middle, scatter = _scatter(thin)
    if scatter == 0:
        return 0.0, 0, 0.0
    values -= np.float32(middle)
    np.multiply(np.abs(values, out=values), long, out=values)
    best = int(values.argmax())
    significance = float(values.flat[best] / scatter)
    if sample == FEW and significance > 0.75 * SUSPECTED:
        return _steepest(lines, shape, MANY)
    return _line(significance, best, shape)


def _scatter(values: np.ndarray) -> tuple[float, float]:
    """(median, robust scatter) of some lines."""
    middle = float(np.median(values))
    return middle, 1.4826 * float(np.median(np.abs(values - middle)))


def _line(significance: float, number: int, shape: tuple[int, ...]) -> Line:
    """`radon`'s line of that number.  shape : of the image"""
    size = _slopes(shape[1])
    slope, start = divmod(number, size + shape[0])
    return significance, start - size, slope * (shape[1] - 1) / max(size - 1, 1)


def radon(images: np.ndarray, threads: int = 0) -> Sequence[np.ndarray]:
    """B times (S, S + H) float32 sums along the lines of slope 0 to 1 (rows a column), S the power of two >= W.

    [b][s, S + r] is that along the discrete line from row r of column 0 to row r + s of column S - 1; r from -S.
    images : (B, H, W) float32
    """
    return over(_radon, images, threads)


def _slopes(width: int) -> int:
    """How many slopes `radon` has for an image so wide."""
    return 1 << max(0, (width - 1).bit_length())


def _radon(image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    size = _slopes(width)
    sums = np.zeros((size, 1, size + height), np.float32)
    sums[:width, 0, size:] = image.T
    steps = 1
    while steps < size:
        left, right = sums[0::2], sums[1::2]
        sums = np.empty((len(left), 2 * steps, size + height), np.float32)
        for slope in range(2 * steps):
            half = slope // 2
            rise = slope - half
            line = sums[:, slope]
            line[:] = left[:, half]
            line[:, : line.shape[1] - rise] += right[:, half, rise:]
        steps *= 2
    return sums[0]


def radon_cuda(launcher: Launcher, images: np.ndarray) -> Any:
    """`radon` on a GPU, exactly: (B, S, S + H) on the device."""
    batch, height, width = images.shape
    size = _slopes(width)
    shape = batch, size, size + height
    grid = (-(-size * shape[2] // THREADS), 1, batch)

    def launch(kernel: str, given: Any, *sizes: int) -> Any:
        made = launcher.empty(shape, np.float32)
        launcher.launch("streaks", kernel, grid, (THREADS, 1, 1), [given, made, *map(np.int32, sizes)])
        return made

    sums = launch("columns", launcher.upload(images, np.float32), width, height, size)
    length = 1
    while length < size:
        sums = launch("joined", sums, size, shape[2], length)
        length *= 2
    return sums


def steepest_cuda(launcher: Launcher, images: np.ndarray) -> list[Line]:
    """`steepest_lines` on a GPU, exactly; on the host."""
    sums = radon_cuda(launcher, images)
    count, shape, lines = len(images) // 2, images.shape[1:], int(np.prod(sums.shape[1:]))
    values = launcher.empty((count, *sums.shape[1:]), np.float32)
    arguments = [sums, values, np.int32(lines), np.float32(min(shape) / 3)]
    launcher.launch("streaks", "for_length", (-(-lines // THREADS), 1, count), (THREADS, 1, 1), arguments)

    def found(sample: int) -> list[Line]:
        """The best line of each image, the scatter being that of so many lines."""
        thin = np.arange(count)[:, None] * lines + np.arange(0, lines, max(1, lines // sample))
        some = pixels_cuda(launcher, values, thin.ravel()).reshape(thin.shape)
        known = [each[~np.isnan(each)] for each in some]
        middles, scatters = zip(*(_scatter(each) if len(each) else (0.0, 0.0) for each in known), strict=True)
        most, where = (launcher.empty((count, BLOCKS), kind) for kind in (np.float32, np.int32))
        arguments = [values, launcher.upload(np.array(middles), np.float32), most, where, np.int32(lines)]
        launcher.launch("streaks", "farthest", (BLOCKS, 1, count), (THREADS, 1, 1), arguments)
        made = list[Line]()
        for off, place, scatter in zip(launcher.download(most), launcher.download(where), scatters, strict=True):
            best = int(place[off == off.max()].min())
            made.append(_line(float(off.max() / scatter), best, shape) if scatter else (0.0, 0, 0.0))
        return made

    made, again = found(FEW), list[Line]()
    for n, line in enumerate(made):
        if line[0] > 0.75 * SUSPECTED:
            again = again or found(MANY)
            made[n] = again[n]
    return made
