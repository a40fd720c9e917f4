"""What a simulated frame holds that its template does not, and how well anyone could see it."""

import math
from typing import Any

import numpy as np

from gpudiff.arrays.render import moffat_mixture, stamp
from gpudiff.model.frame import Frame
from gpudiff.model.scene import TRUTH, Catalogue, Night, Visit
from gpudiff.model.sky import Sky
from gpudiff.model.tables import Table
from gpudiff.science.view import View

STAMP_HALF = 14


def on_visit(night: Night, sky: Catalogue, visit: Visit, view: View) -> dict[str, np.ndarray]:
    """The changes as this visit sees them: `x`, `y` on the pixels, `true_x`, `true_y` where they belong.

    `flux` : electrons by which the source differs from the template's; `drawn` : electrons to draw here.
    """
    c = dict(sky.changes)
    elapsed = 86400 * (visit.mjd_start - night.first_mjd())
    c["true_x"], c["true_y"] = c["x"] + c["rate_x"] * elapsed, c["y"] + c["rate_y"] * elapsed
    c["x"], c["y"] = view.moved(c["true_x"], c["true_y"])
    c["flux"] = c["flux"] * np.exp(c["slope"] * visit.phase) * view.transparency(c["true_x"], c["true_y"])
    c["drawn"] = np.where(c["kind"] == "vanished", 0.0, c["flux"])
    return c


def before(sky: Catalogue, view: View) -> dict[str, np.ndarray]:
    """The changes as an exposure before any of them saw the sky: only what has since vanished."""
    c = dict(sky.changes)
    gone = c["kind"] == "vanished"
    c["drawn"] = np.where(gone, -c["flux"] * view.transparency(c["x"], c["y"]), 0.0)
    c["x"], c["y"] = view.moved(c["x"], c["y"])
    return c


def trails(
    night: Night, changes: dict[str, np.ndarray], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y, flux of the points that make up each source: one, or a string of them along its motion.

    The middle of a trail is the position; points lie at most 0.5 px apart.
    """
    length = np.hypot(changes["rate_x"], changes["rate_y"])[rows] * night.exposure
    count = np.maximum(1, np.ceil(2 * length)).astype(int)
    row = np.repeat(rows, count)
    first = np.repeat(np.cumsum(count) - count, count)
    time = ((np.arange(len(row)) - first + 0.5) / np.repeat(count, count) - 0.5) * night.exposure
    x = changes["x"][row] + changes["rate_x"][row] * time
    y = changes["y"][row] + changes["rate_y"][row] * time
    return x, y, (changes["drawn"][rows] / count).repeat(count)


def truth_of(
    night: Night,
    visit: Visit,
    view: View,
    changes: dict[str, np.ndarray],
    mean: np.ndarray,
    unusable: np.ndarray,
    cards: dict[str, Any],
) -> Table:
    """Table of TRUTH: one row a change that lies on this detector.

    changes : columns of equal length; mean : (H, W) expected electrons; unusable : (H, W) bool
    """
    on = np.flatnonzero(
        (changes["x"] > -0.5)
        & (changes["x"] < view.detector.width - 0.5)
        & (changes["y"] > -0.5)
        & (changes["y"] < view.detector.height - 0.5)
    )
    c = {name: column[on] for name, column in changes.items()}
    measured = [_ideal(night, view, c, n, mean, unusable) for n in range(len(on))]
    snr, usable = np.array(measured).reshape(-1, 2).T
    ra, dec = Sky(cards).to_sky(c["true_x"], c["true_y"])
    motion = np.hypot(c["rate_x"], c["rate_y"]) * night.exposure
    return Table(
        TRUTH,
        {
            **{name: c[name] for name in ("objectId", "kind", "place", "x", "y")},
            "visit": np.full(len(on), visit.number),
            "detector": np.full(len(on), view.detector.number),
            "midpointMjdTai": np.full(len(on), visit.mjd_start + night.exposure / 172800),
            "ra": ra,
            "dec": dec,
            "flux": c["flux"] / view.detector.gain,
            "snr": snr,
            "usable": usable,
            "trailLength": motion,
            "trailAngle": np.where(motion > 0, np.degrees(np.arctan2(c["rate_y"], c["rate_x"])), 0),
        },
    )


def _ideal(
    night: Night,
    view: View,
    c: dict[str, np.ndarray],
    n: int,
    mean: np.ndarray,
    unusable: np.ndarray,
) -> tuple[float, float]:
    """Signal to noise of a matched filter that knows everything, and the PSF's share on usable pixels."""
    drawn = {**c, "drawn": np.ones(len(c["x"]))}
    x, y, flux = trails(night, drawn, np.array([n]))
    half = STAMP_HALF + int(0.5 * np.hypot(c["rate_x"][n], c["rate_y"][n]) * night.exposure)
    column, row = round(float(c["x"][n])), round(float(c["y"][n]))
    shape = view.psf_shape(x[:1], y[:1])[0]
    mixture = moffat_mixture(night.moffat_beta)
    profile = sum(f * stamp(a - column, b - row, shape, mixture, half) for a, b, f in zip(x, y, flux, strict=True))
    y0, x0 = max(0, row - half), max(0, column - half)
    inside = (slice(y0, row + half + 1), slice(x0, column + half + 1))
    height, width = mean[inside].shape
    top, left = y0 - row + half, x0 - column + half
    seen = profile[top : top + height, left : left + width]
    good = ~unusable[inside]
    signal = (seen**2 / (mean[inside] + view.detector.read_noise**2))[good].sum()
    return abs(c["flux"][n]) * math.sqrt(signal), float((seen**2)[good].sum() / (profile**2).sum())


def truth_of_light(
    kind: str,
    made: Frame,
    light: np.ndarray,
    noise: float,
    length: np.ndarray | float = 0.0,
    angle: np.ndarray | float = 0.0,
) -> Table:
    """Truth rows of what is not of the sky, but worth knowing when it is called a source.

    light : (N, 3) x, y of the middle and electrons; noise : electrons, what its signal to noise is against
    length, angle : px and degrees, of what is long
    """
    x, y, electrons = light.T
    ra, dec = Sky(made.wcs).to_sky(x, y)
    count = len(light)
    return Table(
        TRUTH,
        {
            "objectId": np.zeros(count, "i8"),
            "kind": np.full(count, kind),
            "place": np.full(count, ""),
            "visit": np.full(count, made.observation.frame.visit),
            "detector": np.full(count, made.observation.frame.detector),
            "midpointMjdTai": np.full(count, made.observation.midpoint_mjd_tai),
            "x": x,
            "y": y,
            "ra": ra,
            "dec": dec,
            "flux": electrons / (made.gain or 1.0),
            "snr": electrons / noise,
            "usable": np.ones(count),
            "trailLength": np.broadcast_to(length, count),
            "trailAngle": np.broadcast_to(angle, count),
        },
    )
