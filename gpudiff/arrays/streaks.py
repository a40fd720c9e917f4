"""Satellite streaks: straight lines across an image of significances, found by a fast Radon transform.

The transform sums along all lines of an N x N image in N^2 log N additions (Brady 1998, SIAM J. Comput. 27,
107); on images of significance it finds streaks fainter than the noise of a pixel (Nir, Zackay & Ofek 2018,
AJ 156, 229).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar, pixels_cuda
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over

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
LEAST_LENGTH, LEAST_SHARE = 60.0, 0.2
"""Of a streak: pixels, and share of the image's shorter side."""
LEAST_LIGHT, LEAST_LIT, LEAST_EVEN = 1.0, 0.8, 0.25
"""Mean score on the line over that beside it, share of its pieces that are lit, and light of its second faintest
eighth over that of the second brightest: a diffraction spike fades outwards."""

SEEN = 1.0
"""Score below which a streak's wings no longer spoil what is on them."""


@dataclass(frozen=True)
class Streak:
    """x0, y0, x1, y1 : its ends, px; reach : px from its middle line to where it is no longer seen
    light : mean score on its middle line, negative where the template has it
    """

    x0: float
    y0: float
    x1: float
    y1: float
    reach: float
    light: float

    @property
    def length(self) -> float:
        return float(np.hypot(self.x1 - self.x0, self.y1 - self.y0))

    @property
    def angle(self) -> float:
        """Degrees from +x to +y, [-90, 90)."""
        turned = np.degrees(np.arctan2(self.y1 - self.y0, self.x1 - self.x0))
        return float((turned + 90) % 180 - 90)


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
        streak = _looked_at(score, middle, fwhm, 1.5 * side)
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


# ---------------------------------------------------------------- full resolution
def _looked_at(score: np.ndarray, ends: np.ndarray, fwhm: float, loose: float) -> Streak | None:
    """The streak along a line that may be off by `loose` px at its ends; None where there is none."""
    ends = _refined(score, ends, loose, fwhm)
    wide = int(np.ceil(max(24.0, 8 * fwhm)))
    strip, inside = straightened(score, ends, wide)
    if inside.sum() < 2:
        return None
    offset = np.abs(np.arange(-wide, wide + 1))
    on, off = strip[offset <= 1].mean(0), strip[(offset > 3 * fwhm) & (offset < 5 * fwhm)]
    gain = np.clip(on, -6, 6) - np.clip(off, -3, 3).mean(0)
    sign = 1.0 if np.median(gain[inside]) >= 0 else -1.0
    piece = max(4, round(2 * fwhm))
    edges = np.arange(0, len(gain) - piece + 1, piece)
    seen = np.add.reduceat(inside, edges)[: len(edges)] > piece / 2
    light = (
        sign * np.add.reduceat(np.where(inside, gain, 0), edges) / np.maximum(np.add.reduceat(inside, edges), 1)
    )
    lit = light > 0.5 * LEAST_LIGHT
    first, last = _longest(np.where(seen, np.where(lit, 1.0, -2.0), 0.0))
    run = slice(first, last + 1)
    length = piece * float(seen[run].sum())
    if length < max(LEAST_LENGTH, LEAST_SHARE * min(score.shape)) or not seen[run].any():
        return None
    if lit[run][seen[run]].mean() < LEAST_LIT or light[run][seen[run]].mean() < LEAST_LIGHT:
        return None
    steps = slice(first * piece, (last + 1) * piece)
    if not _even(sign * on[steps][inside[steps]]):
        return None
    return _measured(strip, inside, ends, sign, steps, fwhm)


def _even(light: np.ndarray) -> bool:
    """Whether a line is about as bright at its ends as in its middle; light : (T,) score along it."""
    eighths = sorted(float(np.median(part)) for part in np.array_split(light, 8))
    return eighths[1] > max(LEAST_EVEN * eighths[-2], 0.5 * LEAST_LIGHT)


def _measured(
    strip: np.ndarray, inside: np.ndarray, ends: np.ndarray, sign: float, lit: slice, fwhm: float
) -> Streak:
    """Ends and reach of a streak whose lit steps are known."""
    wide = len(strip) // 2
    used = np.zeros(len(inside), bool)
    used[lit] = inside[lit]
    profile = np.abs(np.median(strip[:, used], 1))
    two = np.maximum(profile[wide:], profile[wide::-1])
    dark = np.nonzero(two < SEEN)[0]
    reach = float(dark[0]) if len(dark) else float(wide)
    margin = 4 * round(2 * fwhm)
    known = np.nonzero(inside)[0]
    start = known[0] if lit.start - known[0] <= margin else lit.start
    stop = known[-1] if known[-1] - lit.stop <= margin else min(lit.stop, known[-1])
    x, y = _along(ends, np.array([start, stop]), len(inside))
    return Streak(float(x[0]), float(y[0]), float(x[1]), float(y[1]), reach + 1, sign * float(two[0]))


def _longest(values: np.ndarray) -> tuple[int, int]:
    """(first, last) index of the run with the largest sum (Kadane)."""
    best, ends, total, start = -np.inf, (0, 0), 0.0, 0
    for n, value in enumerate(values):
        if total <= 0:
            total, start = 0.0, n
        total += float(value)
        if total > best:
            best, ends = total, (start, n)
    return ends


def _refined(score: np.ndarray, ends: np.ndarray, loose: float, fwhm: float) -> np.ndarray:
    """The ends moved across the line, by at most `loose` px each, to where the line is brightest."""
    wide = int(np.ceil(loose + fwhm))
    strip, inside = straightened(score, ends, wide)
    pieces = [part for part in np.array_split(np.nonzero(inside)[0], 24) if len(part)]
    profiles = np.array([np.median(strip[:, part], 1) for part in pieces]).reshape(len(pieces), -1)
    if len(pieces) < 2:
        return ends
    share = np.array([part.mean() for part in pieces]) / max(len(inside) - 1, 1)
    moves = np.arange(-loose, loose + 0.5, 0.5)
    first, last = np.meshgrid(moves, moves, indexing="ij")
    offset = first[..., None] * (1 - share) + last[..., None] * share + wide
    low = np.clip(np.floor(offset).astype(int), 0, 2 * wide - 1)
    rest = offset - low
    rows = np.arange(len(pieces))
    sums = np.abs((profiles[rows, low] * (1 - rest) + profiles[rows, low + 1] * rest).sum(-1))
    n = int(sums.argmax())
    direction = ends[2:] - ends[:2]
    across = np.array([-direction[1], direction[0]]) / max(float(np.hypot(*direction)), 1e-9)
    return np.concatenate([ends[:2] + first.flat[n] * across, ends[2:] + last.flat[n] * across])


def _along(ends: np.ndarray, step: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    share = step / max(count - 1, 1)
    return ends[0] + share * (ends[2] - ends[0]), ends[1] + share * (ends[3] - ends[1])


def straightened(image: np.ndarray, ends: np.ndarray, wide: int) -> tuple[np.ndarray, np.ndarray]:
    """((2 wide + 1, T) the image along a line, a pixel a step, nearest pixels; (T,) bool: where there is a value).

    ends : x0, y0, x1, y1; row `wide` is the line itself; 0 beyond the image
    """
    count = max(2, round(float(np.hypot(ends[2] - ends[0], ends[3] - ends[1]))) + 1)
    x, y = _along(ends, np.arange(count), count)
    unit = (ends[2:] - ends[:2]) / max(float(np.hypot(*(ends[2:] - ends[:2]))), 1e-9)
    offset = np.arange(-wide, wide + 1)[:, None]
    column, row = (np.rint(at).astype(int) for at in (x - offset * unit[1], y + offset * unit[0]))
    height, width = image.shape
    here = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    strip = np.where(here, image[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)], 0)
    return strip, strip[wide] != 0


def line_pixels(
    shape: tuple[int, int], x0: float, y0: float, x1: float, y1: float, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the pixels within `reach` px of the line from (x0, y0) to (x1, y1)."""
    steep = abs(y1 - y0) > abs(x1 - x0)
    if steep:
        x0, y0, x1, y1 = y0, x0, y1, x1
    if x1 < x0:
        x0, y0, x1, y1 = x1, y1, x0, y0
    long, wide = (shape[0], shape[1]) if steep else (shape[1], shape[0])
    slope = (y1 - y0) / max(x1 - x0, 1e-9)
    spread = reach * np.hypot(1, slope)
    along = np.arange(max(0, int(np.ceil(x0 - reach))), min(long - 1, int(np.floor(x1 + reach))) + 1)
    half = int(np.ceil(spread)) + 1
    middle = y0 + slope * (along - x0)
    across = np.rint(middle).astype(int)[:, None] + np.arange(-half, half + 1)
    near = (np.abs(across - middle[:, None]) <= spread) & (across >= 0) & (across < wide)
    position = np.broadcast_to(along[:, None], across.shape)[near]
    return (position, across[near]) if steep else (across[near], position)
