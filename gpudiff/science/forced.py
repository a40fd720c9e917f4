"""Fluxes of the PSF at a detection's place in the science image and in the matched template, with their errors."""

from typing import Protocol

import numpy as np

from gpudiff.arrays.correlation import passed
from gpudiff.arrays.measure import Cut, PointFit, own_photons
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.stamps import inside, stamps
from gpudiff.model.forced import LightSquares
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.science.cut import box_of, profiles

MIDDLE = 4
"""Of the 3 x 3 field positions at which a difference's kernel and PSFs are kept."""


class Placed(Protocol):
    """Offsets (N,) from whole pixels, and the flux of the difference there."""

    @property
    def dy(self) -> np.ndarray: ...

    @property
    def dx(self) -> np.ndarray: ...

    @property
    def flux(self) -> np.ndarray: ...


def light_squares(difference: Difference, y: np.ndarray, x: np.ndarray) -> LightSquares:
    """What `science_flux` measures at (y, x), whole pixels."""
    science, box = difference.science, box_of(difference)
    usable = (stamps(science.mask, y, x, box) & bit("BAD", "SAT", "CR", "NO_DATA")) == 0
    usable &= inside(science.shape, y, x, box)
    return LightSquares(
        image=np.where(usable, stamps(science.image, y, x, box), 0),
        matched=np.nan_to_num(stamps(difference.matched, y, x, box)),
        usable=usable,
        psf=profiles(difference, difference.science_psf, y, x),
        sky=science.sky_variance.at(y, x),
        gain=science.gain,
    )


def science_flux(squares: LightSquares, fit: Placed, device: Device = CPU) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) (N,) of the PSF at the fitted positions in the science image.

    Weighted by the noise of the sky and of the light that does not change: weights that followed the pixels' own
    noise would make every flux too small.
    """
    profile = device.shifted(squares.psf, fit.dy, fit.dx)
    static = squares.matched + np.minimum(fit.flux, 0)[:, None, None] * profile
    variance = squares.sky[:, None, None] + np.maximum(static, 0) / np.float32(squares.gain)
    weight = np.where(squares.usable, 1 / variance, 0)
    flux, error = device.forced(squares.image, weight, profile)
    return flux, np.sqrt(error**2 + np.maximum(fit.flux, 0) * own_photons(profile, weight) / squares.gain)


def template_flux(
    difference: Difference, y: np.ndarray, x: np.ndarray, cut: Cut, fit: PointFit, device: Device = CPU
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, error) (N,) of the PSF at the fitted positions in the matched template.

    y, x : (N,) whole pixels; cut : the matched template there
    """
    profile = device.shifted(cut.psf, fit.dy, fit.dx)
    flux, error = device.forced(cut.data, cut.weight, profile)
    smooth = difference.matched_psf[MIDDLE].astype(float)
    scale = difference.quality.kernel_sum
    template, power = difference.template, (smooth**2).sum()
    share = passed(difference.kernel[MIDDLE], smooth) if difference.quality.convolved == "TEMPLATE" else power
    share = share * (1 if difference.quality.convolved == "TEMPLATE" else scale**2)
    variance = template.sky_variance.at(y, x) * share / power**2
    photons = np.maximum(flux, 0) * abs(scale) * own_photons(profile, cut.weight) / template.gain
    return flux, np.where(np.isfinite(error), np.sqrt(variance + photons), np.nan)


def own_variance(difference: Difference) -> float:
    """Variance by its own photons, a unit of flux, that a flux of the difference has beyond the variance plane.

    The plane takes the light of the convolved image for that of both: of what is in the other alone it lacks the
    photons, and what is in the convolved one alone has those in the other that it has not.
    """
    if difference.quality.convolved == "TEMPLATE":
        return 1 / difference.science.gain
    return -abs(difference.quality.kernel_sum) / difference.template.gain


def with_photons(variance: np.ndarray, photons: np.ndarray) -> np.ndarray:
    """(N,) variances of fluxes that take their own photons (`own_variance`) along, which may be negative: half the
    variance stays.
    """
    return np.maximum(variance + photons, 0.5 * variance)


def correlated(difference: Difference, profile: np.ndarray) -> float:
    """By how much the error of a flux under `profile` exceeds that of white noise with the difference's variance.

    1 for a decorrelated difference.  profile : (P, P), as small as a source
    """
    if difference.decorrelated:
        return 1.0
    quality = difference.quality
    height, width = difference.science.shape
    at = np.array([height // 2]), np.array([width // 2])
    target, convolved = (float(e.sky_variance.at(*at)[0]) for e in (difference.science, difference.template))
    if quality.convolved == "SCIENCE":
        target, convolved = convolved, target
    kernel = difference.kernel[MIDDLE].astype(float)
    white = float((profile.astype(float) ** 2).sum())
    seen = target * white + convolved * passed(kernel, profile)
    return float(np.sqrt(seen / ((target + convolved * (kernel**2).sum()) * white)))
