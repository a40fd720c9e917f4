"""Proper motion of DIAObjects: a weighted straight line through their positions, kept as sums.

What is kept beside the mean position is the mean time, the leverage sum w (t - mean)^2, and the slopes; one
more detection changes them as in Welford 1962 (Technometrics 4, 419), so no position has to be kept.  The
weight w is one over the mean variance of both axes.
"""

import numpy as np

from gpudiff.model.tables import Table

YEAR = 365.25
SIGNIFICANT = 5.0
"""A motion counts from so many sigma on, and with three detections or more over LEAST_SPAN."""
LEAST_SPAN = 20.0
"""Days; what moves within one night is no star."""
FLOOR = 0.05
"""Systematic error of one position, arcsec per axis, as in the association: it makes a motion less certain."""


def first_time(seen: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of motion of objects seen once, at (N,) MJD TAI."""
    none = np.full(len(seen), np.nan)
    return {
        "positionMjdTai": seen,
        "timeMoment": np.zeros(len(seen)),
        **{name: none for name in ("pmRa", "pmRaErr", "pmDec", "pmDecErr")},
    }


def one_more_time(
    objects: Table, seen: np.ndarray, offset: np.ndarray, weight: np.ndarray, new: np.ndarray
) -> dict[str, np.ndarray]:
    """The columns of motion after one more detection each.

    seen : (N,) MJD TAI, NaN leaves the motion as it is; offset : (N, 2) arcsec east and north, detection minus
    the object's mean before; weight, new : (N,) arcsec**-2, of the object and of the detection
    """
    mean, moment = objects["positionMjdTai"], objects["timeMoment"].astype(float)
    slope = np.nan_to_num(np.stack([objects["pmRa"], objects["pmDec"]], -1).astype(float)) / 1000
    apart = np.nan_to_num((seen - mean) / YEAR)
    share = weight * new / (weight + new)
    after = moment + share * apart**2
    cross = slope * moment[:, None] + (share * apart)[:, None] * offset
    variance = 1 + FLOOR**2 * (weight + new) / (objects["nDiaSources"] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        motion = np.where(after > 0, cross.T / after, np.nan) * 1000
        error = np.where(after > 0, np.sqrt(variance / after), np.nan) * 1000
    time = np.where(np.isnan(mean), seen, mean + np.nan_to_num(seen - mean) * new / (weight + new))
    moved = {"pmRa": motion[0], "pmDec": motion[1], "pmRaErr": error, "pmDecErr": error}
    return {"positionMjdTai": time, "timeMoment": after, **moved}


def shift(objects: Table, mjd_tai: float) -> np.ndarray:
    """(N, 2) arcsec east and north by which significant proper motions have moved objects at a time."""
    span = objects["lastDiaSourceMjdTai"] - objects["firstDiaSourceMjdTai"]
    motion = np.stack([objects["pmRa"], objects["pmDec"]], -1) / 1000
    error = np.hypot(objects["pmRaErr"], objects["pmDecErr"]) / 1000 / np.sqrt(2)
    with np.errstate(invalid="ignore"):
        sure = (np.hypot(*motion.T) > SIGNIFICANT * error) & (span >= LEAST_SPAN) & (objects["nDiaSources"] >= 3)
        years = (mjd_tai - objects["positionMjdTai"]) / YEAR
    return np.where((sure & np.isfinite(years))[:, None], motion * years[:, None], 0.0)
