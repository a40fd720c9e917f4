"""One streak in full resolution: the straight line of light that is, or is not, where the cells showed one."""

from dataclasses import dataclass

import numpy as np

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


def looked_at(score: np.ndarray, ends: np.ndarray, fwhm: float, loose: float) -> Streak | None:
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
    if len(pieces) < 2:
        return ends
    profiles = np.array([np.median(strip[:, part], 1) for part in pieces])
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
