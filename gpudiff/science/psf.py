"""The PSF of an exposure: given with the frame, or measured from its stars."""

from functools import lru_cache

import numpy as np

from gpudiff.arrays import psf as pixels
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.polynomial import field, powers, terms
from gpudiff.model.errors import BadPsf
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.science.stars import Stars, gapped

HALF = 10, 22, 32
"""Radii to which the PSF is measured, pixels: 6 FWHM between the first two, so that a narrow PSF takes in no
noise, 5 FWHM between the last two.  Beyond 18 px even an isolated star has neighbours."""
LARGEST = 40
"""Pixels to which a given PSF is kept."""
MOST = 250
"""Stars that are used, at most."""
A_TERM = 2
"""Stars that the PSF takes for each term of its polynomial over the field."""


def psf_of(exposure: Exposure, stars: Stars, which: str, device: Device = CPU) -> PsfModel:
    """The PSF of `exposure`, which is the "science" or "template" image that `stars` were found in.

    device : where it is measured; if it holds the image, then as it is
    Raises BadPsf for a given PSF that is not a square stack with positive sum.
    """
    if exposure.frame.psf is not None:
        return given(exposure.frame.psf, exposure.shape, exposure.name)
    return measured(exposure, stars, getattr(stars, which), device)


def given(psf: np.ndarray, shape: tuple[int, int], name: str) -> PsfModel:
    """A PSF model through given PSFs: (K, K), or (n*n, K, K) on an n x n grid over the frame, rows outer.

    Cut to 81 x 81 when larger.  Raises BadPsf.
    """
    stack = np.atleast_3d(psf) if psf.ndim != 2 else psf[None]
    side = round(len(stack) ** 0.5)
    odd = stack.ndim == 3 and stack.shape[1] == stack.shape[2] and stack.shape[1] % 2 == 1
    if not odd or side * side != len(stack) or stack.shape[1] < 3 or side == 0:
        raise BadPsf(f"{name}: expected a PSF of (K, K) or (n*n, K, K), K odd, 3 or more; got {psf.shape}")
    beyond = max(stack.shape[1] // 2 - LARGEST, 0)
    stack = stack[:, beyond : stack.shape[1] - beyond, beyond : stack.shape[2] - beyond]
    if not np.isfinite(stack).all() or (stack.sum((1, 2)) <= 0).any():
        raise BadPsf(f"{name}: expected a finite PSF with a positive sum")
    stack = stack / stack.sum((1, 2))[:, None, None]
    order = min(side - 1, 2)
    coefficients = _through_grid(side, order) @ stack.reshape(len(stack), -1)
    return PsfModel(coefficients.reshape(-1, *stack.shape[1:]), order, shape)


@lru_cache(8)
def _through_grid(side: int, order: int) -> np.ndarray:
    """(T, side^2) what makes the polynomial closest to values on a grid over the frame; to be read only."""
    centre = (2 * np.arange(side) + 1) / side - 1
    v, u = np.meshgrid(centre, centre, indexing="ij")
    return np.linalg.pinv(terms(u.ravel(), v.ravel(), order))


def measured(exposure: Exposure, stars: Stars, positions: np.ndarray, device: Device = CPU) -> PsfModel:
    """A PSF model from the brightest stellar, isolated, unmasked stars; constant for fewer than 6."""
    clean = ~gapped(exposure, stars.y, stars.x, 20)
    noise = np.sqrt(exposure.sky_variance.at(stars.y, stars.x))
    chosen = np.nonzero(stars.stellar & stars.isolated & clean)[0]
    if len(chosen) < 5:
        chosen = np.nonzero(stars.stellar & clean)[0]
    if len(chosen) < 3:
        chosen = np.nonzero(stars.stellar)[0]
    chosen = chosen[np.argsort(-stars.peak[chosen], kind="stable")][:MOST]
    strong = exposure.image[stars.y[chosen], stars.x[chosen]] > 60 * noise[chosen]
    if strong.sum() >= 15:
        chosen = chosen[strong]
    y, x, (dy, dx) = stars.y[chosen], stars.x[chosen], positions[:2, chosen]
    order = max(order for order in range(3) if order == 0 or len(chosen) >= A_TERM * len(powers(order)))
    height, width = exposure.shape
    sigma = float(np.median(positions[2, chosen]))
    least, enough, most = HALF
    half = int(np.clip(np.ceil(min(14 * sigma, max(12 * sigma, enough))), least, most))
    half = min(half, (min(height, width) - 1) // 4)
    design = terms(field(x, width), field(y, height), order)
    fwhm = FWHM * sigma
    fit = half, design, noise[chosen], round(fwhm)
    coefficients = device.psf(exposure.image, (y, x, dy, dx), *fit, name=exposure.held)
    return PsfModel(pixels.clean_wings(coefficients, fwhm), order, exposure.shape)
