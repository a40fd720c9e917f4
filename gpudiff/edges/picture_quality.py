"""The report picture's lower half: kernel, what static stars leave, the noise, and the quality on a grid."""

from typing import Any

import numpy as np

from gpudiff.edges.picture_planes import FAINT, INK, draw_image
from gpudiff.edges.words import quality_lines
from gpudiff.model.frame import Difference
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.qa import side
from gpudiff.model.tables import Table

HISTOGRAM_PX = 1_000_000
"""Pixels in a histogram, at most."""
STACK_PX, STACKS = 31, 4
"""Side of a stack of stars; stacks, each of as many stars, from the faint to the bright."""
BLUE, ORANGE, RED = "#0a7cff", "#c2410c", "#c81e1e"
MAPS = (
    ("noiseRatio", "noise / expected", 1.0, "{:.2f}"),
    ("scoreStd", "std of the score", 1.0, "{:.2f}"),
    ("backgroundSigma", "residual sky, σ", 0.0, "{:+.2f}"),
    ("kernelSum", "kernel sum", None, "{:.3f}"),
    ("scienceFwhm", "FWHM science, px", None, "{:.2f}"),
    ("templateFwhm", "FWHM template, px", None, "{:.2f}"),
    ("chi2", "χ² of kernel stars", 1.0, "{:.2f}"),
    ("nDetections", "detections", None, "{:.0f}"),
)
"""Column of the grid, its title, the value that is as it should be (None: there is none), how it is written."""


def draw_kernels(axis: Any, difference: Difference) -> None:
    """The matching kernel at 3 x 3 places, as they lie on the frame, each with its sum."""
    from matplotlib.colors import AsinhNorm

    kernel = difference.kernel
    size = kernel.shape[1]
    page = np.full((3 * size + 2, 3 * size + 2), np.nan)
    peak = float(np.nanmax(np.abs(kernel))) or 1.0
    norm = AsinhNorm(linear_width=0.03 * peak, vmin=-peak, vmax=peak)
    for n, one in enumerate(kernel):
        y, x = (size + 1) * (n // 3), (size + 1) * (n % 3)
        page[y : y + size, x : x + size] = one
        axis.text(x + 0.5, y + size - 1.2, f"Σ {one.sum():.4f}", fontsize=9, color=INK, va="top")
    draw_image(axis, page, 1, norm, "PuOr_r")
    axis.set(xticks=[], yticks=[])
    _title(axis, f"matching kernel, {size} px; of the {difference.quality.convolved.lower()}")


def draw_stacks(axis: Any, difference: Difference, sigma: float) -> None:
    """What is left on average at static stars, faint to bright, over its error.  sigma : of the sky"""
    from matplotlib.colors import Normalize

    page = np.full((2 * STACK_PX + 1, 2 * STACK_PX + 1), np.nan)
    for n, rows in enumerate(by_brightness(difference.stars)):
        if not len(rows):
            continue
        y, x = (STACK_PX + 1) * (1 - n // 2), (STACK_PX + 1) * (n % 2)
        stars = difference.stars.take(rows)
        significance, share = stack(difference, stars)
        page[y : y + STACK_PX, x : x + STACK_PX] = significance
        low, high = stars["peak"].min() / sigma, stars["peak"].max() / sigma
        said = f"{len(rows)} of {low:.0f}–{high:.0f} σ"
        axis.text(x, y + STACK_PX - 1, said, fontsize=9, color=INK, va="top")
        axis.text(x, y + 0.5, f"{100 * share:+.2f} % of peak", fontsize=9, color=INK, va="bottom")
    draw_image(axis, page, 1, Normalize(-6, 6), "RdBu_r")
    axis.set(xticks=[], yticks=[])
    _title(axis, "mean residual of stars, ±6σ")


def by_brightness(stars: Table) -> list[np.ndarray]:
    """Rows of the kernel's stars that the fit kept, in STACKS groups of rising brightness."""
    rows = np.flatnonzero(stars["used"])
    return np.array_split(rows[np.argsort(stars["peak"][rows], kind="stable")], STACKS)


def stack(difference: Difference, stars: Table) -> tuple[np.ndarray, float]:
    """((STACK_PX, STACK_PX) mean of difference / peak over its error, that mean in the middle).

    The middle is the matched template's brightest pixel: the science image's is where its noise is high.
    Weighted by the noise of each star's pixels over its peak; NaN where no star has a value.
    """
    light = _squares(difference.matched, stars["y"], stars["x"], 2).reshape(len(stars), -1)
    at, peak = light.argmax(1), light.max(1).astype(float)[:, None, None]
    y, x = stars["y"] + at // 5 - 2, stars["x"] + at % 5 - 2
    half = STACK_PX // 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share = _squares(difference.image, y, x, half) / peak
        weight = peak**2 / _squares(difference.variance, y, x, half)
        weight = np.where(np.isfinite(share * weight) & (peak > 0), weight, 0)
        total = weight.sum(0)
        mean = np.where(weight > 0, share * weight, 0).sum(0) / total
        return mean * np.sqrt(total), float(mean[half, half])


def _squares(plane: np.ndarray, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N, 2 half + 1, ...) squares; beyond the plane its edge is repeated."""
    offset = np.arange(-half, half + 1)
    rows = np.clip(y[:, None, None] + offset[:, None], 0, plane.shape[0] - 1)
    return plane[rows, np.clip(x[:, None, None] + offset, 0, plane.shape[1] - 1)]


def draw_histogram(axis: Any, difference: Difference) -> None:
    """Score, and difference over sigma, on unmasked pixels; and the unit normal."""
    edges = np.linspace(-8, 8, 161)
    centres = 0.5 * (edges[1:] + edges[:-1])
    width = edges[1] - edges[0]
    white, score = normalised(difference), scores(difference)
    axis.stairs(_density(white, edges), edges, fill=True, color="#cfdcee", label="difference / σ")
    axis.stairs(_density(score, edges), edges, color=BLUE, lw=1.4, label="score")
    axis.plot(centres, np.exp(-0.5 * centres**2) / np.sqrt(2 * np.pi), color=ORANGE, lw=1.4, label="unit normal")
    axis.set(yscale="log", xlim=(-8, 8), ylim=(0.3 / max(white.size, 1) / width, 1))
    axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper right", handlelength=1.2, borderpad=0)
    _title(axis, f"unmasked pixels: widths {_robust(white):.3f}, {_robust(score):.3f}")
    _plain(axis)


def normalised(difference: Difference) -> np.ndarray:
    """Difference over its sigma on unmasked pixels, thinned to a million."""
    usable = _usable(difference)
    values = difference.image[usable] / np.sqrt(difference.variance[usable])
    return values[:: -(-max(values.size, 1) // HISTOGRAM_PX)]


def scores(difference: Difference) -> np.ndarray:
    """The score on the same pixels."""
    values = difference.score[_usable(difference)]
    return values[:: -(-max(values.size, 1) // HISTOGRAM_PX)]


def _usable(difference: Difference) -> np.ndarray:
    return ((difference.mask & bit(*UNUSABLE)) == 0) & (difference.variance > 0)


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(values, edges)[0] / max(values.size, 1) / (edges[1] - edges[0])


def _robust(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values)))) if values.size else float("nan")


def draw_chi(axis: Any, stars: Table, sigma: float) -> None:
    """chi of the difference at the kernel's stars against their brightness.  sigma : of the sky"""
    from matplotlib.ticker import LogLocator, NullLocator

    signal, chi = stars["peak"] / sigma, np.sqrt(np.maximum(stars["chi2"], 0))
    known = np.isfinite(chi) & (signal > 0)
    for rows, colour, label in ((known & ~stars["used"], RED, "rejected"), (known & stars["used"], BLUE, "used")):
        axis.scatter(signal[rows], chi[rows], s=10, color=colour, alpha=0.6, lw=0, label=f"{rows.sum()} {label}")
    groups = [rows[known[rows]] for rows in by_brightness(stars)]
    middle = np.array([(np.median(signal[rows]), np.median(chi[rows])) for rows in groups if len(rows)])
    axis.plot(*middle.reshape(-1, 2).T, "o-", color=INK, ms=4, lw=1.2, label="median of used")
    axis.axhline(1, color=ORANGE, lw=1.2)
    top = 1.3 * float(np.max(chi[known], initial=3.0))
    axis.set(xscale="log", yscale="log", ylim=(0.5, top), xlabel="peak over the sky's σ")
    axis.set_yticks([tick for tick in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if tick < top])
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_locator(NullLocator())
    left, right = axis.get_xlim()
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if right < 100 * left else (1,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.legend(frameon=False, fontsize=9, labelcolor=INK, loc="upper left", handletextpad=0.2, borderpad=0)
    axis.xaxis.label.set(size=9, color=INK)
    _title(axis, "χ within a FWHM of kernel candidates")
    _plain(axis)


def draw_maps(axes: list[Any], difference: Difference) -> None:
    """Columns of the quality grid as small maps, poor cells framed."""
    grid = side(difference.cells)
    for axis, (name, title, middle, written) in zip(axes, MAPS, strict=True):
        axis.set(xticks=[], yticks=[])
        values = difference.cells[name].astype(float).reshape(grid, grid)
        known = values[np.isfinite(values)]
        if not known.size:
            axis.axis("off")
            continue
        _map(axis, values, known, middle)
        ends = f"{written.format(known.min())} … {written.format(known.max())}"
        axis.set_title(f"{title}\n{ends}", fontsize=9.5, color=INK, loc="left", linespacing=1.3)
        if grid <= 5:
            for (j, i), value in np.ndenumerate(values):
                said = written.format(value) if np.isfinite(value) else ""
                axis.text(i, j, said, fontsize=7.5, color=INK, ha="center", va="center")
        for cell in np.flatnonzero(difference.cells["poor"]):
            _frame(axis, int(cell) % grid, int(cell) // grid)


def _map(axis: Any, values: np.ndarray, known: np.ndarray, middle: float | None) -> None:
    """Diverging from what is as it should be, or from the median."""
    from matplotlib import colormaps

    centre = float(np.median(known)) if middle is None else middle
    reach = max(float(np.abs(known - centre).max()), 1e-6 * abs(centre), 1e-9)
    shades = colormaps["RdYlBu_r"].with_extremes(bad="#e3e6ea")
    axis.imshow(values, origin="lower", cmap=shades, vmin=centre - reach, vmax=centre + reach, alpha=0.75)
    for spine in axis.spines.values():
        spine.set_color(FAINT)


def _frame(axis: Any, x: int, y: int) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((x - 0.46, y - 0.46), 0.92, 0.92, fill=False, ec=RED, lw=1.8))


def draw_numbers(axis: Any, difference: Difference, sources: Table) -> None:
    """The quality numbers, one below the other."""
    axis.axis("off")
    _title(axis, "quality")
    for n, (label, value) in enumerate(quality_lines(difference, sources)):
        y = 0.985 - 0.057 * n
        axis.text(0.0, y, label, fontsize=9.5, color=FAINT, va="top")
        axis.text(0.28, y, value, fontsize=9.5, color=INK, va="top")


def _title(axis: Any, text: str) -> None:
    axis.set_title(text, fontsize=11, color=INK, loc="left")


def _plain(axis: Any) -> None:
    axis.tick_params(labelsize=8.5, colors=FAINT)
    axis.spines[["top", "right"]].set_visible(False)
