"""From the difference to DIASources: detected in the score, measured on the difference, judged."""

import dataclasses
from typing import Any

import numpy as np

from gpudiff.arrays.components import beyond
from gpudiff.arrays.measure import Cut, PointFit, own_photons, own_share
from gpudiff.arrays.moments import second_moments
from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.config import Configuration
from gpudiff.model.errors import PoorSubtraction
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.sky import Sky
from gpudiff.model.tables import DIASOURCE, DO_NOT_ALERT_ALONE, Table, dia_source_ids, flag
from gpudiff.science.cut import cut_difference, cut_matched
from gpudiff.science.dipoles import find_dipoles
from gpudiff.science.forced import (
    MIDDLE,
    correlated,
    light_squares,
    own_variance,
    science_flux,
    template_flux,
    with_photons,
)
from gpudiff.science.judge import Shapes, flags_of
from gpudiff.science.quality import assess, counted, poor_notes
from gpudiff.science.streaks import mark_streaks
from gpudiff.science.trails import find_trails

MOST = 65536
"""Detections that a frame's ids have room for."""


def detect(difference: Difference, configuration: Configuration, device: Device = CPU) -> tuple[Difference, Table]:
    """(the difference with its footprints in the mask and its quality by cells, the DIASources ordered by y, x).

    A DIASource is an extremum of |score| at or above the threshold, of either sign.  The footprints are written
    into the mask that was given.
    device : where they are looked for and measured
    Raises PoorSubtraction for more than 65,536 of them.
    """
    fwhm = difference.quality.science_fwhm
    y, x = device.extrema(difference.score, configuration.detect.threshold, fwhm)
    _mark(difference, configuration.detect.threshold)
    threads = configuration.match.threads
    marked = assess(mark_streaks(difference, threads))
    marked = dataclasses.replace(marked, notes=(*marked.notes, *poor_notes(marked)))
    if len(y) == 0:
        return marked, Table.empty(DIASOURCE)
    if len(y) > MOST:
        raise PoorSubtraction(
            f"{difference.science.name}: expected at most {MOST} detections, got {len(y)}: the match failed"
        )
    cut, behind = cut_difference(difference, y, x), cut_matched(difference, y, x)
    fit = device.fit_points(cut.data, cut.weight, cut.psf)
    columns = _measure(difference, y, x, cut, behind, fit, device)
    shapes = Shapes.of(difference, y, x, cut.data, cut.weight, cut.psf, fit)
    trails = find_trails(marked, y, x, shapes)
    trailed = trails.length > 0
    columns["x"] = np.where(trailed, x + trails.dx, columns["x"])
    columns["y"] = np.where(trailed, y + trails.dy, columns["y"])
    dipoles = find_dipoles(marked, y, x, cut, behind, fit)
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
    sources = _table(difference, {name: values[kept] for name, values in columns.items()})
    return counted(marked, sources), sources


def _mark(difference: Difference, threshold: float) -> None:
    mask = difference.mask
    y, x, values = beyond(difference.score, threshold)
    mask[y, x] |= np.where(values < 0, bit("DETECTED_NEGATIVE"), bit("DETECTED")).astype(mask.dtype)


def _measure(
    difference: Difference, y: np.ndarray, x: np.ndarray, cut: Cut, behind: Cut, fit: PointFit, device: Device
) -> dict[str, Any]:
    """The columns that are measured.  cut, behind : the difference and the matched template there

    Errors of flux and position include the source's own photons (`own_variance`).
    """
    quality, score = difference.quality, difference.score[y, x]
    scale = quality.score_scale * correlated(difference, difference.psf[MIDDLE])
    covariance, photons = fit.covariance * scale**2, fit.flux * own_variance(difference)
    flux_error = np.sqrt(with_photons(covariance[:, 0, 0], photons * own_photons(fit.profile, cut.weight)))
    covariance *= np.maximum(1 + photons * own_share(fit.profile, cut.weight) / scale**2, 0.5)[:, None, None]
    ap_flux, ap_error = _aperture(difference, cut, fit, device)
    science, science_error = science_flux(light_squares(difference, y, x), fit, device)
    template, template_error = template_flux(difference, y, x, behind, fit, device)
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
        "snr": np.abs(score),
        "isNegative": score < 0,
        "apFlux": ap_flux,
        "apFluxErr": ap_error,
        "scienceFlux": science,
        "scienceFluxErr": science_error,
        "templateFlux": template,
        "templateFluxErr": template_error,
        **_moments(cut, fit, device),
    }


def _aperture(difference: Difference, cut: Cut, fit: PointFit, device: Device) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) (N,) in a circle of one FWHM radius, at most the stamp's."""
    half = cut.data.shape[1] // 2
    radius = min(float(difference.quality.science_fwhm), half)
    with np.errstate(divide="ignore"):
        variance = np.where(cut.weight > 0, 1 / cut.weight, np.nan)
    data = np.where(cut.weight > 0, cut.data, np.nan)
    flux, error = device.aperture(data, variance, fit.dy, fit.dx, radius)
    axis = np.arange(-half, half + 1)
    circle = np.hypot(axis, axis[:, None]) <= radius
    scale = difference.quality.score_scale * correlated(difference, circle)
    return flux, np.sqrt(with_photons((scale * error) ** 2, flux * own_variance(difference)))


def _moments(cut: Cut, fit: PointFit, device: Device) -> dict[str, np.ndarray]:
    """Second moments of source and PSF under one Gaussian weight as wide as the PSF's core."""
    sign = np.sign(fit.flux)[:, None, None]
    centred = device.shifted(cut.data * sign, -fit.dy, -fit.dx)
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
        "reliability": np.full(count, np.nan),
    }
    return Table(DIASOURCE, columns)
