"""The report picture: what an expert looks at first after a subtraction."""

from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.words import quality_lines
from gpudiff.model.frame import Difference
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.tables import Table

PANEL_IN, ABOVE_IN, BETWEEN_IN, LOWER_IN, BELOW_IN = 4.6, 0.8, 1.25, 4.0, 0.45
PANEL_PX = 900  # panels are drawn at most this large: the page has no room for more
NUMBERED = 20  # brightest unflagged detections that get their number
HISTOGRAM_PX = 4_000_000  # pixels in the histogram, at most
POSITIVE, NEGATIVE, FLAGGED = "#0a7cff", "#ff7a00", "#b026c9"
INK, FAINT = "#1b1f24", "#6b7280"


def write_picture(path: str | Path, difference: Difference, sources: Table) -> None:
    """Draw science, matched template, difference, score, kernel, histogram and the quality numbers to a PNG.

    Science (sky-subtracted), matched template and difference share one asinh stretch; the score has its own,
    +-5 sigma.  Large planes are averaged in blocks; the score shows the extreme of each block.  Raises
    StoreFailed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = difference.image.shape
    tall = float(np.clip(PANEL_IN * height / width, 2.6, 7.0))
    page = tall + ABOVE_IN + BETWEEN_IN + LOWER_IN + BELOW_IN
    figure = Figure(figsize=(4 * PANEL_IN + 1.0, page), facecolor="white")
    FigureCanvasAgg(figure)
    sides = {"left": 0.025, "right": 0.985}
    over = figure.add_gridspec(
        1, 4, top=1 - ABOVE_IN / page, bottom=1 - (ABOVE_IN + tall) / page, wspace=0.06, **sides
    )
    ratios = (1.0, 1.45, 1.75)
    under = figure.add_gridspec(
        1,
        3,
        top=(LOWER_IN + BELOW_IN) / page,
        bottom=BELOW_IN / page,
        width_ratios=ratios,
        wspace=0.16,
        **sides,
    )
    _title(figure, difference)
    _planes(figure, [figure.add_subplot(over[n]) for n in range(4)], difference, sources)
    _kernels(figure.add_subplot(under[0]), difference.kernel, difference.quality.convolved)
    _histogram(figure.add_subplot(under[1]), difference)
    _numbers(figure.add_subplot(under[2]), difference, sources)
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _title(figure: Any, difference: Difference) -> None:
    o = difference.science.frame.observation
    names = f"{Path(difference.science.name).name}  −  {Path(difference.template.name).name}"
    figure.suptitle(names, x=0.025, y=0.985, ha="left", va="top", fontsize=16, color=INK, fontweight="bold")
    height, width = difference.image.shape
    said = [
        f"visit {o.frame.visit}",
        f"detector {o.frame.detector}",
        o.band and f"band {o.band}",
        f"{width} × {height} px",
    ]
    figure.text(0.985, 0.985, "   ".join(filter(None, said)), ha="right", va="top", fontsize=12, color=FAINT)


def _planes(figure: Any, axes: list[Any], difference: Difference, sources: Table) -> None:
    """The four planes and their two colour bars, detections marked."""
    from matplotlib.colors import AsinhNorm, Normalize

    sigma, brightest = _stretch(difference)
    step = -(-max(difference.image.shape) // PANEL_PX)
    empty = (difference.mask & bit("NO_DATA")) != 0
    norm = AsinhNorm(linear_width=2 * sigma, vmin=-5 * sigma, vmax=brightest)
    planes = (
        ("science, sky subtracted", difference.science.image),
        ("template, matched", difference.matched),
        (
            "science − matched template" + (", decorrelated" if difference.decorrelated else ""),
            difference.image,
        ),
    )
    for axis, (title, plane) in zip(axes, planes, strict=False):
        drawn = _image(axis, block_mean(np.where(empty, np.nan, plane), step), step, norm, "gray")
        axis.set_title(title, fontsize=12, color=INK, loc="left")
    score = block_extreme(np.where(empty, np.nan, difference.score), step)
    significance = _image(axes[3], score, step, Normalize(-5, 5), "RdBu_r")
    axes[3].set_title("score: matched-filter signal to noise", fontsize=12, color=INK, loc="left")
    label = f"{difference.science.frame.unit}, one asinh stretch for all three; sky σ = {sigma:.3g}"
    ends = [-5 * sigma, 0.0, 5 * sigma, 20 * sigma, brightest]
    _bar(figure, axes[0], drawn, label, [float(f"{tick:.2g}") for tick in ends])
    extreme = "σ" if step == 1 else f"σ, extreme of each {step} × {step} px"
    _bar(figure, axes[3], significance, extreme, [-5, -2.5, 0, 2.5, 5])
    _mark(axes[0], sources, numbered=False)
    _mark(axes[2], sources, numbered=True)
    _mark(axes[3], sources, numbered=True)
    _legend(axes[2], sources)


def _stretch(difference: Difference) -> tuple[float, float]:
    """Sky sigma of the science image, and where the stretch ends: 99.7th percentile or 40 sigma."""
    usable = difference.science.image[(difference.science.mask & bit(*UNUSABLE)) == 0]
    thin = usable[:: max(1, usable.size // 500_000)]
    if not thin.size:
        return 1.0, 40.0
    sigma = float(1.4826 * np.median(np.abs(thin - np.median(thin)))) or 1.0
    return sigma, max(40 * sigma, float(np.percentile(thin, 99.7)))


def _image(axis: Any, plane: np.ndarray, step: int, norm: Any, colours: str) -> Any:
    from matplotlib import colormaps

    height, width = plane.shape
    shades = colormaps[colours].with_extremes(bad="#c9ced6")
    edge = step / 2 if step > 1 else 0.5
    extent = (-0.5, width * step - 0.5, -0.5, height * step - 0.5)
    drawn = axis.imshow(plane, origin="lower", cmap=shades, norm=norm, extent=extent, interpolation="nearest")
    axis.tick_params(labelsize=8, colors=FAINT, length=2)
    axis.margins(edge / max(width * step, 1))
    for spine in axis.spines.values():
        spine.set_color(FAINT)
    return drawn


def _bar(figure: Any, axis: Any, drawn: Any, label: str, ticks: list[float]) -> None:
    """A thin colour bar under a panel."""
    low = -0.36 / (axis.get_window_extent().height / figure.dpi)
    bar = figure.colorbar(drawn, cax=axis.inset_axes((0.0, low, 1.0, -0.22 * low)), orientation="horizontal")
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=8, colors=FAINT, length=2)
    bar.outline.set_edgecolor(FAINT)
    bar.set_label(label, fontsize=9, color=INK, labelpad=1)


def _mark(axis: Any, sources: Table, numbered: bool) -> None:
    """Circles round positive detections, squares round negative ones; flagged ones dashed."""
    crowd = 130 if len(sources) < 100 else 60 if len(sources) < 1000 else 20
    for chosen, marker, colour, style in _kinds(sources):
        axis.scatter(
            sources["x"][chosen],
            sources["y"][chosen],
            s=crowd,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=0.9 if style == "--" else 1.5,
            linestyles=style,
        )
    if numbered:
        for rank, row in enumerate(brightest(sources, NUMBERED), 1):
            colour = NEGATIVE if sources["isNegative"][row] else POSITIVE
            axis.annotate(
                str(rank),
                (sources["x"][row], sources["y"][row]),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=9,
                color=colour,
                fontweight="bold",
                path_effects=_halo(),
            )


def _halo() -> list[Any]:
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=2.2, foreground="white")]


def _kinds(sources: Table) -> list[tuple[np.ndarray, str, str, str]]:
    negative, flagged = sources["isNegative"], sources["flagged"]
    return [
        (flagged & ~negative, "o", FLAGGED, "--"),
        (flagged & negative, "s", FLAGGED, "--"),
        (~flagged & ~negative, "o", POSITIVE, "-"),
        (~flagged & negative, "s", NEGATIVE, "-"),
    ]


def _legend(axis: Any, sources: Table) -> None:
    from matplotlib.lines import Line2D

    names = ("positive, flagged", "negative, flagged", "positive", "negative")
    handles = [
        Line2D([], [], ls="none", marker=marker, mfc="none", mec=colour, label=f"{int(chosen.sum())} {name}")
        for (chosen, marker, colour, _), name in zip(_kinds(sources), names, strict=True)
    ]
    axis.legend(
        handles=[handles[n] for n in (2, 3, 0, 1)],
        ncols=2,
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.06),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handletextpad=0.1,
        columnspacing=1.0,
    )


def brightest(sources: Table, count: int) -> np.ndarray:
    """Rows of the `count` unflagged sources of largest snr, the largest first."""
    rows = np.flatnonzero(~sources["flagged"])
    return rows[np.argsort(-sources["snr"][rows], kind="stable")][:count]


def _kernels(axis: Any, kernel: np.ndarray, convolved: str) -> None:
    """The matching kernel at 3 x 3 places, as they lie on the frame, each with its sum."""
    from matplotlib.colors import AsinhNorm

    size = kernel.shape[1]
    page = np.full((3 * size + 2, 3 * size + 2), np.nan)
    peak = float(np.abs(kernel).max()) or 1.0
    norm = AsinhNorm(linear_width=0.03 * peak, vmin=-peak, vmax=peak)
    for n, one in enumerate(kernel):
        y, x = (size + 1) * (n // 3), (size + 1) * (n % 3)
        page[y : y + size, x : x + size] = one
        axis.text(x + 0.5, y + size - 1.2, f"Σ {one.sum():.4f}", fontsize=8, color=INK, va="top")
    _image(axis, page, 1, norm, "PuOr_r")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(
        f"matching kernel, {size} px; convolves the {convolved.lower()}", fontsize=12, color=INK, loc="left"
    )


def _histogram(axis: Any, difference: Difference) -> None:
    """Difference over sigma on unmasked pixels, and the unit normal."""
    values = normalised(difference)
    edges = np.linspace(-8, 8, 161)
    centres = 0.5 * (edges[1:] + edges[:-1])
    counts = np.histogram(values, edges)[0] / max(values.size, 1) / (edges[1] - edges[0])
    axis.stairs(counts, edges, fill=True, color="#9db8d9", label="difference / σ")
    axis.plot(
        centres, np.exp(-0.5 * centres**2) / np.sqrt(2 * np.pi), color="#c2410c", lw=1.6, label="unit normal"
    )
    floor = 0.3 / max(values.size, 1) / (edges[1] - edges[0])
    axis.set(yscale="log", xlim=(-8, 8), ylim=(floor, 1))
    robust = 1.4826 * np.median(np.abs(values - np.median(values))) if values.size else np.nan
    axis.set_title(f"difference / σ, unmasked pixels: width {robust:.3f}", fontsize=12, color=INK, loc="left")
    axis.legend(frameon=False, fontsize=9, labelcolor=INK)
    axis.tick_params(labelsize=8, colors=FAINT)
    axis.spines[["top", "right"]].set_visible(False)


def normalised(difference: Difference) -> np.ndarray:
    """Difference over its sigma on unmasked pixels, thinned to a few million."""
    usable = ((difference.mask & bit(*UNUSABLE)) == 0) & (difference.variance > 0)
    values = difference.image[usable] / np.sqrt(difference.variance[usable])
    return values[:: -(-max(values.size, 1) // HISTOGRAM_PX)]


def _numbers(axis: Any, difference: Difference, sources: Table) -> None:
    """The quality numbers, one a line."""
    axis.axis("off")
    axis.set_title("quality", fontsize=12, color=INK, loc="left")
    for n, (label, value) in enumerate(quality_lines(difference, sources)):
        y = 0.965 - 0.0715 * n
        axis.text(0.0, y, label, fontsize=11, color=FAINT, va="top")
        axis.text(0.36, y, value, fontsize=11, color=INK, va="top")


def block_mean(plane: np.ndarray, step: int) -> np.ndarray:
    """Mean of the finite pixels of each step x step block; NaN where there is none."""
    if step == 1:
        return plane
    blocks = _blocks(plane, step)
    known = np.isfinite(blocks)
    count = known.sum((1, 3))
    total = np.where(known, blocks, 0).sum((1, 3))
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def block_extreme(plane: np.ndarray, step: int) -> np.ndarray:
    """The value of largest magnitude in each step x step block; NaN where there is none."""
    if step == 1:
        return plane
    blocks = _blocks(plane, step)
    low = np.where(np.isnan(blocks), np.inf, blocks).min((1, 3))
    high = np.where(np.isnan(blocks), -np.inf, blocks).max((1, 3))
    extreme = np.where(-low > high, low, high)
    return np.where(np.isfinite(extreme), extreme, np.nan)


def _blocks(plane: np.ndarray, step: int) -> np.ndarray:
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % step), (0, -width % step)), constant_values=np.nan)
    return padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
