"""What a detection is judged by: columns of its row, and a few numbers from the pixels round it."""

import numpy as np

from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Difference
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.reliability import FEATURES
from gpudiff.model.tables import DO_NOT_ALERT_ALONE, Table, flag

LIMIT = 15.0
"""Features are cut to +- this: a ratio to nearly nothing says no more than a large one."""
REACH = 10
"""px, of the template's light that is looked at."""
MIDDLE = 4
"""Of the 3 x 3 field positions of a PSF."""


def features(difference: Difference, sources: Table) -> np.ndarray:
    """(N, F) float32 in the order of model.reliability.FEATURES; NaN where a number has no value.

    difference : with the planes of what it was made of; sources : Table of DIASOURCE detected in it
    """
    if len(sources) == 0:
        return np.empty((0, len(FEATURES)), np.float32)
    height, width = difference.image.shape
    y = np.clip(np.rint(sources["y"]).astype(int), 0, height - 1)
    x = np.clip(np.rint(sources["x"]).astype(int), 0, width - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {**_of_row(sources), **_of_pixels(difference, sources, y, x), **_of_template(difference, y, x)}
    columns = [np.broadcast_to(found[feature.name], len(sources)) for feature in FEATURES]
    stacked = np.stack(columns, axis=1).astype(np.float32)
    return np.where(np.isinf(stacked), np.sign(stacked) * LIMIT, np.clip(stacked, -LIMIT, LIMIT))


def _of_row(s: Table) -> dict[str, np.ndarray]:
    """From the columns alone."""
    points = np.maximum(s["psfNdata"] - 3, 1)
    spread, point = s["ixx"] + s["iyy"], s["ixxPSF"] + s["iyyPSF"]
    stretch = np.hypot(s["ixx"] - s["iyy"], 2 * s["ixy"]) / spread
    stretch_psf = np.hypot(s["ixxPSF"] - s["iyyPSF"], 2 * s["ixyPSF"]) / point
    balance = 1 - np.abs(s["dipoleFluxDiff"]) / (2 * s["dipoleMeanFlux"])
    reduced = s["psfChi2"] / points
    dipole = s["dipoleChi2"] / np.maximum(s["dipoleNdata"] - 5, 1)
    fitted = s["dipoleNdata"] > 0
    flux, point_like = np.abs(s["psfFlux"]), np.where(s["trailLength"] > 0, np.nan, 1)
    return {
        "snr": np.log10(s["snr"]),
        "chi2": np.log10(reduced),
        "unexplained": (s["psfChi2"] - points) / s["snr"] ** 2,
        "size": point_like * np.log10(spread / point),
        "elongation": point_like * (stretch - stretch_psf),
        "aperture": point_like * s["apFlux"] / s["psfFlux"],
        "dipole": np.where(fitted, balance, 0),
        "dipole_fit": np.where(fitted, 1 - dipole / reduced, 0),
        "change": np.log10(flux / (flux + np.maximum(s["templateFlux"], 0))),
        "negative": s["isNegative"],
        "trailed": s["trailLength"] > 0,
        **{name: s["flags"] & flag(name) != 0 for name in DO_NOT_ALERT_ALONE},
    }


def _of_pixels(difference: Difference, sources: Table, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """From the difference round each detection."""
    sign = np.where(sources["isNegative"], -1, 1)[:, None, None]
    image, score = (sign * stamps(plane, y, x, 9) for plane in (difference.image, difference.score))
    sigma = np.sqrt(stamps(difference.variance, y, x, 9))
    away = _distance(9)
    ring = np.where((away >= 5) & (away < 9), (image / sigma) ** 2, np.nan).reshape(len(y), -1)
    known = np.isfinite(ring)
    opposite = -np.nan_to_num(score[:, 2:-2, 2:-2]).reshape(len(y), -1).min(1)
    trailed = sources["trailLength"] > 0  # its shape is the trail's: that it is no point speaks against nothing
    bad = stamps(difference.mask, y, x, 5) & bit(*UNUSABLE, "SUSPECT") != 0
    return {
        "noise": np.sqrt(np.where(known, ring, 0).sum(1) / known.sum(1)),
        "opposite": np.maximum(opposite, 0) / sources["snr"],
        "sharpness": np.where(trailed, np.nan, _sharpness(image) / _sharpness(difference.psf[MIDDLE][None])),
        "masked": bad.mean((1, 2)),
    }


def _of_template(difference: Difference, y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """From the template's light round each detection, in sigmas of the difference's typical pixel."""
    sigma = np.sqrt(difference.usual_variance)
    light = np.nan_to_num(stamps(difference.matched, y, x, REACH)) / sigma
    away = _distance(REACH)
    near = np.where(away <= 3, light, 0).max((1, 2))
    within = np.where(away <= REACH, light, 0).reshape(len(y), -1)
    brightest = within.max(1)
    distance = away.ravel()[within.argmax(1)]
    return {
        "template": np.log10(1 + np.maximum(near, 0)),
        "beside": np.log10(1 + np.maximum(brightest, 0)),
        "distance": np.where(brightest > 5, distance, LIMIT),
    }


def _sharpness(images: np.ndarray) -> np.ndarray:
    """(N,) the middle pixel over the mean of its eight neighbours."""
    half = images.shape[1] // 2
    middle = images[:, half, half]
    block = images[:, half - 1 : half + 2, half - 1 : half + 2].sum((1, 2))
    return 8 * middle / (block - middle)


def _distance(half: int) -> np.ndarray:
    axis = np.arange(-half, half + 1)
    return np.hypot(axis[:, None], axis)
