"""Trains the real/bogus model: additive, monotone where it must be, calibrated by frames that were not fitted to.

Boosted stumps with monotone constraints (scikit-learn's HistGradientBoostingClassifier) are a sum of one curve a
feature; the curves are read off and kept, and the trees forgotten.  So inference is a table look-up, and every
reliability can be taken apart feature by feature (generalised additive model; Lou, Caruana & Gehrke 2012).

Every frame is fitted to, and calibrates too: for that its detections' odds are those of curves that were fitted to
other frames only (cross-fitting).
"""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.errors import NoUsablePixels
from gpudiff.model.provenance import digest
from gpudiff.model.reliability import FEATURES, Curve, ReliabilityModel
from gpudiff.science.reliability import log_odds

KNOTS, BINS = 12, 10
FEWEST = 30
"""Reals and bogus each, below which nothing is trained."""
LEAST_POOL = 100
"""Detections behind a knot of the calibration: a share of nine tenths is known to 3 % by so many."""
FOLDS = 6
"""Parts of the frames that are left out in turn: so many that what is fitted to the others tells as much as
what is fitted to all (with 3, of what is called 0.46 real were 0.52)."""


AS_IT_IS = Curve((0.0, 1.0), (0.0, 1.0), 0.0)
"""A calibration that changes nothing."""


@dataclass(frozen=True)
class Sample:
    """Detections with labels: features (N, F), real (N,) bool, frame (N,) int number of the frame each is of."""

    features: np.ndarray
    real: np.ndarray
    frame: np.ndarray

    def take(self, rows: np.ndarray) -> "Sample":
        return Sample(self.features[rows], self.real[rows], self.frame[rows])

    def folds(self) -> list[np.ndarray]:
        """FOLDS masks (N,) bool that part the detections by whole frames."""
        number = np.unique(self.frame, return_inverse=True)[1] % FOLDS
        return [number == fold for fold in range(FOLDS)]


def join(samples: list[Sample]) -> Sample:
    """All of them, in order."""
    return Sample(*(np.concatenate([getattr(s, n) for s in samples]) for n in ("features", "real", "frame")))


def train(sample: Sample, name: str, only: tuple[str, ...] | None = None) -> ReliabilityModel:
    """The model of a sample, which has the same digest and the same numbers each time.

    name : begins the version; only : the features it may look at, all of FEATURES when None
    Raises NoUsablePixels for fewer than 30 reals or bogus, or a sixth of that where some frames are left out.
    """
    everyone = np.ones(len(sample.real), bool)
    for rows, least in ((everyone, FEWEST), *((~fold, FEWEST // FOLDS) for fold in sample.folds())):
        real = int(sample.real[rows].sum())
        if min(real, int(rows.sum()) - real) < least:
            raise NoUsablePixels(
                f"expected {FEWEST} real and {FEWEST} bogus detections at the least, {FEWEST // FOLDS} of them "
                f"with every sixth frame left out, got {real} and {int(rows.sum()) - real}: more frames are needed"
            )
    made = digest(*(np.ascontiguousarray(a).tobytes() for a in (sample.features, sample.real, sample.frame)))
    real = int(sample.real.sum())
    calibrated = _calibration(held_out_odds(sample, only), sample.real)
    version, counts = f"{name}-{made[:8]}", (real, len(sample.real) - real)
    return ReliabilityModel(version, made, *_curves(sample, only), calibrated, *counts)


def held_out_odds(sample: Sample, only: tuple[str, ...] | None = None) -> np.ndarray:
    """(N,) log odds before calibration, each by curves that were fitted to the other frames."""
    odds = np.empty(len(sample.real))
    for fold in sample.folds():
        intercept, curves = _curves(sample.take(~fold), only)
        odds[fold] = log_odds(ReliabilityModel("", "", intercept, curves, AS_IT_IS, 0, 0), sample.features[fold])
    return odds


def _curves(fit: Sample, only: tuple[str, ...] | None) -> tuple[float, dict[str, Curve]]:
    """(intercept, curves by feature), read off an additive ensemble of stumps."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    columns = [n for n, feature in enumerate(FEATURES) if only is None or feature.name in only]
    seen = fit.features[:, columns].astype(float)
    columns = [n for n, values in zip(columns, seen.T, strict=True) if len(np.unique(values)) > 1]
    seen = fit.features[:, columns].astype(float)
    trees = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.1,
        max_leaf_nodes=2,
        min_samples_leaf=10,
        l2_regularization=1.0,
        monotonic_cst=[FEATURES[n].direction for n in columns],
        early_stopping=False,
        random_state=0,
    ).fit(seen, fit.real)
    middle = np.nanmedian(seen, axis=0)
    level = float(trees.decision_function(middle[None])[0])
    curves = {}
    for at, n in enumerate(columns):
        knots = _knots(seen[:, at])
        probes = np.repeat(middle[None], len(knots) + 1, axis=0)
        probes[:, at] = [*knots, np.nan]
        added = trees.decision_function(probes) - level
        values = tuple(round(float(v), 4) for v in added[:-1])
        curves[FEATURES[n].name] = Curve(tuple(map(float, knots)), values, round(float(added[-1]), 4))
    return round(level, 4), curves


def _knots(values: np.ndarray) -> np.ndarray:
    """At most KNOTS of the values, at even shares of them and at the ends."""
    return np.unique(np.nanquantile(values, np.linspace(0, 1, KNOTS), method="nearest").round(4))


def _calibration(odds: np.ndarray, real: np.ndarray) -> Curve:
    """From the odds to the log odds of the share that is real: centred isotonic regression.

    Where the share does not rise detections are pooled (Barlow et al. 1972), LEAST_POOL of them at the least; a
    pool stands at its mean odds (Oron & Flournoy 2017), and one detection of each kind is added to it, half of it
    to either, so that no share is 0 or 1.
    """
    from sklearn.isotonic import IsotonicRegression

    order = np.argsort(odds, kind="stable")
    level = IsotonicRegression().fit_transform(odds[order], real[order].astype(float))
    pools: list[np.ndarray] = []
    for part in np.split(order, np.flatnonzero(np.diff(level)) + 1):
        small = bool(pools) and len(pools[-1]) < LEAST_POOL
        pools[-1:] = [np.concatenate([pools[-1], part])] if small else [*pools[-1:], part]
    if len(pools) > 1 and len(pools[-1]) < LEAST_POOL:
        pools[-2:] = [np.concatenate(pools[-2:])]
    count = np.array([len(pool) for pool in pools])
    knots = np.array([odds[pool].mean() for pool in pools])
    share = (np.array([real[pool].sum() for pool in pools]) + 0.5) / (count + 1)
    share = IsotonicRegression().fit(knots, share, count).predict(knots)  # what was added may have made it fall
    return Curve(tuple(knots.tolist()), tuple(np.log(share / (1 - share)).round(4).tolist()), 0.0)


# ---------------------------------------------------------------- how good
def area(score: np.ndarray, real: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a real one scores above a bogus one, ties half; NaN without both.

    score : (N,) any numbers; real : (N,) bool
    """
    order = np.concatenate([score[real], score[~real]])
    _, inverse, counts = np.unique(order, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
    n, m = int(real.sum()), int((~real).sum())
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def calibration(score: np.ndarray, real: np.ndarray) -> list[tuple[float, float, float, int]]:
    """(mean reliability, share of reals, its binomial error, count) in each of BINS equal bins that holds any.

    score : (N,) reliabilities, 0 to 1; real : (N,) bool
    """
    number = np.minimum((score * BINS).astype(int), BINS - 1)
    out = []
    for n in range(BINS):
        here = number == n
        if here.any():
            share, count = float(real[here].mean()), int(here.sum())
            error = float(np.sqrt((share * count + 1) * ((1 - share) * count + 1) / (count + 2) ** 3))
            out.append((float(score[here].mean()), share, error, count))
    return out


def calibration_error(score: np.ndarray, real: np.ndarray) -> float:
    """Mean distance of the share of reals from the reliability, each bin by its count (ECE)."""
    rows = calibration(score, real)
    return sum(abs(mean - share) * count for mean, share, _, count in rows) / max(len(score), 1)
