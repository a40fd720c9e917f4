"""A sheet of alerts' cutouts: what a filter would have let through, at a glance."""

from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges.atomic import atomically
from gpudiff.edges.picture_alert import CUTOUTS, read_cutout

ACROSS = 4
"""Alerts in a row."""


def draw_sheet(alerts: list[dict[str, Any]], titles: list[str], heading: str, path: Path) -> None:
    """Write science, template and difference of each alert, four alerts a row; raises StoreFailed.

    Science and template of an alert share one stretch; its difference is stretched about zero.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(1, -(-len(alerts) // ACROSS))
    figure = Figure(figsize=(3.6 * ACROSS, 1.5 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=10)
    grid = figure.subplots(rows, 3 * ACROSS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for n, (alert, title) in enumerate(zip(alerts, titles, strict=True)):
        place = grid[n // ACROSS, 3 * (n % ACROSS) : 3 * (n % ACROSS) + 3]
        _draw_one(place, alert)
        place[0].set_title(title, fontsize=8, loc="left")
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=100, format=path.suffix.lstrip(".") or "png")


def _draw_one(place: Any, alert: dict[str, Any]) -> None:
    images = [read_cutout(alert.get(name), name)[0] for name in CUTOUTS.values()]
    light = np.concatenate([one[np.isfinite(one)] for one in images[:2]] or [np.zeros(1)])
    low, high = np.percentile(light, [1, 99.5]) if light.size else (0, 1)
    left = np.abs(images[2][np.isfinite(images[2])])
    most = float(np.percentile(left, 99.5)) if left.size else 1.0
    for axes, pixels, (bottom, top) in zip(place, images, [(low, high)] * 2 + [(-most, most)], strict=True):
        if pixels.size:
            colours = "RdBu_r" if bottom == -top else "gray"
            axes.imshow(pixels, origin="lower", cmap=colours, vmin=bottom, vmax=top, interpolation="nearest")
