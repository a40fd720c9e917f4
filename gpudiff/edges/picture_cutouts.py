"""Detections enlarged: the brightest, those least like a point source, and the brightest of the flagged ones."""

from typing import Any

import numpy as np

from gpudiff.edges.picture_planes import FAINT, FLAGGED, INK, NEGATIVE, POSITIVE, brightest, draw_image
from gpudiff.model.frame import Difference
from gpudiff.model.tables import Table, flag_names

BRIGHT, ODD, ALL, ROOM = 8, 4, 18, 3
"""Brightest detections and odd ones, at most; all together; cutouts that the title of a kind takes."""
CUTOUT_PX, GAP, BETWEEN = 41, 3, 12
"""Pixels: how much of each is shown, space between them, and more between the kinds."""


def draw_enlarged(axis: Any, difference: Difference, sources: Table, ends: tuple[float, float]) -> None:
    """Science, matched template and difference of some detections, in the stretch of the planes, `ends`."""
    from matplotlib.colors import AsinhNorm

    sigma, end = ends
    pitch, left = CUTOUT_PX + GAP, 0
    page = np.full((3 * pitch - GAP, ALL * pitch + 2 * BETWEEN), np.nan)
    norm = AsinhNorm(linear_width=2 * sigma, vmin=-5 * sigma, vmax=end)
    for title, rows in chosen(sources):
        axis.text(left, 3 * pitch + 31, title, fontsize=11, color=INK, va="bottom")
        for n, row in enumerate(rows):
            place = left + n * pitch
            x, y = round(float(sources["x"][row])), round(float(sources["y"][row]))
            for level, plane in enumerate((difference.image, difference.matched, difference.science.image)):
                page[level * pitch : level * pitch + CUTOUT_PX, place : place + CUTOUT_PX] = cutout(plane, y, x)
            _label(axis, place, pitch, sources, row, rank(sources, row))
        left += max(len(rows), ROOM) * pitch + BETWEEN
    drawn = draw_image(axis, page, 1, norm, "gray")
    drawn.set_cmap(drawn.get_cmap().with_extremes(bad="white"))
    axis.set(anchor="W", xlim=(-6, page.shape[1]), ylim=(-0.5, 3 * pitch + 44))
    axis.axis("off")
    for level, name in enumerate(("difference", "template", "science")):
        middle = level * pitch + CUTOUT_PX / 2
        axis.text(-2, middle, name, fontsize=9.5, color=FAINT, rotation=90, ha="right", va="center")


def chosen(sources: Table) -> list[tuple[str, np.ndarray]]:
    """(title, rows of the table) of each kind that there is; nothing is shown twice."""
    bright = brightest(sources, BRIGHT)
    odd = np.setdiff1d(brightest(sources, len(sources)), bright)
    with np.errstate(divide="ignore", invalid="ignore"):
        chi2 = np.nan_to_num(sources["psfChi2"] / sources["psfNdata"])
    odd = odd[np.argsort(-chi2[odd], kind="stable")][:ODD]
    flagged = np.flatnonzero(sources["flagged"])
    flagged = flagged[np.argsort(-sources["snr"][flagged], kind="stable")]
    taken = sum(max(len(rows), ROOM) for rows in (bright, odd) if len(rows))
    groups = [
        ("unflagged, brightest", bright),
        ("others, least point-like", odd),
        ("flagged, brightest", flagged[: ALL - taken]),
    ]
    return [(title, rows) for title, rows in groups if len(rows)]


def rank(sources: Table, row: int) -> int:
    """The number by which the planes name an unflagged detection, from 1; 0 of a flagged one."""
    at = np.flatnonzero(brightest(sources, len(sources)) == row)
    return int(at[0]) + 1 if len(at) else 0


def _label(axis: Any, left: int, pitch: int, sources: Table, row: int, number: int) -> None:
    """Its number and significance; of a flagged one, the first reasons why."""
    negative = sources["isNegative"][row]
    colour = NEGATIVE if negative else POSITIVE
    said = f"{number}: " if number else ""
    said += f"{'−' if negative else '+'}{sources['snr'][row]:.0f}σ"
    axis.text(left, 3 * pitch - 2, said, fontsize=9.5, color=colour, va="bottom", fontweight="bold")
    names = [] if number else flag_names(sources["flags"][row])
    first = [name.lower().replace("_", " ")[:11] for name in names[:2]]
    axis.text(
        left,
        3 * pitch + 9,
        "\n".join(first) + (" …" if len(names) > 2 else ""),
        fontsize=8,
        color=FLAGGED,
        va="bottom",
        linespacing=1.0,
    )


def cutout(plane: np.ndarray, y: int, x: int) -> np.ndarray:
    """(CUTOUT_PX, CUTOUT_PX) pixels around a pixel; NaN beyond the plane."""
    out = np.full((CUTOUT_PX, CUTOUT_PX), np.nan)
    half = CUTOUT_PX // 2
    top, left = max(y - half, 0), max(x - half, 0)
    seen = plane[top : y + half + 1, left : x + half + 1]
    row, column = top - (y - half), left - (x - half)
    out[row : row + seen.shape[0], column : column + seen.shape[1]] = seen
    return out
