"""Detections that are dipoles: residuals of a star that moved, or that was subtracted at the wrong place."""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.dipole import DipoleFit, fit_dipoles
from gpudiff.arrays.measure import Cut, PointFit, forced, own_photons
from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.science.forced import own_variance, with_photons

LOBE, SHARE = 3.5, 0.4
"""Score of the other sign, and its share of the detection's, that make a lobe."""
LOOK = 0.7
"""Of both: what is fitted, so that a fit is there to compare with."""
APART = 5.5
"""Pixels, or 1.1 FWHM if that is more, from which on two lobes are two sources."""
BRIGHTER = 3.0
"""Times the lobes' flux that the template has there, when they are left of a bright star however far apart."""
RESOLVED = 0.7
"""FWHM from which on the two lobes' fluxes are told apart by the difference alone."""
PARAMETERS = 3
"""That a dipole has more than a point source."""
GAIN = 9.0
"""chi2 that a dipole of a star of the template must win over a point source: where the template says how bright
and where the star is, either has three unknowns."""
MOST = 300
"""Detections that are fitted, the brightest; a frame with more of them has failed."""
STAR = 10.0
"""Signal to noise of the template's light above which it says how bright the negative lobe is."""
TRUST = 0.01
"""Fraction of the template's light by which no PSF is trusted."""
AGREE = 9.0
"""chi2 by which the fit to difference and template may explain the difference worse than that to it alone."""


@dataclass(frozen=True)
class Dipoles:
    """What the dipole fit says of each detection, all (N,); NaN and 0 pixels where none was attempted.

    attempted : bool, there is a lobe of the other sign beside it; found : bool, and it is a dipole
    mean, mean_error : flux of a lobe; more, more_error : of the positive less that of the negative one
    length : pixels; angle : degrees from +x to +y, from the negative to the positive lobe
    chi2, pixels : of the fit to the difference
    """

    attempted: np.ndarray
    found: np.ndarray
    mean: np.ndarray
    mean_error: np.ndarray
    more: np.ndarray
    more_error: np.ndarray
    length: np.ndarray
    angle: np.ndarray
    chi2: np.ndarray
    pixels: np.ndarray

    def columns(self) -> dict[str, np.ndarray]:
        """Under the names of model.tables.DIASOURCE."""
        return {
            "isDipole": self.found,
            "dipoleFitAttempted": self.attempted,
            "dipoleMeanFlux": self.mean,
            "dipoleMeanFluxErr": self.mean_error,
            "dipoleFluxDiff": self.more,
            "dipoleFluxDiffErr": self.more_error,
            "dipoleLength": self.length,
            "dipoleAngle": self.angle,
            "dipoleChi2": self.chi2,
            "dipoleNdata": self.pixels,
        }


def find_dipoles(
    difference: Difference, y: np.ndarray, x: np.ndarray, here: Cut, behind: Cut, point: PointFit
) -> Dipoles:
    """The dipoles among detections at (y, x), which are ordered brightest first.

    A dipole has a lobe of the other sign, nearer than two sources could be told from one detection, and two PSFs
    explain it better than one by more than their parameters cost (Schwarz 1978).

    here : the difference there, which `point` was fitted to; behind : the matched template there
    """
    fwhm = difference.quality.science_fwhm
    depth, place = _lobes(difference.score, y, x, fwhm, here.data.shape[1] // 2)
    peak = np.abs(difference.score[y, x])
    rows = np.nonzero((depth > LOOK * LOBE) & (depth > LOOK * SHARE * peak))[0][:MOST]
    here, behind = here.take(rows), behind.take(rows)
    start = _start(here, np.sign(difference.score[y, x])[rows], peak[rows], depth[rows], place[rows])
    fit, of_star = _fit(here, behind, start)
    gain = point.chi2[rows] - fit.chi2
    cost = PARAMETERS * np.log(np.maximum(fit.pixels, 2))
    found = (depth > LOBE) & (depth > SHARE * peak)
    found[rows] = np.where(of_star, gain > GAIN, found[rows] & (gain > cost)) & (
        _one(fit, fwhm, behind) | _spoilt(difference.mask, y[rows] + place[rows, 0], x[rows] + place[rows, 1])
    )
    mean, more = fit.parameters[:, :2].T
    mean_error, more_error = _flux_errors(difference, here, fit)

    def spread(values: np.ndarray, other: float = np.nan) -> np.ndarray:
        out = np.full(len(y), other, values.dtype)
        out[rows] = values
        return out

    return Dipoles(
        attempted=spread(np.ones(len(rows), bool), False),
        found=found,
        mean=spread(mean),
        mean_error=spread(mean_error),
        more=spread(more),
        more_error=spread(more_error),
        length=spread(fit.length),
        angle=spread(fit.angle),
        chi2=spread(fit.chi2),
        pixels=spread(fit.pixels, 0),
    )


def _flux_errors(difference: Difference, here: Cut, fit: DipoleFit) -> tuple[np.ndarray, np.ndarray]:
    """(of the mean, of the difference of the lobes' fluxes) (N,), with the photons of one lobe that the variance
    plane lacks, less those of the other that it has too many (`own_variance`).
    """
    known = fit.covariance.diagonal(axis1=1, axis2=2)[:, :2] * difference.quality.score_scale**2
    photons = fit.parameters[:, 1] * own_variance(difference) * own_photons(here.psf, here.weight)
    return np.sqrt(with_photons(known[:, 0], photons / 4)), np.sqrt(with_photons(known[:, 1], photons))


def _one(fit: DipoleFit, fwhm: float, behind: Cut) -> np.ndarray:
    """(N,) bool: the lobes are of one star, not two sources, nor one beside a residual."""
    light, _ = forced(behind.data, behind.weight, behind.psf)
    lobes = np.sort(fit.lobes, 1)
    uneven = (fit.length > RESOLVED * fwhm) & (lobes[:, 0] < SHARE * lobes[:, 1])
    with np.errstate(invalid="ignore"):
        star = light > BRIGHTER * fit.parameters[:, 0]
    return star | ((fit.length < max(APART, 1.1 * fwhm)) & ~uneven)


def _spoilt(mask: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) bool: what lies there, or within 3 px, is no source: a streak, or light of a saturated star."""
    return (stamps(mask, y, x, 3) & bit("STREAK", "SUSPECT", "SAT", "SAT_TEMPLATE", "NO_DATA") != 0).any((1, 2))


def _lobes(
    score: np.ndarray, y: np.ndarray, x: np.ndarray, fwhm: float, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """(depth (N,), place (N, 2) y, x from it) of the deepest score of the other sign within 1.5 FWHM of each."""
    half = min(max(3, round(1.5 * fwhm)), most)
    around = stamps(score, y, x, half) * -np.sign(score[y, x])[:, None, None]
    flat = around.reshape(len(y), -1)
    at = flat.argmax(1)
    return flat.max(1), np.stack(np.divmod(at, 2 * half + 1), 1) - half


def _start(here: Cut, sign: np.ndarray, peak: np.ndarray, depth: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N, 6) where the fit starts: the lobes at the score's extremes, as bright as these."""
    error = 1 / np.sqrt(np.maximum((here.weight * here.psf.astype(float) ** 2).sum((1, 2)), 1e-30))
    mean, more = error * (peak + depth) / 2, error * sign * (peak - depth)
    return np.column_stack([mean, more, place / 2, -sign[:, None] * place])


def _fit(here: Cut, behind: Cut, start: np.ndarray) -> tuple[DipoleFit, np.ndarray]:
    """(the fit, (N,) bool: to difference and template, where the template has a star and both agree)."""
    alone = fit_dipoles(here, start)
    doubt = 1 + behind.weight * (TRUST * behind.data) ** 2
    behind = Cut(behind.data, behind.weight / doubt, behind.psf)
    light, error = forced(behind.data, behind.weight, behind.psf)
    with np.errstate(invalid="ignore"):
        star = light > STAR * error
    nearer = start[star]
    nearer[:, 4:] *= nearer[:, :1] / light[star, None]
    nearer[:, 0] = light[star]
    both = fit_dipoles(here.take(star), nearer, behind.take(star))
    rows = np.nonzero(star)[0]
    star[rows] = agree = both.chi2 < alone.chi2[rows] + AGREE
    return alone.with_rows(rows, both, agree), star
