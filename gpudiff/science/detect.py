"""From the difference to DIASources: detected in the score, measured on the difference, judged."""

import dataclasses
from typing import Any

import numpy as np

from gpudiff.arrays.components import extrema
from gpudiff.arrays.measure import Cut, PointFit, aperture, fit_points, forced, own_photons, shifted
from gpudiff.arrays.moments import second_moments
from gpudiff.arrays.stamps import stamps
from gpudiff.model.config import Configuration
from gpudiff.model.errors import PoorSubtraction
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.sky import Sky
from gpudiff.model.tables import DIASOURCE, DO_NOT_ALERT_ALONE, Table, dia_source_ids, flag
from gpudiff.science.cut import box_of, cut_difference, inside, profiles
from gpudiff.science.dipoles import find_dipoles
from gpudiff.science.judge import Shapes, flags_of, poor
from gpudiff.science.streaks import mark_streaks
from gpudiff.science.trails import find_trails

MOST = 65536
"""Detections that a frame's ids have room for."""


def detect(difference: Difference, configuration: Configuration) -> tuple[Difference, Table]:
    """(the difference with its footprints in the mask, the DIASource table ordered by y, x).

    A DIASource is an extremum of |score| at or above the threshold, of either sign.
    Raises PoorSubtraction for more than 65,536 of them.
    """
    fwhm = difference.quality.science_fwhm
    y, x = extrema(difference.score, configuration.detect.threshold, fwhm)
    marked = mark_streaks(_mark(difference, configuration.detect.threshold))
    if wrong := poor(difference.quality):
        marked = dataclasses.replace(marked, notes=(*marked.notes, f"POOR SUBTRACTION: {wrong}"))
    if len(y) == 0:
        return marked, Table.empty(DIASOURCE)
    if len(y) > MOST:
        raise PoorSubtraction(
            f"{difference.science.name}: expected at most {MOST} detections, got {len(y)}: the match failed"
        )
    cut = cut_difference(difference, y, x)
    fit = fit_points(cut.data, cut.weight, cut.psf)
    columns = _measure(difference, y, x, cut, fit)
    shapes = Shapes.of(difference, y, x, cut.data, cut.weight, cut.psf, fit)
    trails = find_trails(marked, y, x, shapes)
    trailed = trails.length > 0
    columns["x"] = np.where(trailed, x + trails.dx, columns["x"])
    columns["y"] = np.where(trailed, y + trails.dy, columns["y"])
    dipoles = find_dipoles(difference, y, x, cut, fit)
    columns |= dipoles.columns()
    columns["flags"] = flags_of(
        marked,
        y,
        x,
        columns,
        fit,
        shapes,
        trails.length,
        trails.angle,
        trails.doubled,
        configuration.detect.threshold,
    )
    columns["flagged"] = (columns["flags"] & flag(*DO_NOT_ALERT_ALONE)) != 0
    columns["trailLength"], columns["trailAngle"] = trails.length, trails.angle
    kept = ~trails.doubled
    return marked, _table(difference, {name: values[kept] for name, values in columns.items()})


def _mark(difference: Difference, threshold: float) -> Difference:
    mask = difference.mask.copy()
    mask[difference.score >= threshold] |= bit("DETECTED")
    mask[difference.score <= -threshold] |= bit("DETECTED_NEGATIVE")
    return dataclasses.replace(difference, mask=mask)


def _measure(difference: Difference, y: np.ndarray, x: np.ndarray, cut: Cut, fit: PointFit) -> dict[str, Any]:
    """The columns that are measured; flux errors include the source's own photons."""
    own = own_photons(fit.profile) / difference.science.gain
    covariance = fit.covariance * difference.quality.score_scale**2
    flux_error = np.sqrt(covariance[:, 0, 0] + np.maximum(fit.flux, 0) * own)
    radius = float(difference.quality.science_fwhm)
    with np.errstate(divide="ignore"):
        variance = np.where(cut.weight > 0, 1 / cut.weight, np.nan)
    ap_flux, ap_error = aperture(
        np.where(cut.weight > 0, cut.data, np.nan), variance, fit.dy, fit.dx, min(radius, cut.data.shape[1] // 2)
    )
    science = _forced(difference, y, x, fit, "science")
    template = _forced(difference, y, x, fit, "matched")
    return {
        "x": x + fit.dx,
        "y": y + fit.dy,
        "xErr": np.sqrt(covariance[:, 2, 2]),
        "yErr": np.sqrt(covariance[:, 1, 1]),
        "x_y_Cov": covariance[:, 1, 2],
        "psfFlux": fit.flux,
        "psfFluxErr": flux_error,
        "psfChi2": fit.chi2,
        "psfNdata": fit.pixels,
        "snr": np.abs(difference.score[y, x]),
        "isNegative": difference.score[y, x] < 0,
        "apFlux": ap_flux,
        "apFluxErr": ap_error * difference.quality.score_scale,
        "scienceFlux": science[0],
        "scienceFluxErr": science[1],
        "templateFlux": template[0],
        "templateFluxErr": template[1],
        **_moments(cut, fit),
    }


def _forced(
    difference: Difference, y: np.ndarray, x: np.ndarray, fit: PointFit, which: str
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) of the PSF at the fitted position in the science image or in the matched template."""
    science = difference.science
    box = box_of(difference)
    here = inside(science.shape, y, x, box)
    sky = stamps(difference.variance, y, x, box)
    if which == "science":
        image, thirds = science.image, difference.science_psf
        usable = (stamps(science.mask, y, x, box) & bit("BAD", "SAT", "CR", "NO_DATA")) == 0
        variance = _science_variance(difference, y, x, stamps(image, y, x, box))
    else:
        image, thirds = difference.matched, difference.matched_psf
        usable = np.isfinite(sky)
        variance = sky
    usable &= here & (variance > 0)
    weight = np.where(usable, 1 / np.where(usable, variance, 1), 0)
    profile = shifted(profiles(difference, thirds, y, x), fit.dy, fit.dx)
    return forced(np.where(usable, stamps(image, y, x, box), 0), weight, profile)


def _science_variance(difference: Difference, y: np.ndarray, x: np.ndarray, data: np.ndarray) -> np.ndarray:
    sky = difference.science.sky_variance.at(y, x)[:, None, None]
    return sky + np.maximum(data, 0) / np.float32(difference.science.gain)


def _moments(cut: Cut, fit: PointFit) -> dict[str, np.ndarray]:
    """Second moments of source and PSF under one Gaussian weight as wide as the PSF's core."""
    sign = np.sign(fit.flux)[:, None, None]
    centred = shifted(cut.data * sign, -fit.dy, -fit.dx)
    half = cut.psf.shape[1] // 2
    peak = cut.psf[:, half, half]
    width = float(np.median(np.sqrt(1 / (2 * np.pi * np.maximum(peak, 1e-6)))))
    source, psf = second_moments(centred, 1.5 * width), second_moments(cut.psf, 1.5 * width)
    names = ("ixx", "iyy", "ixy")
    out = {name: source[:, n] for n, name in enumerate(names)}
    return out | {f"{name}PSF": psf[:, n] for n, name in enumerate(names)}


def _table(difference: Difference, columns: dict[str, Any]) -> Table:
    """The rows in (y, x) order with identity and sky positions."""
    order = np.lexsort((columns["x"], columns["y"]))
    columns = {name: np.asarray(values)[order] for name, values in columns.items()}
    observation = difference.science.frame.observation
    frame, count = observation.frame, len(order)
    sky = Sky(difference.science.frame.wcs)
    columns["ra"], columns["dec"] = sky.to_sky(columns["x"], columns["y"])
    jacobian = sky.jacobian(columns["x"], columns["y"])
    xy = columns["x_y_Cov"]
    pixel = np.stack([columns["xErr"] ** 2, xy, xy, columns["yErr"] ** 2], -1).reshape(-1, 2, 2)
    covariance = jacobian @ pixel @ jacobian.transpose(0, 2, 1)
    columns |= {
        "raErr": np.sqrt(covariance[:, 0, 0]),
        "decErr": np.sqrt(covariance[:, 1, 1]),
        "ra_dec_Cov": covariance[:, 0, 1],
        "diaSourceId": dia_source_ids(frame.visit, frame.detector, count),
        "visit": np.full(count, frame.visit),
        "snap": np.full(count, frame.snap),
        "detector": np.full(count, frame.detector),
        "midpointMjdTai": np.full(count, observation.midpoint_mjd_tai),
    }
    return Table(DIASOURCE, columns)
