"""How good a difference is: cell by cell, star by star, and whether it is good enough to be believed."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

from gpudiff.arrays.afar import holes, numbers, sampled
from gpudiff.arrays.moments import FWHM, moments
from gpudiff.arrays.polynomial import field, terms
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.tiles import Tile
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.qa import CELL, KERNEL_STAR, side
from gpudiff.model.tables import Table
from gpudiff.science.noise import few, medians, scatters
from gpudiff.science.stars import Stars

CELL_PX, MOST_CELLS = 192, 8
"""Least side of a cell, pixels, that its score's scatter is known to 3 % in; cells along a side, at most."""
SAMPLE = 4_000
"""Pixels of a cell that are looked at, about."""
DARK = 4.0
"""Sigmas of the matched template, which has noise of its own, below which a pixel is blank sky."""
SCORE_STD, CHI2 = (0.85, 1.15), 5.0
"""What is poor for the whole frame: the score's scatter out of this range, kernel stars with a larger chi2."""
LEFT, RESIDUAL, SHARE = 3.0, 0.03, 0.25
"""chi2 from which on the difference shows a star; the share of its light that half of the stars leave, and the
share of the stars that show, beyond what its error allows of so few, which together are poor."""
CELL_SCORE_STD, CELL_SKY = (0.7, 1.4), 1.0
"""What is poor for a cell, which knows the scatter less well; sigmas of residual sky."""
CELL_STARS, CELL_RESIDUAL, CELL_SHARE = 5, 0.05, 0.75
"""So many stars of a cell tell of it, and are poor when half of them show and three quarters leave that share of
their light: a bad match spoils all stars, while of so few half may have changed, or lie beside what did."""
ABOVE_NOISE = 1.5
"""chi2 from which on a residual is no noise (3 sigma of 80 pixels): a faint star seems to leave 5 % by chance."""


def star_table(
    stars: Stars, used: np.ndarray, held_back: np.ndarray | None, seen: tuple[np.ndarray, np.ndarray]
) -> Table:
    """The kernel's stars.

    used : (N,) bool; held_back : (N,) reduced chi2, inf for unknown, or None
    seen : from `star_residuals`, before the variance is raised near stars: it would hide a bad fit
    """
    unknown = np.full(len(stars), np.nan)
    chi2 = unknown if held_back is None else np.where(np.isfinite(held_back), held_back, np.nan)
    columns = {"x": stars.x, "y": stars.y, "peak": stars.peak, "used": used, "chi2HeldBack": chi2}
    columns |= {"stellar": stars.stellar, "chi2": seen[0], "residual": seen[1]}
    widths = {"scienceFwhm": FWHM * stars.science[2], "templateFwhm": FWHM * stars.template[2]}
    return Table(KERNEL_STAR, {**columns, **widths})


def assess(difference: Difference) -> Difference:
    """The same with its quality on a grid, and what the grid says of the whole frame."""
    stars = difference.stars
    chi2, residual = stars["chi2"], stars["residual"]
    cells = _cells(difference, stars)
    sky, known = np.asarray(cells["backgroundSigma"], float), np.isfinite(chi2)
    quality = dataclasses.replace(
        difference.quality,
        matched_fwhm=FWHM * float(moments(difference.matched_psf[4:5].astype(float))[2][0]),
        residual_sky=float(np.sqrt(np.nanmean(sky**2))) if np.isfinite(sky).any() else float("nan"),
        star_residual=float(np.median(residual[known])) if known.any() else float("nan"),
        stars_left=float((chi2[known] > LEFT).mean()) if known.any() else float("nan"),
    )
    return dataclasses.replace(difference, quality=quality, cells=cells)


def counted(difference: Difference, sources: Table) -> Difference:
    """The same with the detections of each cell counted."""
    if len(difference.cells) == 0:
        return difference
    at = cell_of(difference, sources["y"], sources["x"])
    number = len(difference.cells)
    counts = np.bincount(at, minlength=number), np.bincount(at[sources["flagged"]], minlength=number)
    cells = difference.cells.replace(nDetections=counts[0], nFlagged=counts[1])
    return dataclasses.replace(difference, cells=cells)


def cell_of(difference: Difference, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) which row of `difference.cells` each position lies in."""
    cells, grid = difference.cells, side(difference.cells)
    row = np.searchsorted(cells["y0"][::grid], y, side="right") - 1
    column = np.searchsorted(cells["x0"][:grid], x, side="right") - 1
    return np.clip(row, 0, grid - 1) * grid + np.clip(column, 0, grid - 1)


def poor(difference: Difference) -> str:
    """What is wrong with the whole subtraction, with the number; '' when nothing is.

    A score that is not unit normal on blank sky; stars that the kernel does not fit, or fits only because it was
    fitted to them, or rejected because they did not fit.  A cutout, matched by its given PSFs, may have too little
    blank sky to say, or to say well.
    """
    quality = difference.quality
    room = 3 * _score_error(difference) if quality.candidates == 0 else 0.0
    low, high = SCORE_STD[0] - room, SCORE_STD[1] + room
    cutout = quality.candidates == 0 and np.isnan(quality.score_std)
    if not (cutout or low < quality.score_std < high):
        return f"the score's scatter on blank sky is {quality.score_std:.2f}, not 1"
    if quality.chi2 > CHI2:
        return f"the matching kernel does not fit its stars: reduced chi2 {quality.chi2:.1f}"
    if quality.chi2_held_back > CHI2:
        return f"the matching kernel does not predict stars held back: reduced chi2 {quality.chi2_held_back:.1f}"
    share = SHARE + np.sqrt(SHARE * (1 - SHARE) / max(quality.candidates, 1))
    if quality.stars_left > share and quality.star_residual > RESIDUAL:
        return (
            f"{100 * quality.stars_left:.0f} % of the kernel candidates show on the difference, "
            f"and half of them leave {100 * quality.star_residual:.1f} % of their light or more"
        )
    return ""


def _score_error(difference: Difference) -> float:
    """Of `score_std`: the score has one independent value in 4 pi s^2 pixels, s the PSF's Gaussian width."""
    area = 4 * np.pi * (difference.quality.science_fwhm / FWHM) ** 2
    pixels = int(np.count_nonzero(difference.score))
    return float(np.sqrt(area / (2 * max(pixels, 1))))


def _poor(cells: dict[str, np.ndarray], leaving: np.ndarray) -> np.ndarray:
    """(cells,) bool: those that are poor, whatever the whole frame is.

    leaving : (cells,) share of its stars that leave more than CELL_RESIDUAL of their light
    """
    with np.errstate(invalid="ignore"):
        return _spoilt(cells, leaving) | (cells["scoreStd"] > CELL_SCORE_STD[1])


def _spoilt(cells: dict[str, np.ndarray] | Table, leaving: np.ndarray) -> np.ndarray:
    """(cells,) bool: those that are poor for more than a scatter that is too large."""
    with np.errstate(invalid="ignore"):
        unfit = (cells["chi2"] > LEFT) & (leaving >= CELL_SHARE) & (cells["nStars"] >= CELL_STARS)
        return unfit | (np.abs(cells["backgroundSigma"]) > CELL_SKY) | (cells["scoreStd"] < CELL_SCORE_STD[0])


def _leaving(stars: Table, at: np.ndarray, number: int) -> np.ndarray:
    """(number,) share of each cell's stars that leave more than CELL_RESIDUAL of their light; 0 without any."""
    known = np.isfinite(stars["chi2"])
    leave = (stars["chi2"] > ABOVE_NOISE) & (stars["residual"] > CELL_RESIDUAL)
    return np.bincount(at[known], leave[known], number) / np.maximum(np.bincount(at[known], minlength=number), 1)


def poor_notes(difference: Difference) -> tuple[str, ...]:
    """What is poor, one line each: the frame, and its worst cell with its numbers."""
    wrong, bad = poor(difference), difference.cells["poor"]
    notes = [f"POOR SUBTRACTION: {wrong}"] if wrong else []
    if bad.any():
        worst = int(np.where(bad, _badness(difference.cells), -1).argmax())
        where = f"POOR SUBTRACTION in {bad.sum()} of {len(bad)} cells, the worst"
        notes.append(f"{where}: {_told(next(iter(difference.cells.take([worst]).rows())))}")
    return tuple(notes)


def _told(cell: dict[str, Any]) -> str:
    """A cell and what it has to say."""
    return (
        f"x {cell['x0']} to {cell['x1']}, y {cell['y0']} to {cell['y1']}: "
        f"std of the score {cell['scoreStd']:.2f}, residual sky {cell['backgroundSigma']:+.2f} sigma, "
        f"{cell['nStars']} stars leave {100 * cell['residual']:.1f} % of their light"
    )


def _badness(cells: Table) -> np.ndarray:
    """(cells,) the largest of what is wrong with each, 1 at the limit."""
    score = np.abs(cells["scoreStd"] - 1) / (CELL_SCORE_STD[1] - 1)
    parts = [score, cells["residual"] / CELL_RESIDUAL, np.abs(cells["backgroundSigma"]) / CELL_SKY]
    return np.max(np.nan_to_num(parts, nan=0.0), axis=0)


def poor_at(
    difference: Difference, y: np.ndarray, x: np.ndarray, size: np.ndarray, threshold: float
) -> np.ndarray:
    """(N,) bool: detections that a poor subtraction may have made; all of them when the whole frame is poor.

    In a poor cell, too, but where only the score's scatter is too large: there the threshold is meant in units of
    it, and what exceeds that is none of it.
    size : (N,) their |score|
    """
    if poor(difference):
        return np.ones(len(y), bool)
    cells, stars = difference.cells, difference.stars
    if len(cells) == 0:
        return np.zeros(len(y), bool)
    spoilt = _spoilt(cells, _leaving(stars, cell_of(difference, stars["y"], stars["x"]), len(cells)))
    at = cell_of(difference, y, x)
    return cells["poor"][at] & (spoilt[at] | (size < threshold * cells["scoreStd"][at]))


# ---------------------------------------------------------------- the grid
def _cells(difference: Difference, stars: Table) -> Table:
    """Table of model.qa.CELL, detections not yet counted."""
    shape = difference.image.shape
    grid = int(np.clip(min(shape) // CELL_PX, 1, MOST_CELLS))
    rows, columns = (np.linspace(0, length, grid + 1).astype(int) for length in shape)
    boxes = [(rows[j], rows[j + 1], columns[i], columns[i + 1]) for j in range(grid) for i in range(grid)]
    y0, y1, x0, x1 = np.array(boxes).T
    j, i = np.divmod(np.arange(grid * grid), grid)
    sky = *_sky(difference, boxes), _lost_share(difference, rows, columns)
    columns_of = {"row": j, "column": i, "x0": x0, "x1": x1, "y0": y0, "y1": y1}
    columns_of |= dict(
        zip(("noiseRatio", "scoreStd", "background", "backgroundSigma", "lostFraction"), sky, strict=True)
    )
    whole = grid == 1 and difference.quality.candidates == 0  # a cutout is judged as one
    if whole or np.isnan(difference.quality.score_std):  # too little blank sky to tell has none to spare
        columns_of["scoreStd"] = np.full(len(boxes), np.nan)
    none = np.zeros(len(boxes), int)
    columns_of |= {"nDetections": none, "nFlagged": none}
    columns_of |= _fields(difference, 0.5 * (y0 + y1 - 1), 0.5 * (x0 + x1 - 1))
    at = np.searchsorted(rows[1:-1], stars["y"], side="right") * grid
    at += np.searchsorted(columns[1:-1], stars["x"], side="right")
    columns_of |= dict(_stars(stars, at, grid * grid))
    return Table(CELL, columns_of | {"poor": _poor(columns_of, _leaving(stars, at, grid * grid))})


def _sky(difference: Difference, boxes: list[tuple[int, int, int, int]]) -> list[np.ndarray]:
    """[noise ratio, std of the score, mean, the same over sigma] of the cells' blank sky."""
    planes = difference.image, difference.variance, difference.matched, difference.score, difference.mask
    image, variance, matched, score, mask = _seen(planes, boxes)
    with np.errstate(invalid="ignore", divide="ignore"):
        blank = np.isfinite(image) & (matched**2 < DARK**2 * variance)
        blank &= (mask.astype(np.int32) & bit("DETECTED", "DETECTED_NEGATIVE", "STREAK")) == 0
        sigma = np.where(blank, np.sqrt(variance), np.nan)
        ratio = image / sigma
        near = np.abs(ratio) < 4
        mean = np.where(near, ratio, 0).sum(1, float) / near.sum(1)
    blank[~np.any(blank & (score != 0), 1)] = False
    return [scatters(ratio), scatters(np.where(blank, score, np.nan)), mean * medians(few(sigma)), mean]


def _seen(planes: tuple[np.ndarray, ...], boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """(planes, cells, n) float32 some SAMPLE pixels of each cell of planes, row by row, NaN behind them."""
    cells = [Tile(n, *box, 0, 0, planes[0].shape) for n, box in enumerate(boxes)]
    steps = [max(1, int(np.sqrt((y1 - y0) * (x1 - x0) / SAMPLE))) for y0, y1, x0, x1 in boxes]
    sizes = [
        -((y0 - y1) // step) * -((x0 - x1) // step) for (y0, y1, x0, x1), step in zip(boxes, steps, strict=True)
    ]
    out = np.full((len(planes), len(cells), max(sizes)), np.nan, np.float32)
    for seen, plane in zip(out, planes, strict=True):
        thin = {step: sampled(plane, cells, step) for step in set(steps)}
        for n, (step, size) in enumerate(zip(steps, sizes, strict=True)):
            seen[n, :size].reshape(thin[step][n].shape)[...] = thin[step][n]
    return out


def _lost_share(difference: Difference, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(cells,) share of each cell's usable pixels that have no value; NaN where none is usable.

    rows, columns : where cells begin, and the last one's end
    """
    flaws, lost = difference.science.flaws, numbers(holes(difference.image))
    gone = lost[~difference.science.unusable.reshape(-1)[lost]]
    usable = np.outer(np.diff(rows), np.diff(columns)) - _in_cells(flaws, rows, columns)
    with np.errstate(invalid="ignore"):
        return (_in_cells(gone, rows, columns) / usable).ravel()


def _in_cells(pixels: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(R, C) how many of the pixels (N,), by their numbers, lie in each cell.  rows, columns : as `_lost_share`"""
    row, column = (np.repeat(np.arange(len(edges) - 1), np.diff(edges)) for edges in (rows, columns))
    y = pixels // len(column)
    x = pixels - y * len(column)
    shape = len(rows) - 1, len(columns) - 1
    return np.bincount(row[y] * shape[1] + column[x], minlength=shape[0] * shape[1]).reshape(shape)


def _fields(difference: Difference, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Kernel sum and width of the matched PSF at positions, from those at the frame's thirds."""
    sums = difference.kernel.sum((1, 2), dtype=float)
    if difference.quality.convolved == "SCIENCE":
        sums = 1 / sums
    widths = FWHM * moments(difference.matched_psf.astype(float))[2]
    v, u = np.meshgrid((-2 / 3, 0, 2 / 3), (-2 / 3, 0, 2 / 3), indexing="ij")
    height, width = difference.image.shape
    design, at = terms(u.ravel(), v.ravel(), 2), terms(field(x, width), field(y, height), 2)
    values = at @ np.linalg.lstsq(design, np.stack([sums, widths], 1), rcond=None)[0]
    return {"kernelSum": values[:, 0], "matchedFwhm": values[:, 1]}


def _stars(stars: Table, at: np.ndarray, number: int) -> Iterator[tuple[str, np.ndarray]]:
    """The columns that the kernel's stars tell.  at : (N,) the cell that each lies in; number : of cells"""
    used, stellar = stars["used"], stars["stellar"]
    yield "nStars", np.bincount(at, minlength=number)
    yield "nUsed", np.bincount(at[used], minlength=number)
    yield "chi2", _medians(stars["chi2"], at, number)
    yield "residual", _medians(stars["residual"], at, number)
    yield "chi2HeldBack", _medians(np.where(used, stars["chi2HeldBack"], np.nan), at, number)
    for name in ("scienceFwhm", "templateFwhm"):
        yield name, _medians(np.where(stellar, stars[name], np.nan), at, number)


def _medians(values: np.ndarray, at: np.ndarray, number: int) -> np.ndarray:
    """(number,) median of the known values in each cell; NaN in an empty one."""
    known = np.flatnonzero(np.isfinite(values))
    known = known[np.argsort(at[known], kind="stable")]
    cell, count = at[known], np.bincount(at[known], minlength=number)
    table = np.full((number, max(count.max(), 1)), np.nan)
    table[cell, np.arange(len(cell)) - (np.cumsum(count) - count)[cell]] = values[known]
    return medians(table)


def star_residuals(
    image: np.ndarray, variance: np.ndarray, matched: np.ndarray, stars: Stars, fwhm: float
) -> tuple[np.ndarray, np.ndarray]:
    """(reduced chi2 of the difference within a FWHM of each star, rms share of its light that is left), both (N,).

    The noise is taken out of the second.  NaN where no pixel has a value, or no light.
    image, variance, matched : (H, W) float32 difference, its variance, the matched template; fwhm : pixels
    """
    half = max(2, round(fwhm))
    axis = np.arange(-half, half + 1)
    circle = np.hypot(axis, axis[:, None]) <= half
    planes = image, variance, matched
    data, variance, light = (stamps(p, stars.y, stars.x, half).astype(float) for p in planes)
    known = np.isfinite(data) & (variance > 0) & circle
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.where(known, data**2 / variance, 0).sum((1, 2)) / known.sum((1, 2))
        excess = np.where(known, data**2 - variance, 0).sum((1, 2))
        return chi2, np.sqrt(np.maximum(excess, 0) / np.where(known, light**2, 0).sum((1, 2)))
