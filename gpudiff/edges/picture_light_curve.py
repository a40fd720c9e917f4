"""An alert's light curve: flux on the difference against time, a colour a band."""

from dataclasses import dataclass
from typing import Any

COLOURS = {"u": "#56b4e9", "g": "#008060", "r": "#d55e00", "i": "#850000", "z": "#6600cc", "y": "#000000"}
LIMIT = 3
"""Forced fluxes below so many sigma are drawn as upper limits at that many."""


@dataclass(frozen=True)
class Point:
    """A flux at a time, MJD TAI.  forced : measured where nothing was detected"""

    mjd_tai: float
    flux: float
    error: float
    band: str
    forced: bool


def light_curve(alert: dict[str, Any]) -> list[Point]:
    """The fluxes of the detection, of those before it and of forced photometry; those without a time left out."""
    own = [*(alert.get("prvDiaSources") or []), alert.get("diaSource") or {}]
    records = [(one, False) for one in own] + [(one, True) for one in alert.get("prvDiaForcedSources") or []]
    points = []
    for one, forced in records:
        time, flux, error = (one.get(name) for name in ("midpointMjdTai", "psfFlux", "psfFluxErr"))
        if time is not None and time == time and flux is not None and flux == flux:
            points.append(Point(time, flux, error or 0.0, one.get("band") or "", forced))
    return points


def draw_light_curve(axes: Any, points: list[Point], unit: str) -> None:
    """Detections filled, forced fluxes open, upper limits as triangles."""
    for band in sorted({point.band for point in points}):
        colour = COLOURS.get(band, "0.4")
        for forced, marker, fill in ((False, "o", colour), (True, "s", "white")):
            shown = [one for one in points if (one.band, one.forced) == (band, forced) and not _is_limit(one)]
            if shown:
                values = zip(*((one.mjd_tai, one.flux, one.error) for one in shown), strict=True)
                label = f"{band or 'no band'}{' forced' if forced else ''}"
                axes.errorbar(
                    *values, fmt=marker, ms=5, mfc=fill, color=colour, ecolor=colour, lw=1, capsize=2, label=label
                )
        limits = [one for one in points if one.band == band and _is_limit(one)]
        if limits:
            x, y = zip(*((one.mjd_tai, LIMIT * one.error) for one in limits), strict=True)
            axes.plot(x, y, "v", ms=5, mfc="none", color=colour, label=f"{band} below {LIMIT} sigma")
    times = [point.mjd_tai for point in points]
    margin = max(0.05 * (max(times) - min(times)), 0.5)
    axes.set_xlim(min(times) - margin, max(times) + margin)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set_xlabel("MJD TAI")
    axes.set_ylabel(f"psfFlux [{unit}]")
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.legend(fontsize=8, loc="best")


def _is_limit(point: Point) -> bool:
    return point.forced and point.error > 0 and point.flux < LIMIT * point.error
