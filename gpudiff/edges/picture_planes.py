"""The planes of the report picture: one stretch, detections marked."""

from typing import Any

import numpy as np

from gpudiff.model.frame import Difference
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.tables import Table

PANEL_PX = 900  # panels are drawn at most this large: the page has no room for more
NUMBERED = 20  # brightest unflagged detections that get their number
POSITIVE, NEGATIVE, FLAGGED = "#0a7cff", "#ff7a00", "#b026c9"
INK, FAINT = "#1b1f24", "#6b7280"


def draw_planes(
    figure: Any, axes: list[Any], difference: Difference, sources: Table, ends: tuple[float, float]
) -> None:
    """The four planes and their two colour bars, detections marked.  ends : as `stretch` has them"""
    from matplotlib.colors import AsinhNorm, Normalize

    sigma, end = ends
    step = -(-max(difference.image.shape) // PANEL_PX)
    empty = (difference.mask & bit("NO_DATA")) != 0
    norm = AsinhNorm(linear_width=2 * sigma, vmin=-5 * sigma, vmax=end)
    planes = (
        ("science, sky subtracted", difference.science.image),
        ("template, matched", difference.matched),
        ("science − matched template" + (", decorrelated" if difference.decorrelated else ""), difference.image),
    )
    for axis, (title, plane) in zip(axes, planes, strict=False):
        drawn = draw_image(axis, block_mean(np.where(empty, np.nan, plane), step), step, norm, "gray")
        axis.set_title(title, fontsize=12, color=INK, loc="left")
    score = block_extreme(np.where(empty, np.nan, difference.score), step)
    significance = draw_image(axes[3], score, step, Normalize(-5, 5), "RdBu_r")
    axes[3].set_title("score: matched-filter signal to noise", fontsize=12, color=INK, loc="left")
    label = f"{difference.science.frame.unit}, one asinh stretch for all three; sky σ = {sigma:.3g}"
    marks = [-5 * sigma, 0.0, 5 * sigma, 20 * sigma, end]
    for axis in axes[1:]:
        axis.tick_params(labelleft=False)
    _bar(figure, axes[0], drawn, label, [float(f"{tick:.2g}") for tick in marks])
    extreme = "σ" if step == 1 else f"σ, extreme of each {step} × {step} px"
    _bar(figure, axes[3], significance, extreme, [-5, -2.5, 0, 2.5, 5])
    _mark(axes[0], sources, numbered=False)
    _mark(axes[2], sources, numbered=True)
    _mark(axes[3], sources, numbered=True)
    _legend(axes[2], sources)
    height, width = difference.image.shape
    for axis in axes:
        axis.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5))  # a position may lie a little beyond


def stretch(difference: Difference) -> tuple[float, float]:
    """Sky sigma of the science image, and where the stretch ends: 99.7th percentile or 40 sigma."""
    usable = difference.science.image[(difference.science.mask & bit(*UNUSABLE)) == 0]
    thin = usable[:: max(1, usable.size // 500_000)]
    if not thin.size:
        return 1.0, 40.0
    sigma = float(1.4826 * np.median(np.abs(thin - np.median(thin)))) or 1.0
    return sigma, max(40 * sigma, float(np.percentile(thin, 99.7)))


def draw_image(axis: Any, plane: np.ndarray, step: int, norm: Any, colours: str) -> Any:
    """A plane of step x step blocks with pixel axes of the whole frame; NaN is light grey."""
    from matplotlib import colormaps

    height, width = plane.shape
    shades = colormaps[colours].with_extremes(bad="#c9ced6")
    extent = (-0.5, width * step - 0.5, -0.5, height * step - 0.5)
    drawn = axis.imshow(plane, origin="lower", cmap=shades, norm=norm, extent=extent, interpolation="nearest")
    axis.tick_params(labelsize=8, colors=FAINT, length=2)
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
    for chosen, marker, colour, style in _kinds(sources):
        many = int(chosen.sum())
        axis.scatter(
            sources["x"][chosen],
            sources["y"][chosen],
            s=120 if many < 30 else 50 if many < 300 else 16,
            marker=marker,
            facecolors="none",
            edgecolors=colour,
            linewidths=1.5 if style == "-" else 0.9,
            alpha=1 if style == "-" else 0.7,
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
