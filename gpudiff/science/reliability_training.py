"""Trains the real/bogus model: additive, monotone where it must be, calibrated on frames it was not fitted to.

Boosted stumps with monotone constraints (scikit-learn's HistGradientBoostingClassifier) are a sum of one curve a
feature; the curves are read off and kept, and the trees forgotten.  So inference is a table look-up, and every
reliability can be taken apart feature by feature (generalised additive model; Lou, Caruana & Gehrke 2012).
"""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.errors import NoUsablePixels
from gpudiff.model.provenance import digest
from gpudiff.model.reliability import FEATURES, Curve, ReliabilityModel
from gpudiff.science.reliability import log_odds

KNOTS = 12
FEWEST = 30
"""Reals and bogus each, below which nothing is trained."""
HELD_OUT = 3
"""Every third frame calibrates and judges, and is not fitted to."""


@dataclass(frozen=True)
class Sample:
    """Detections with labels: features (N, F), real (N,) bool, frame (N,) int number of the frame each is of."""

    features: np.ndarray
    real: np.ndarray
    frame: np.ndarray

    def take(self, rows: np.ndarray) -> "Sample":
        return Sample(self.features[rows], self.real[rows], self.frame[rows])

    def split(self) -> tuple["Sample", "Sample"]:
        """(to fit, held out), by whole frames."""
        held = self.frame % HELD_OUT == HELD_OUT - 1
        return self.take(~held), self.take(held)


def join(samples: list[Sample]) -> Sample:
    """All of them, in order."""
    return Sample(*(np.concatenate([getattr(s, n) for s in samples]) for n in ("features", "real", "frame")))


def train(sample: Sample, name: str, only: tuple[str, ...] | None = None) -> ReliabilityModel:
    """The model of a sample, which has the same digest and the same numbers each time.

    name : begins the version; only : the features it may look at, all of FEATURES when None
    Raises NoUsablePixels for fewer than 30 reals or bogus in the part to fit or the part held out.
    """
    fit, held = sample.split()
    for part, rows in (("to fit", fit), ("held out", held)):
        real = int(rows.real.sum())
        if min(real, len(rows.real) - real) < (FEWEST if part == "to fit" else FEWEST // HELD_OUT):
            raise NoUsablePixels(
                f"{part}: expected {FEWEST} real and {FEWEST} bogus detections at the least (a third of them "
                f"held out), got {real} and {len(rows.real) - real}: more frames are needed"
            )
    made = digest(*(np.ascontiguousarray(a).tobytes() for a in (sample.features, sample.real, sample.frame)))
    real = int(sample.real.sum())
    curves, intercept = _curves(fit, only)
    plain = ReliabilityModel(
        f"{name}-{made[:8]}", made, intercept, curves, (1.0, 0.0), real, len(sample.real) - real
    )
    slope, offset = _platt(log_odds(plain, held.features), held.real)
    return ReliabilityModel(**{**plain.__dict__, "calibration": (slope, offset)})


def _curves(fit: Sample, only: tuple[str, ...] | None) -> tuple[dict[str, Curve], float]:
    """(curves by feature, intercept), read off an additive ensemble of stumps."""
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
    return curves, round(level, 4)


def _knots(values: np.ndarray) -> np.ndarray:
    """At most KNOTS of the values, at even shares of them and at the ends."""
    return np.unique(np.nanquantile(values, np.linspace(0, 1, KNOTS), method="nearest").round(4))


def _platt(odds: np.ndarray, real: np.ndarray) -> tuple[float, float]:
    """(slope, offset) with which the log odds are a probability's (Platt 1999)."""
    from sklearn.linear_model import LogisticRegression

    made = LogisticRegression(C=10.0).fit(odds[:, None], real)
    return round(float(made.coef_[0, 0]), 4), round(float(made.intercept_[0]), 4)


# ---------------------------------------------------------------- how good
def area(score: np.ndarray, real: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a real one scores above a bogus one, ties half."""
    order = np.concatenate([score[real], score[~real]])
    _, inverse, counts = np.unique(order, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - 0.5 * (counts - 1))[inverse]
    n, m = int(real.sum()), int((~real).sum())
    return float((rank[:n].sum() - n * (n + 1) / 2) / (n * m)) if n and m else float("nan")


def calibration(score: np.ndarray, real: np.ndarray, bins: int = 10) -> list[tuple[float, float, float, int]]:
    """(mean reliability, share of reals, its binomial error, count) in bins of equal width that hold any."""
    number = np.minimum((score * bins).astype(int), bins - 1)
    out = []
    for n in range(bins):
        here = number == n
        if here.any():
            share, count = float(real[here].mean()), int(here.sum())
            error = float(np.sqrt((share * count + 1) * ((1 - share) * count + 1) / (count + 2) ** 3))
            out.append((float(score[here].mean()), share, error, count))
    return out


def calibration_error(score: np.ndarray, real: np.ndarray, bins: int = 10) -> float:
    """Mean distance of the share of reals from the reliability, each bin by its count (ECE)."""
    rows = calibration(score, real, bins)
    return sum(abs(mean - share) * count for mean, share, _, count in rows) / max(len(score), 1)
