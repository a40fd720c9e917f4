"""What a detection is not: cosmic ray, dipole, residual of a bright star, edge, masked pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import minimum_filter

from gpudiff.arrays.afar import holes
from gpudiff.arrays.measure import PointFit, forced
from gpudiff.arrays.moments import axes, second_moments
from gpudiff.arrays.peaks import peaks
from gpudiff.arrays.rays import pairs_near, unrest_beside_others
from gpudiff.arrays.ridges import beside
from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.tables import flag
from gpudiff.science.quality import poor_at
from gpudiff.science.spikes import bright_stars, crowded, cut_by_edge, off_source, on_streaks
from gpudiff.science.streaks import glints

UNEXPLAINED = 0.15
"""Share of a source's squared signal to noise that the PSF must leave unexplained before it is called unlike it:
in a bright source even a PSF wrong by a few percent is noticed."""
CORE = 0.05
"""Share of the PSF's peak above which a pixel tells what shape the source has; farther out are its neighbours."""
EXCESS = 6.0
"""Sigmas of chi2 above which a source is not the PSF."""
NEAR = 4
"""Pixels within which a spoilt area counts."""
HIGH = 9.0
"""Variance over the frame's median that is called high: three times the noise."""
LONG = 1.15
"""Major second moment over the PSF's above which a source has a direction."""
NO_GLINT = ("EDGE", "COSMIC_RAY", "DIPOLE", "BRIGHT_STAR", "STREAK", "SPIKE")
UNSEEN = 0.15
"""Share of a source's information on unusable pixels above which it is not trusted alone."""
APART = 1.2
"""Times the threshold that a source's signal to noise apart from unusable pixels must be, to be trusted."""
WINGS, SURELY = 4.0, 3.0
"""FWHM round a star within which its light may be left by the kernel, and errors of what is left to be sure."""
TOGETHER = 1 << 19
"""Detections with a star beside them, times stars, that are compared at a time: all those of a crowded field would
fill the memory."""
SAME = 3.0, 0.05
"""Errors, and share of its flux, by which a source may differ from what pixels apart from unusable ones say."""


@dataclass(frozen=True)
class Shapes:
    """How each detection compares with the PSF, all (N,).

    noticed : bool, chi2 of the PSF fit too large for noise; unlike : bool, and by a good part of the source
    pointed : bool, one or two pixels alone explain the light better than the PSF does
    sharpness, sharpness_error : peak over its neighbours against the PSF's, 1 for a point source
    apart : signal to noise in the pixels that touch no unusable one; 0 where their flux is not the source's
    major, minor : second moments along the axes over the PSF's mean one, inf beyond the weight (`moments.axes`)
    angle : of the major axis from +x to +y, degrees
    """

    noticed: np.ndarray
    unlike: np.ndarray
    pointed: np.ndarray
    sharpness: np.ndarray
    sharpness_error: np.ndarray
    apart: np.ndarray
    major: np.ndarray
    minor: np.ndarray
    angle: np.ndarray

    @classmethod
    def of(
        cls,
        difference: Difference,
        y: np.ndarray,
        x: np.ndarray,
        data: np.ndarray,
        weight: np.ndarray,
        psf: np.ndarray,
        fit: PointFit,
    ) -> "Shapes":
        """Shapes from the stamps the sources were measured on."""
        inner = np.where(fit.profile > CORE * fit.profile.max((1, 2), keepdims=True), weight, 0)
        freedom = np.maximum((inner > 0).sum((1, 2)) - 3, 1)
        model = fit.flux[:, None, None] * fit.profile
        chi2 = (inner * (data - model) ** 2).sum((1, 2))
        power = (inner * model**2).sum((1, 2))
        own = (inner.astype(float) ** 2 * np.abs(model)).sum((1, 2)) / difference.science.gain
        excess = chi2 - own - freedom
        noticed = excess > EXCESS * np.sqrt(2 * freedom)
        unlike = noticed & (excess > UNEXPLAINED * power)
        centre, ring = _core(data), _core(fit.profile)
        expected = fit.flux * (ring[0] - ring[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            sharpness = (centre[0] - centre[1]) / expected
            noise = np.sqrt(1.125 / np.maximum(weight[:, weight.shape[1] // 2, weight.shape[1] // 2], 1e-30))
            error = np.abs(noise / expected)
        pointed = _pointed(data, weight, fit)
        apart = _apart(data, weight, fit)
        return cls(noticed, unlike, pointed, sharpness, error, apart, *_axes(data, psf, fit))


def _apart(data: np.ndarray, weight: np.ndarray, fit: PointFit) -> np.ndarray:
    """(N,) `Shapes.apart`: what a cosmic ray leaves lies beside the pixels that are masked for it."""
    alone = np.where(minimum_filter(weight > 0, (1, 3, 3), mode="nearest"), weight, 0)
    flux, error = forced(data, alone, fit.profile)
    same = np.abs(flux - fit.flux) < SAME[0] * error + SAME[1] * np.abs(fit.flux)
    return np.where(same, np.abs(flux) / error, 0)


def _pointed(data: np.ndarray, weight: np.ndarray, fit: PointFit) -> np.ndarray:
    """(N,) bool: the best pixel, or pair of neighbours, near the middle is more significant than the PSF flux.

    chi2 falls by the square of a model's significance, so the more significant model is the better one; it
    must also exceed what the PSF puts there by 3 sigma.
    """
    half = data.shape[1] // 2
    sign = np.sign(fit.flux)[:, None, None]
    root = np.sqrt(weight)
    seen, expected = data * sign * root, np.abs(fit.flux)[:, None, None] * fit.profile * root
    best, model = np.zeros(len(data)), np.zeros(len(data))
    for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1)):
        count = 1 if dy == dx == 0 else 2
        for j in (half - 1, half, half + 1):
            for i in (half - 1, half, half + 1):
                both = [
                    image[:, j, i] + (image[:, j + dy, i + dx] if count == 2 else 0) for image in (seen, expected)
                ]
                better = both[0] / count**0.5 > best
                best = np.where(better, both[0] / count**0.5, best)
                model = np.where(better, both[1] / count**0.5, model)
    significance = np.abs(fit.flux) * np.sqrt((weight * fit.profile.astype(float) ** 2).sum((1, 2)))
    return (best > significance) & (best > model + 3)


def _core(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(middle pixel, mean of its eight neighbours) of each stamp."""
    half = images.shape[1] // 2
    middle = images[:, half, half]
    block = images[:, half - 1 : half + 2, half - 1 : half + 2].sum((1, 2))
    return middle, (block - middle) / 8


def _axes(data: np.ndarray, psf: np.ndarray, fit: PointFit) -> tuple[np.ndarray, ...]:
    """(major, minor, angle) by moments under a weight that a trail of a few pixels fits in."""
    half = psf.shape[1] // 2
    width = np.sqrt(1 / (2 * np.pi * np.maximum(np.median(psf[:, half, half]), 1e-6)))
    sign = np.sign(fit.flux)[:, None, None]
    major, minor, angle = axes(data * sign, 2 * width)
    point = second_moments(psf, 2 * width)
    mean = 0.5 * (point[:, 0] + point[:, 1])
    return major / mean, minor / mean, angle


def flags_of(
    difference: Difference,
    y: np.ndarray,
    x: np.ndarray,
    columns: dict[str, Any],
    fit: PointFit,
    shapes: Shapes,
    length: np.ndarray,
    angle: np.ndarray,
    doubled: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """(N,) int64 bits of model.tables.FLAGS; length, angle, doubled : as science.trails.Trails has them."""
    trailed = length > 0
    out = np.zeros(len(y), np.int64)

    def mark(name: str, where: np.ndarray) -> None:
        out[where] |= flag(name)

    height, width = difference.image.shape
    reach = 2 * difference.quality.science_fwhm
    middle_of = columns["y"], columns["x"]
    mark("EDGE", np.minimum.reduce([y, x, height - 1 - y, width - 1 - x]) < reach)
    mark("EDGE", cut_by_edge(difference, (y, x), middle_of, length, angle))
    bits = stamps(difference.mask, y, x, 2 * NEAR)
    touching, near = (bits[:, rim:-rim, rim:-rim] for rim in (2 * NEAR - 1, NEAR))
    masked = (touching & bit("NO_DATA", "BAD", "CR", "SAT", "SAT_TEMPLATE") != 0).any((1, 2))
    masked |= fit.seen < 1 - UNSEEN
    wings = (near & bit("SUSPECT") != 0).any((1, 2))
    saturated = (bits & bit("SAT", "SAT_TEMPLATE") != 0).any((1, 2))
    mark("MASKED", wings | (masked & (saturated | (shapes.apart < APART * threshold))))
    mark("SATURATED", saturated)
    light = beside(difference.score, y, x, difference.quality.science_fwhm)
    mark("STREAK", on_streaks(difference, y, x, light, threshold))
    mark("CENTROID", ~fit.converged)
    mark("DIPOLE", columns["isDipole"])
    sharp = ~trailed & (shapes.pointed | (shapes.unlike & sharper(shapes)))
    mark("COSMIC_RAY", sharp)
    mark("NOT_POINT_LIKE", shapes.unlike & ~sharp & ~trailed)
    stars = bright_stars(difference)
    size = columns["snr"]
    residual = _explained(difference, y, x, size, threshold) | crowded(
        stars, y, x, difference.quality.science_fwhm
    )
    mark("BRIGHT_STAR", residual)
    mark("HIGH_VARIANCE", difference.variance[y, x] > HIGH * difference.usual_variance)
    mark("POOR_SUBTRACTION", poor_at(difference, columns["y"], columns["x"], size, threshold))
    weak = np.abs(columns["psfFlux"]) < 0.6 * threshold * columns["psfFluxErr"]
    mark("ONLY_IN_SCORE", weak | (np.sign(columns["psfFlux"]) != np.where(columns["isNegative"], -1, 1)))
    ray, patch = off_source(difference, stars, light, y, x, middle_of, length, angle, threshold)
    mark("SPIKE", ray)
    mark("NOT_POINT_LIKE", patch)
    mark("STREAK", _in_rows(difference, np.where(doubled, flag(*NO_GLINT), out), columns, shapes))
    return out


def _in_rows(difference: Difference, flags: np.ndarray, columns: dict[str, Any], shapes: Shapes) -> np.ndarray:
    """(N,) bool: glints, among the detections that nothing but their shape speaks against."""
    out = np.zeros(len(flags), bool)
    with np.errstate(invalid="ignore"):
        long = shapes.noticed & (shapes.major > LONG)
    for negative in (False, True):
        rows = np.nonzero((flags & flag(*NO_GLINT) == 0) & (columns["isNegative"] == negative))[0]
        out[rows] = glints(difference, columns["y"][rows], columns["x"][rows], long[rows], shapes.angle[rows])
    return out


def sharper(shapes: Shapes) -> np.ndarray:
    """Sharper than the PSF: light in one pixel, or across a track thinner than the PSF."""
    with np.errstate(invalid="ignore"):
        thin = ~(shapes.minor > 0.5)
        return (shapes.sharpness > 3 + 4 * shapes.sharpness_error) | (
            thin & (shapes.sharpness > 1 + 2 * shapes.sharpness_error)
        )


# ---------------------------------------------------------------- bright stars
def _kernel_error(difference: Difference, y: np.ndarray, x: np.ndarray, significance: np.ndarray) -> float:
    """Fraction of a star's signal to noise that the difference leaves at static stars, beyond the noise.

    Measured at the template's stars: the largest |score| within one FWHM, what noise alone makes of it taken
    out, over the star's own signal to noise; their median, so that a variable one among them says nothing.
    0 when the kernel is as good as the noise.
    y, x, significance : from `_static_stars`
    """
    if len(y) == 0:
        return 0.0
    half = max(2, round(difference.quality.science_fwhm))
    worst = np.abs(stamps(difference.score, y, x, half)).reshape(len(y), -1).max(1)
    excess = np.sqrt(np.maximum(worst**2 - 3.5**2, 0))
    return float(np.median(excess / significance))


def _static_stars(difference: Difference) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, x, signal to noise) of the matched template's stars above 50 sigma that the difference covers."""
    y, x = peaks(difference.matched, 5 * np.sqrt(difference.usual_variance), holes(difference.image))
    covered = np.isfinite(stamps(difference.image, y, x, 4)).all((1, 2))
    y, x = y[covered], x[covered]
    significance = _significance(difference, y, x)
    bright = significance > 50
    return y[bright], x[bright], significance[bright]


def _significance(difference: Difference, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) signal to noise that the brightest template pixel within reach would have as a star.

    Within 3 px; where the kernel had to sharpen, within 1.5 FWHM, for there it leaves rings.
    """
    quality = difference.quality
    widths = quality.science_fwhm, quality.template_fwhm
    convolved, target = widths if quality.convolved == "SCIENCE" else widths[::-1]
    reach = max(3, round(1.5 * target)) if convolved > target else 3
    psf = difference.psf[4].astype(float)
    plain = difference.matched_psf[4].astype(float)
    flux = np.maximum(stamps(difference.matched, y, x, reach).max((1, 2)), 0) / plain.max()
    variance = np.nan_to_num(difference.variance[y, x], nan=np.inf)
    return flux * np.sqrt((psf**2).sum() / variance)


def _explained(
    difference: Difference, y: np.ndarray, x: np.ndarray, size: np.ndarray, threshold: float
) -> np.ndarray:
    """Detections, of |score| `size`, that the kernel's error explains, at a star beneath or in stars' wings."""
    stars = _static_stars(difference)
    star = _kernel_error(difference, *stars) * _significance(difference, y, x)
    return size < threshold * np.sqrt(1 + np.maximum(star**2, _in_wings(difference, y, x, *stars)))


def _in_wings(
    difference: Difference,
    y: np.ndarray,
    x: np.ndarray,
    star_y: np.ndarray,
    star_x: np.ndarray,
    significance: np.ndarray,
) -> np.ndarray:
    """(N,) variance of the score beyond noise that the kernel's error surely makes at a star beside a detection.

    Measured at the same place beside the other static stars: of a kernel that is wrong in the wings.
    """
    out = np.zeros(len(y))
    pairs = pairs_near((y, x), (star_y, star_x), WINGS * difference.quality.science_fwhm)
    for n, s in zip(*(np.array_split(one, 1 + len(one) * len(star_y) // TOGETHER) for one in pairs), strict=True):
        offset = y[n] - star_y[s], x[n] - star_x[s]
        excess, error = unrest_beside_others(difference.score, offset, s, (star_y, star_x), significance)
        np.maximum.at(out, n, excess - SURELY * error)
    return out
