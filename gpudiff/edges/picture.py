"""The report picture: what an expert looks at first after a subtraction."""

from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.picture_planes import FAINT, INK, draw_enlarged, draw_image, draw_planes
from gpudiff.edges.words import quality_lines
from gpudiff.model.frame import Difference
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.tables import Table

PANEL_IN, ABOVE_IN, BETWEEN_IN, ENLARGED_IN, LOWER_IN, BELOW_IN = 4.6, 0.8, 1.25, 3.9, 4.0, 0.45
HISTOGRAM_PX = 4_000_000  # pixels in the histogram, at most


def write_picture(path: str | Path, difference: Difference, sources: Table) -> None:
    """Draw science, matched template, difference, score, kernel, histogram and the quality numbers to a PNG.

    Science (sky-subtracted), matched template and difference share one asinh stretch; the score has its own,
    +-5 sigma.  The brightest detections are shown enlarged.  Large planes are averaged in blocks; the score
    shows the extreme of each block.  Raises StoreFailed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = difference.image.shape
    tall = float(np.clip(PANEL_IN * height / width, 2.6, 7.0))
    zoom = ENLARGED_IN if len(sources) else 0.0
    page = ABOVE_IN + tall + BETWEEN_IN + zoom + LOWER_IN + BELOW_IN
    figure = Figure(figsize=(4 * PANEL_IN + 1.0, page), facecolor="white")
    FigureCanvasAgg(figure)

    def row(low: float, high: float, columns: int, **more: Any) -> Any:
        """A row of the page, its edges in inches from the bottom."""
        return figure.add_gridspec(1, columns, bottom=low / page, top=high / page, left=0.025, right=0.985, **more)

    over = row(page - ABOVE_IN - tall, page - ABOVE_IN, 4, wspace=0.06)
    under = row(BELOW_IN, BELOW_IN + LOWER_IN, 3, width_ratios=(1.0, 1.45, 1.75), wspace=0.16)
    _title(figure, difference)
    draw_planes(figure, [figure.add_subplot(over[n]) for n in range(4)], difference, sources)
    if zoom:
        low = BELOW_IN + LOWER_IN + 0.6
        draw_enlarged(figure.add_subplot(row(low, low + zoom - 0.45, 1)[0]), difference, sources)
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
    draw_image(axis, page, 1, norm, "PuOr_r")
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
