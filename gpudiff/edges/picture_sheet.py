"""A sheet of alerts' cutouts: what a filter would have let through, at a glance."""

from pathlib import Path
from typing import Any

from gpudiff.edges.atomic import atomically
from gpudiff.edges.picture_alert import CUTOUTS, draw_cutout, read_cutout

ACROSS = 4
"""Alerts in a row."""


def draw_sheet(alerts: list[dict[str, Any]], titles: list[str], heading: str, path: Path) -> None:
    """Write science, template and difference of each alert, four alerts a row; raises StoreFailed.

    Science and template of an alert share one stretch; its difference is stretched about zero.  The format follows
    the suffix, as that of picture_alert.draw.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(1, -(-len(alerts) // ACROSS))
    figure = Figure(figsize=(3.6 * ACROSS, 1.5 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(heading, fontsize=10, parse_math=False)
    grid = figure.subplots(rows, 3 * ACROSS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for n, (alert, title) in enumerate(zip(alerts, titles, strict=True)):
        place = grid[n // ACROSS, 3 * (n % ACROSS) : 3 * (n % ACROSS) + 3]
        _draw_one(place, alert)
        place[0].set_title(title, fontsize=8, loc="left")
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _draw_one(place: Any, alert: dict[str, Any]) -> None:
    images = {name: read_cutout(alert.get(field), field) for name, field in CUTOUTS.items()}
    for axes, (name, (pixels, _)) in zip(place, images.items(), strict=True):
        if pixels.size:
            draw_cutout(axes, name, images)
