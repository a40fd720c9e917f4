"""The reliability of each DIASource: how probable it is that it is of the sky and not of the subtraction."""

import dataclasses

import numpy as np

from gpudiff.model.frame import Difference
from gpudiff.model.provenance import extend, step
from gpudiff.model.reliability import FEATURES, Curve, ReliabilityModel
from gpudiff.model.tables import Table
from gpudiff.science.reliability_features import features


def rate(difference: Difference, sources: Table, model: ReliabilityModel | None) -> tuple[Difference, Table]:
    """(the difference with one more step of provenance, the sources with their `reliability`).

    Without a model both as they came: the column stays NaN.
    """
    if model is None:
        return difference, sources
    rated = sources.replace(reliability=reliabilities(model, features(difference, sources)))
    one = step("reliability", model.version, model.digest, [])
    fingerprint = extend(difference.fingerprint, [one])
    return dataclasses.replace(difference, steps=(*difference.steps, one), fingerprint=fingerprint), rated


def reliabilities(model: ReliabilityModel, found: np.ndarray) -> np.ndarray:
    """(N,) float32 between 0 and 1, of (N, F) features in the order of FEATURES."""
    return calibrated(model, log_odds(model, found))


def calibrated(model: ReliabilityModel, odds: np.ndarray) -> np.ndarray:
    """(N,) float32 between 0 and 1, of log odds before calibration."""
    return (0.5 * (1 + np.tanh(0.5 * _straight(model.calibration, odds)))).astype(np.float32)


def _straight(curve: Curve, at: np.ndarray) -> np.ndarray:
    """The curve's values, its first and last pieces going on beyond its ends."""
    knots, values = np.array(curve.knots), np.array(curve.values)
    if len(knots) == 1:
        return values[0] + at - knots[0]
    piece = np.clip(np.searchsorted(knots, at) - 1, 0, len(knots) - 2)
    slope = np.diff(values) / np.diff(knots)
    return values[piece] + slope[piece] * (at - knots[piece])


def log_odds(model: ReliabilityModel, found: np.ndarray) -> np.ndarray:
    """(N,) float64 before calibration."""
    return model.intercept + contributions(model, found).sum(1)


def contributions(model: ReliabilityModel, found: np.ndarray) -> np.ndarray:
    """(N, F) what each feature adds to the log odds: the explanation of a reliability."""
    out = np.zeros(found.shape)
    for n, feature in enumerate(FEATURES):
        if feature.name in model.curves:
            curve, at = model.curves[feature.name], found[:, n].astype(float)
            out[:, n] = np.where(np.isnan(at), curve.missing, np.interp(at, curve.knots, curve.values))
    return out
