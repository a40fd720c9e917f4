"""Signal to noise of a point source at every pixel, and the pixels where it is large."""

from typing import Any

import numpy as np
from scipy.signal import oaconvolve

from gpudiff.arrays.device import Launcher
from gpudiff.model.errors import BadPsf, WrongShape

ROWS = 8  # of one column, a lane's share in the CUDA body
LARGEST_PSF = 63
SHARED_BUDGET = 96 << 10  # bytes a block: what sm_120 offers, the least of the architectures we compile for

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
    """1 / variance, float32, and 0 where the pixel has no value."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inverse = np.float32(1) / np.asarray(variance, np.float32)
    known = np.isfinite(difference) & np.isfinite(inverse) & (inverse > 0)
    return np.where(known, inverse, np.float32(0))


def matched_filter_cuda(
    launcher: Launcher, differences: Any, variances: Any, psfs: np.ndarray, threshold: float
) -> tuple[Any, list[Peaks]]:
    """The same for a batch on a GPU in float32: scores (B, H, W) on the device, and the peaks of each image.

    differences, variances : (B, H, W) float32, on the device or the host
    psfs : (B, P, P), host, P at most 63
    The list has the order of (y, x), whatever order the device found it in. The sums err by at most a few
    1e-6 of sum |psf d / v| (2e-6 for 21 pixels, 4e-6 for 63): a pixel nearer than that to the threshold may
    fall on the other side of it.
    """
    batch, height, width = differences.shape
    if len(psfs) != batch or psfs.shape[-1] > LARGEST_PSF:
        raise WrongShape(
            f"matched filter: expected {batch} PSFs of at most {LARGEST_PSF} pixels, got {psfs.shape}"
        )
    for psf in psfs:
        check(differences.shape[1:], variances.shape[1:], psf)
    planes = [launcher.upload(array, np.float32) for array in (differences, variances, psfs)]
    score = launcher.empty(differences.shape, np.float32)
    capacity = max(256, height * width // 64)  # far more than a good image has; a bad one is run again
    found = launch(launcher, planes, score, psfs.shape[-1], threshold, capacity)
    if max(found[0]) > capacity:
        found = launch(launcher, planes, score, psfs.shape[-1], threshold, max(found[0]))
    return score, [peaks(*frame, width) for frame in zip(*found, strict=True)]


def launch(
    launcher: Launcher, planes: list, score: Any, size: int, threshold: float, capacity: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """On the host, counts (B,), and the first `capacity` pixel numbers and scores of each, (B, capacity)."""
    batch, height, width = score.shape
    warps = warps_for(size)
    counts = launcher.zeros((batch,), np.int32)
    places = launcher.empty((batch, capacity), np.int32)
    values = launcher.empty((batch, capacity), np.float32)
    sizes = [np.int32(width), np.int32(height), np.float32(threshold), np.int32(capacity)]
    launcher.launch(
        "matched_filter",
        "matched_filter",
        (-(-width // 32), -(-height // (ROWS * warps)), batch),
        (32 * warps, 1, 1),
        [*planes, score, counts, places, values, *sizes],
        shared=shared_bytes(size, warps),
        defines=(f"P={size}", f"WARPS={warps}"),
    )
    return launcher.download(counts), launcher.download(places), launcher.download(values)


def peaks(count: int, places: np.ndarray, values: np.ndarray, width: int) -> Peaks:
    """The list of one image, sorted by pixel number, that is by (y, x)."""
    order = np.argsort(places[:count])
    y, x = np.divmod(places[:count][order].astype(np.int64), width)
    return y, x, values[:count][order]


def warps_for(size: int) -> int:
    """Warps a block: as many as fit into shared memory."""
    return next(warps for warps in (8, 4, 2) if shared_bytes(size, warps) <= SHARED_BUDGET)


def shared_bytes(size: int, warps: int) -> int:
    """Shared memory of one block: the PSF, columns padded to 16 bytes, and two tiles with their halos."""
    padded = -(-size // 4) * 4
    return 4 * (size * padded + 2 * (ROWS * warps + size - 1) * (32 + size - 1))


def check(difference: tuple[int, ...], variance: tuple[int, ...], psf: np.ndarray) -> None:
    if len(difference) != 2 or 0 in difference or difference != variance:
        expected = "difference and variance of one shape (H, W)"
        raise WrongShape(f"matched filter: expected {expected}, got {difference} and {variance}")
    if psf.ndim != 2 or psf.shape[0] != psf.shape[1] or psf.shape[0] % 2 == 0:
        raise BadPsf(f"matched filter: expected a PSF of shape (P, P) with P odd, got {psf.shape}")
    centre = psf[psf.shape[0] // 2, psf.shape[0] // 2]
    if not np.isfinite(psf).all() or not centre > 0:
        raise BadPsf(f"matched filter: expected a finite PSF, positive at its centre, got {centre} there")
