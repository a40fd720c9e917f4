"""Which detections are real: by the truth of a simulation, or by stars put into the survey's own frames.

Of a real night nobody knows the truth.  What was put in is real.  What was found without being put in is called
bogus, unless an unflagged detection of another visit lies at the same place: such a pair may be a variable star,
and is left out.  So the bogus hold what really changed and was seen in a single visit only: label noise, which
makes the model too careful, the more so the cleaner the field and the fewer its visits.
"""

import dataclasses

import numpy as np

from gpudiff.arrays.measure import shifted
from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Difference, Frame
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.tables import Table
from gpudiff.science.recovery import RADIUS_PX, distances

MIDDLE = 4
SNR = 5.0, 60.0
"""Signal to noise of what is injected, evenly in its logarithm."""
ON_LIGHT = 1 / 3
"""Share that is put onto light of the template, as supernovae are onto galaxies."""
SAME_ARCSEC = 1.5


def by_truth(sources: Table, truth: Table) -> np.ndarray:
    """(N,) bool: within 3 px of a change of that sign, or of its trail.  truth : Table of TRUTH, of one frame."""
    changes = truth.take(truth["objectId"] > 0)
    if len(changes) == 0 or len(sources) == 0:
        return np.zeros(len(sources), bool)
    near = distances(changes, sources["x"], sources["y"]) <= RADIUS_PX
    sign = (changes["flux"] < 0) == sources["isNegative"][:, None]
    return (near & sign).any(1)


def inject(frame: Frame, difference: Difference, seed: int, count: int) -> tuple[Frame, np.ndarray, np.ndarray]:
    """(the frame with stars added, their x, their y).

    difference : of that very frame, for its PSF and noise.  Stars keep off unusable pixels and 20 px from the
    edge; a third of them lie on light of the template.  They carry their photons' noise where the gain is known.
    """
    random = np.random.default_rng(seed)
    y, x = _places(difference, random, count)
    psf = np.maximum(difference.science_psf[MIDDLE], 0)
    psf = psf / psf.sum()
    noise = np.sqrt(difference.variance[y, x] / (psf.astype(float) ** 2).sum())
    flux = noise * np.exp(random.uniform(np.log(SNR[0]), np.log(SNR[1]), len(y)))
    dy, dx = random.uniform(-0.5, 0.5, (2, len(y)))
    light = flux[:, None, None] * np.maximum(shifted(np.repeat(psf[None], len(y), 0), dy, dx), 0)
    if np.isfinite(difference.science.gain):
        light = random.poisson(light * difference.science.gain) / difference.science.gain
    image = np.array(frame.image, np.float32)
    half = psf.shape[0] // 2
    for row, column, star in zip(y, x, light, strict=True):
        _add(image, row - half, column - half, star)
    return dataclasses.replace(frame, image=image, digest=""), x + dx, y + dy


def injected(sources: Table, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) bool: positive, and within 2 px of what was put in at x, y."""
    away = np.hypot(sources["x"][:, None] - x, sources["y"][:, None] - y).min(1, initial=np.inf)
    return (away <= 2) & ~sources["isNegative"]


def repeated(sources: Table, others: Table) -> np.ndarray:
    """(N,) bool: an unflagged detection of another visit lies within 1.5 arcsec, and this one is unflagged too."""
    others = others.take(~others["flagged"])
    if len(sources) == 0 or len(others) == 0:
        return np.zeros(len(sources), bool)
    dec = np.radians(sources["dec"])[:, None]
    east = (sources["ra"][:, None] - others["ra"] + 180) % 360 - 180
    away = np.hypot(east * np.cos(dec), sources["dec"][:, None] - others["dec"]) * 3600
    elsewhere = sources["visit"][:, None] != others["visit"]
    return ((away <= SAME_ARCSEC) & elsewhere).any(1) & ~sources["flagged"]


def _places(difference: Difference, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) whole pixels, `count` of them or fewer."""
    height, width = difference.image.shape
    y, x = random.integers(20, height - 20, 20 * count), random.integers(20, width - 20, 20 * count)
    clean = (stamps(difference.mask, y, x, 3) & bit(*UNUSABLE) == 0).all((1, 2))
    y, x = y[clean], x[clean]
    lit = difference.matched[y, x] > 5 * np.sqrt(difference.variance[y, x])
    on, off = np.flatnonzero(lit), np.flatnonzero(~lit)
    wanted = min(round(count * ON_LIGHT), len(on))
    rows = np.concatenate([on[:wanted], off[: count - wanted]])
    return y[rows], x[rows]


def _add(image: np.ndarray, top: int, left: int, star: np.ndarray) -> None:
    """Add a stamp to the image where it lies on it."""
    height, width = image.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + len(star), height), min(left + len(star), width)
    image[y0:y1, x0:x1] += star[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32)
