"""Point sources measured on stamps: PSF flux and position by weighted least squares, forced flux, aperture."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.polynomial import field, terms
from gpudiff.arrays.stamps import inside, stamps
from gpudiff.model.errors import WrongShape

ROUNDS = 5
"""Gauss-Newton steps of a fit."""


@dataclass(frozen=True)
class Cut:
    """Squares of one image: data, 0 where there is no value; weight, one over the variance, 0 there; psf, unit
    sum, its peak in the middle; all (N, S, S)."""

    data: np.ndarray
    weight: np.ndarray
    psf: np.ndarray

    def take(self, rows: np.ndarray) -> "Cut":
        """Those that an index array or a boolean mask picks."""
        return Cut(self.data[rows], self.weight[rows], self.psf[rows])


def weighed(
    image: np.ndarray, variance: np.ndarray, y: np.ndarray, x: np.ndarray, half: int
) -> tuple[np.ndarray, np.ndarray]:
    """(data, weight) (N, S, S) float32 as a `Cut` has them, of squares round whole pixels.

    image, variance : (H, W) float32; a pixel has no value beyond the image, where the image is not finite, and
        where the variance is not above 0
    """
    data, level = stamps(image, y, x, half), stamps(variance, y, x, half)
    known = np.isfinite(data) & (level > 0) & inside(image.shape, y, x, half)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(known, 1 / level, 0).astype(np.float32)
    return np.where(known, data, 0), weight


def psf_stamps(
    coefficients: np.ndarray, order: int, shape: tuple[int, int], y: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """(N, K, K) float32 PSF at each position, unit sum.  coefficients : (P, K, K) polynomial over the field."""
    at = terms(field(x, shape[1]), field(y, shape[0]), order).astype(np.float32)
    flat = at @ coefficients.reshape(len(coefficients), -1).astype(np.float32)
    return (flat / flat.sum(1, keepdims=True)).reshape(len(y), *coefficients.shape[1:])


def shifted(images: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> np.ndarray:
    """(N, K, K) images moved by (dy, dx) pixels each, by a phase in Fourier space (band-limited images)."""
    side = images.shape[-1]
    size = _period(side)
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    phase = np.exp(-2j * np.pi * (ky * dy[:, None, None] + kx * dx[:, None, None]))
    out = scipy.fft.irfft2(scipy.fft.rfft2(images, s=(size, size)) * phase, s=(size, size))
    return out[:, :side, :side].astype(np.float32)


def _period(side: int) -> int:
    """Pixels after which what is shifted comes round again."""
    return scipy.fft.next_fast_len(side + 6, real=True)


@dataclass(frozen=True)
class PointFit:
    """dy, dx : offset from the stamp's centre; flux, covariance (N, 3, 3) of (flux, y, x); chi2; pixels;
    converged : bool, False where the position ran away and was put back to the centre; all (N, ...)."""

    dy: np.ndarray
    dx: np.ndarray
    flux: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    pixels: np.ndarray
    converged: np.ndarray
    profile: np.ndarray
    """(N, S, S) the PSF at the fitted position."""
    seen: np.ndarray
    """Share of sum(P^2) on pixels with a value."""


def fit_points(data: np.ndarray, weight: np.ndarray, psf: np.ndarray) -> PointFit:
    """PSF flux and position of one source a stamp, by Gauss-Newton from the stamp's centre.

    data : (N, S, S) float32, finite; weight : (N, S, S) one over the variance, 0 where there is no value
    psf : (N, S, S) unit-sum PSF, its peak in the middle
    """
    count = len(data)
    dy, dx = np.zeros(count), np.zeros(count)
    converged = np.ones(count, bool)
    flux, matrix, profile = np.zeros(count), np.zeros((count, 3, 3)), psf
    for _ in range(ROUNDS):
        profile = shifted(psf, dy, dx)
        slope_y = -0.5 * (np.roll(profile, -1, 1) - np.roll(profile, 1, 1))
        slope_x = -0.5 * (np.roll(profile, -1, 2) - np.roll(profile, 1, 2))
        design = np.stack([profile, slope_y, slope_x], 1).reshape(count, 3, -1).astype(np.float64)
        flat = weight.reshape(count, 1, -1) * design
        matrix = flat @ design.transpose(0, 2, 1)
        matrix[:, [0, 1, 2], [0, 1, 2]] += 1e-30 + 1e-9 * np.trace(matrix, axis1=1, axis2=2)[:, None]
        solution = np.linalg.solve(matrix, (flat @ data.reshape(count, -1, 1)))[..., 0]
        flux = solution[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(flux[:, None] != 0, solution[:, 1:] / flux[:, None], 0)
        step = np.clip(step, -0.7, 0.7)
        dy, dx = dy + step[:, 0], dx + step[:, 1]
        away = ~(np.hypot(dy, dx) < 2.5)
        converged &= ~away
        dy, dx = np.where(converged, dy, 0), np.where(converged, dx, 0)
    profile = shifted(psf, dy, dx)
    flux, _ = forced(data, weight, profile)
    residual = data - flux[:, None, None] * profile
    chi2 = (weight * residual**2).sum((1, 2))
    square = profile.astype(np.float64) ** 2
    seen = np.where(weight > 0, square, 0).sum((1, 2)) / square.sum((1, 2))
    pixels = (weight > 0).sum((1, 2))
    return PointFit(dy, dx, flux, _covariance(matrix, flux), chi2, pixels, converged, profile, seen)


def _covariance(matrix: np.ndarray, flux: np.ndarray) -> np.ndarray:
    """(N, 3, 3) of (flux, y, x) from the normal equations' (N, 3, 3), whose unknowns are flux times offset."""
    scale = np.stack([np.ones(len(flux)), flux, flux], 1)
    information = matrix * scale[:, :, None] * scale[:, None]
    information[:, [1, 2], [1, 2]] += 1e-12
    return np.linalg.inv(information)


def forced(data: np.ndarray, weight: np.ndarray, profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) (N,) of a profile at a known position; NaN where no pixel has a value."""
    with np.errstate(divide="ignore", invalid="ignore"):
        information = (weight * profile.astype(np.float64) ** 2).sum((1, 2))
        flux = (weight * profile * data.astype(np.float64)).sum((1, 2)) / information
        return flux, 1 / np.sqrt(information)


def own_photons(profile: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N,) sum w^2 P^3 / (sum w P^2)^2: the variance of a PSF flux by the source's own photons, a unit of flux.

    profile, weight : (N, S, S), as `forced` has them; 0 where no pixel has a value
    """
    square = weight * profile.astype(float) ** 2
    return (square * weight * profile).sum((1, 2)) / np.maximum(square.sum((1, 2)), 1e-30) ** 2


def own_share(profile: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(N,) the share by which a source's own photons, a unit of flux, raise the variance of its position: the mean
    of P w over the information w (grad P)^2.

    profile, weight : (N, S, S), as `fit_points` has them
    """
    slopes = np.gradient(profile.astype(float), axis=(1, 2))
    information = weight * (slopes[0] ** 2 + slopes[1] ** 2)
    return (information * weight * profile).sum((1, 2)) / np.maximum(information.sum((1, 2)), 1e-30)


def aperture(
    data: np.ndarray, variance: np.ndarray, dy: np.ndarray, dx: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) (N,) in a circle round the offsets from the stamps' centres, pixels counted whole.

    NaN where a pixel of the circle has no value.
    """
    half = data.shape[1] // 2
    axis = np.arange(-half, half + 1)
    distance = np.hypot(axis[:, None] - dy[:, None, None], axis - dx[:, None, None])
    circle = distance <= radius
    return np.where(circle, data, 0).sum((1, 2)), np.sqrt(np.where(circle, variance, 0).sum((1, 2)))


# ---------------------------------------------------------------- on a GPU
THREADS = 128
"""Of a block in the CUDA bodies; a block measures one stamp."""
LARGEST = 75
"""px, side of a stamp: what fits into the shared memory of a block."""


def shifted_cuda(launcher: Launcher, images: Any, dy: np.ndarray, dx: np.ndarray, period: int = 0) -> Any:
    """`shifted` on a GPU; the moved images stay there.

    images : on the device or the host; period : pixels after which they come round again, 0 for those of `shifted`
    """
    count, side, _ = images.shape
    out = launcher.empty(images.shape, np.float32)
    arrays = [launcher.upload(images, np.float32), launcher.upload(np.stack([dy, dx], 1), np.float64), out]
    sizes = [np.int32(side), np.int32(period or _period(side))]
    _launch(launcher, "shifted", count, side, [*arrays, *sizes], shared_bytes(side))
    return out


def weighed_cuda(
    launcher: Launcher, images: Any, variances: Any, counts: Any, places: Any, most: int, half: int
) -> tuple[Any, Any]:
    """`weighed` of a batch of images, all on a GPU: (data, weight) (B, most, S, S) of the first places of each.

    images, variances : (B, H, W) float32; counts, places : what `components.listed_cuda` returns
    Beyond an image's count there is no value.
    """
    batch, height, width = images.shape
    side = 2 * half + 1
    out = [launcher.empty((batch, most, side, side), np.float32) for _ in range(2)]
    sizes = [np.int32(size) for size in (width, height, places.shape[1], side)]
    arguments = [images, variances, counts, places, *out, *sizes]
    launcher.launch("measure", "weighed", (most, 1, batch), (THREADS, 1, 1), arguments)
    return out[0], out[1]


def fitted_cuda(launcher: Launcher, data: Any, weight: Any, psf: Any) -> tuple[Any, Any]:
    """What `fit_points` finds, on a GPU: (table, profiles), (N, 13) float64 and (N, S, S) float32.

    data, weight, psf : on the device or the host
    A row has dy, dx, flux, chi2, pixels, converged, seen, and the upper triangle of the last normal equations.
    """
    count, side, _ = data.shape
    there = [launcher.upload(one, np.float32) for one in (data, weight, psf)]
    profiles, table = launcher.empty(data.shape, np.float32), launcher.empty((count, 13), np.float64)
    sizes = [np.int32(side), np.int32(_period(side)), np.int32(ROUNDS)]
    _launch(launcher, "fit_points", count, side, [*there, profiles, table, *sizes], shared_bytes(side))
    return table, profiles


def fit_points_cuda(launcher: Launcher, data: Any, weight: Any, psf: Any) -> PointFit:
    """`fit_points` on a GPU; the fits are on the host.  data, weight, psf : on the device or the host"""
    table, profiles = (launcher.download(one) for one in fitted_cuda(launcher, data, weight, psf))
    dy, dx, flux, chi2, pixels, converged, seen = table[:, :7].T
    matrix = table[:, 7:][:, [[0, 1, 2], [1, 3, 4], [2, 4, 5]]]
    covariance = _covariance(matrix, flux)
    return PointFit(dy, dx, flux, covariance, chi2, pixels.astype(int), converged > 0, profiles, seen)


def forced_cuda(launcher: Launcher, data: Any, weight: Any, profile: Any) -> tuple[np.ndarray, np.ndarray]:
    """`forced` on a GPU; flux and error are on the host.  data, weight, profile : on the device or the host"""
    return _two(launcher, "forced", [launcher.upload(one, np.float32) for one in (data, weight, profile)])


def aperture_cuda(
    launcher: Launcher, data: Any, variance: Any, dy: np.ndarray, dx: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """`aperture` on a GPU; flux and error are on the host.  data, variance : on the device or the host"""
    there = [launcher.upload(one, np.float32) for one in (data, variance)]
    return _two(launcher, "aperture", [*there, launcher.upload(np.stack([dy, dx], 1), np.float64)], radius)


def _two(launcher: Launcher, kernel: str, arrays: list[Any], *more: float) -> tuple[np.ndarray, np.ndarray]:
    """The two numbers of each stamp that a kernel finds."""
    count, side, _ = arrays[0].shape
    table = launcher.empty((count, 2), np.float64)
    _launch(launcher, kernel, count, side, [*arrays, table, np.int32(side), *map(np.float64, more)])
    flux, error = launcher.download(table).T
    return flux, error


def _launch(launcher: Launcher, kernel: str, count: int, side: int, arguments: list[Any], shared: int = 0) -> None:
    """A block for each stamp there is.  Raises WrongShape for an even side, or one there is no room for."""
    if side > LARGEST or side % 2 == 0:
        raise WrongShape(f"{kernel}: expected stamps of an odd side of at most {LARGEST} px, got {side}")
    if count:
        launcher.launch("measure", kernel, (count, 1, 1), (THREADS, 1, 1), arguments, shared)


def shared_bytes(side: int) -> int:
    """Shared memory of a block that moves an image."""
    return 8 * (3 * (2 * side - 1) + 2 * side + side**2) + 4 * 2 * side**2
