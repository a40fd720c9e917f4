"""The report picture: what an expert looks at first after a subtraction."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.picture_cutouts import draw_enlarged
from gpudiff.edges.picture_planes import FAINT, INK, draw_planes, stretch
from gpudiff.edges.picture_quality import (
    MAPS,
    RED,
    draw_chi,
    draw_histogram,
    draw_kernels,
    draw_maps,
    draw_numbers,
    draw_stacks,
)
from gpudiff.model.frame import Difference
from gpudiff.model.tables import Table

WIDE, DPI = 16.4, 100
"""Inches of the page, which is read at its own 1640 pixels; and pixels an inch."""
ABOVE, PANEL, BELOW_PANELS, ENLARGED, PLOTS, MAP, BELOW = 0.75, 3.7, 0.95, 3.1, 3.0, 1.75, 0.3
"""Inches, from the top: title, planes at most, bars and legend, cutouts, plots, maps, margin."""


def write_picture(path: str | Path, difference: Difference, sources: Table) -> None:
    """Draw a PNG of science, matched template, difference and score, cutouts, and the quality.

    Science (sky-subtracted), matched template and difference share one asinh stretch; the score has its own,
    +-5 sigma; large planes are averaged in blocks, of the score each block's extreme is shown.  Below, the
    brightest detections, those least like a point source and the flagged ones are enlarged; then the matching
    kernel, what is left at static stars, histograms of the noise, and the quality on a grid.  What makes a
    subtraction poor stands in red under the title.  Raises StoreFailed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = difference.image.shape
    tall = float(np.clip(PANEL * height / width, 2.4, 6.0))
    zoom = ENLARGED if len(sources) else 0.0
    poor = [note for note in difference.notes if note.startswith("POOR")]
    above = ABOVE + 0.25 * len(poor)
    lower = BELOW + 2 * (MAP + 0.6) + 0.25 + PLOTS
    page = above + tall + BELOW_PANELS + zoom + 0.45 + lower
    figure = Figure(figsize=(WIDE, page), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def row(low: float, high: float, columns: int, left: float = 0.03, right: float = 0.985, **more: Any) -> Any:
        """A row of the page, its edges in inches from the bottom."""
        return figure.add_gridspec(1, columns, bottom=low / page, top=high / page, left=left, right=right, **more)

    _title(figure, difference, poor, page)
    ends = stretch(difference)
    over = row(page - above - tall, page - above, 4, wspace=0.07)
    draw_planes(figure, [figure.add_subplot(over[n]) for n in range(4)], difference, sources, ends)
    if zoom:
        draw_enlarged(figure.add_subplot(row(lower + 0.45, lower + 0.45 + zoom, 1)[0]), difference, sources, ends)
    plots = row(lower - PLOTS, lower, 4, wspace=0.2, width_ratios=(1, 1, 1.25, 1.25))
    kernels, stacks, histogram, chi = (figure.add_subplot(plots[n]) for n in range(4))
    draw_kernels(kernels, difference)
    draw_stacks(stacks, difference, ends[0])
    draw_histogram(histogram, difference)
    draw_chi(chi, difference.stars, ends[0])
    maps = [
        figure.add_subplot(one)
        for low in (BELOW + MAP + 0.6, BELOW)
        for one in row(low, low + MAP, len(MAPS) // 2, right=0.56, wspace=0.1)
    ]
    draw_maps(maps, difference)
    numbers = row(BELOW, BELOW + 2 * MAP + 0.6, 1, left=0.575)
    draw_numbers(figure.add_subplot(numbers[0]), difference, sources)
    with atomically(path) as temporary, warnings.catch_warnings(action="ignore", category=UserWarning):
        # a file's name may have letters that the font has not
        figure.savefig(temporary, format="png")


def _title(figure: Any, difference: Difference, poor: list[str], page: float) -> None:
    o = difference.science.frame.observation
    names = f"{Path(difference.science.name).name}  −  {Path(difference.template.name).name}"
    top = 1 - 0.12 / page
    title = {"x": 0.03, "y": top, "ha": "left", "va": "top", "fontsize": 15, "color": INK, "fontweight": "bold"}
    figure.suptitle(names, **title, parse_math=False)
    height, width = difference.image.shape
    said = [
        f"visit {o.frame.visit}",
        f"detector {o.frame.detector}",
        o.band and f"band {o.band}",
        f"{width} × {height} px",
    ]
    figure.text(0.985, top, "   ".join(filter(None, said)), ha="right", va="top", fontsize=11, color=FAINT)
    for n, note in enumerate(poor):
        y = 1 - (0.45 + 0.25 * n) / page
        figure.text(0.03, y, note, ha="left", va="top", fontsize=12, color=RED, fontweight="bold")
