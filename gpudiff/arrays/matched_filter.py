"""Signal to noise of a point source at every pixel, and the pixels where it is large."""

import numpy as np
from scipy.signal import oaconvolve

from gpudiff.model.errors import BadPsf, WrongShape

Peaks = tuple[np.ndarray, np.ndarray, np.ndarray]


def matched_filter(
    difference: np.ndarray, variance: np.ndarray, psf: np.ndarray, threshold: float
) -> tuple[np.ndarray, Peaks]:
    """The score plane, and (y, x, score) of the pixels where |score| >= threshold.

    difference, variance : (H, W) float32, any unit and its square. A pixel has a value where the difference
        is finite and 1 / variance is finite and positive
    psf : (P, P), P odd, centre at P // 2 and positive there; its norm does not matter
    Returns (H, W) float32, score = sum(psf d / v) / sqrt(sum(psf^2 / v)) over the pixels under the PSF that
    have a value (there are none beyond the edges), 0 where the pixel itself has none; then y, x (N,) int64
    and score (N,) float32, ordered by (y, x).
    Raises WrongShape and BadPsf.

    The best linear statistic for a source of known shape in Gaussian noise that differs from pixel to pixel
    (Zackay & Ofek 2017, ApJ 836, 187, section 2). Summed in float64 by FFT: where the variance of one image
    spans a factor above 1e12, the pixels of largest variance lose accuracy.
    """
    check(difference.shape, variance.shape, psf)
    weight = weights(difference, variance).astype(np.float64)
    signal = np.where(weight > 0, difference, 0) * weight
    flipped = psf[::-1, ::-1].astype(np.float64)
    flux = oaconvolve(signal, flipped, mode="same")
    norm = oaconvolve(weight, flipped**2, mode="same")
    known = (weight > 0) & (norm > 0)
    score = np.where(known, flux / np.sqrt(np.where(known, norm, 1)), 0).astype(np.float32)
    y, x = np.nonzero(np.abs(score) >= threshold)
    return score, (y, x, score[y, x])


def weights(difference: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """(H, W) float32 1 / variance, and 0 where the pixel of either plane, (H, W), has no value."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(1) / np.asarray(variance, np.float32)
    known = np.isfinite(difference) & np.isfinite(inverse) & (inverse > 0)
    return np.where(known, inverse, np.float32(0))


def check(difference: tuple[int, ...], variance: tuple[int, ...], psf: np.ndarray) -> None:
    """Raises WrongShape unless the shapes are those of two planes, BadPsf for a PSF that is none."""
    if len(difference) != 2 or 0 in difference or difference != variance:
        expected = "difference and variance of one shape (H, W)"
        raise WrongShape(f"matched filter: expected {expected}, got {difference} and {variance}")
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.shape[0] % 2 == 0:
        raise BadPsf(f"matched filter: expected a PSF of shape (P, P) with P odd, got {psf.shape}")
    centre = psf[psf.shape[0] // 2, psf.shape[0] // 2]
    if not np.isfinite(psf).all() or not centre > 0:
        raise BadPsf(f"matched filter: expected a finite PSF, positive at its centre, got {centre} there")
