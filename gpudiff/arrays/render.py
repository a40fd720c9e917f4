"""Stars and galaxies drawn exactly: every profile is a mixture of Gaussians, so convolution is addition.

Pixels hold the profile at their centre: sampling there defines the effective PSF, so that a star's pixels sum
to its flux and no integration error is made (Hogg & Lang 2013, PASP 125 719, for mixtures of galaxies).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy.optimize import nnls

Mixture = tuple[np.ndarray, np.ndarray]
"""Weights that sum to 1, and the sigma of each round Gaussian."""
Profile = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
STAMP_SIDES = (6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 62, 77, 96, 120, 150, 190, 240, 300)
BLOCK = 1 << 15
"""Pixels drawn at once: few enough to stay in cache."""


@lru_cache
def moffat_mixture(beta: float) -> Mixture:
    """A Moffat profile of FWHM 1 out to 10 FWHM (Moffat 1969), to 2e-3 of its value or better.

    (1 + q)^-beta = integral of t^(beta - 1) exp(-t (1 + q)) dt / Gamma(beta), summed in equal steps of log t.
    """
    core = 0.5 / math.sqrt(2 ** (1 / beta) - 1)
    rate = np.exp(np.arange(math.log(0.25 * beta / (1 + (25 / core) ** 2)), math.log(beta + 16), 0.6))
    weight = rate**beta * np.exp(-rate)
    sigma = core / np.sqrt(2 * rate)
    amount = weight * sigma**2
    return amount / amount.sum(), sigma


@lru_cache
def sersic_mixture(index: float) -> Mixture:
    """A Sersic profile of half-light radius 1 out to 8 radii (Sersic 1963), softened inside 0.02 radii.

    Non-negative least squares, relative errors weighed equally down to 1e-4 of the brightest.
    """
    scale = 2 * index - 1 / 3 + 4 / (405 * index)
    radius = np.geomspace(0.01, 8, 400)
    profile = np.exp(-scale * np.hypot(radius, 0.02) ** (1 / index))
    sigma = np.geomspace(0.03 if index > 2 else 0.12, 4.0 if index > 2 else 2.2, 7)
    weight = 1 / (profile + 1e-4 * profile[0])
    basis = np.exp(-0.5 * (radius[:, None] / sigma) ** 2) / sigma**2 * weight[:, None]
    norm = np.linalg.norm(basis, axis=0)
    amounts, _ = nnls(basis / norm, profile * weight)
    amounts /= norm
    used = amounts > 1e-5 * amounts.max()
    return amounts[used] / amounts[used].sum(), sigma[used]


def mixture_profile(mixture: Mixture, radius: np.ndarray) -> np.ndarray:
    """(N,) surface brightness per unit flux at each radius, (N,) in the mixture's own unit of length."""
    weight, sigma = mixture
    return (weight / (2 * np.pi * sigma**2) * np.exp(-0.5 * (radius[:, None] / sigma) ** 2)).sum(-1)


def noise_area(mixture: Mixture, fwhm: float) -> float:
    """1 / sum(PSF^2), px: sky-limited S/N is flux / sqrt(area * pixel variance) (King 1983, PASP 95 163)."""
    weight, sigma = mixture
    pair = sigma[:, None] ** 2 + sigma**2
    return fwhm**2 / float((np.outer(weight, weight) / (2 * np.pi * pair)).sum())


def reach(mixture: Mixture, flux: np.ndarray, size: np.ndarray, faintest: float) -> np.ndarray:
    """(N,) px: where a source of this flux and size (px) has fallen to `faintest` electrons a pixel."""
    radius = np.linspace(0, 15, 1500)
    profile = np.maximum(mixture_profile(mixture, radius), 1e-300)
    wanted = np.log(faintest * size**2 / np.maximum(np.abs(flux), 1e-30))
    return size * np.interp(-wanted, -np.log(profile), radius)


def add_stars(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    shape: np.ndarray,
    mixture: Mixture,
    faintest: float,
) -> None:
    """Draw point sources into `image` (H, W) float32, in place.

    x, y, flux : (N,) px and image units
    shape : (N, 3) px^2, the PSF's xx, yy, xy in units in which a round PSF has FWHM^2, FWHM^2, 0
    faintest : a star is drawn out to where it falls to this many image units a pixel
    """
    weight, sigma = mixture
    determinant = shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2
    size = np.sqrt(np.maximum(shape[:, 0], shape[:, 1]))
    form = _form(shape, determinant)
    height = flux / (2 * np.pi * np.sqrt(determinant))

    def profile(rows: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        squared = _quadratic(form[rows], dx, dy)
        out = np.zeros_like(squared)
        for w, s in zip(weight, sigma, strict=True):
            out += np.float32(w / s**2) * np.exp(np.float32(-0.5 / s**2) * squared)
        return out * height[rows, None, None].astype(np.float32)

    _draw(image, x, y, reach(mixture, flux, size, faintest), profile)


def add_galaxies(
    image: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
    galaxy_shape: np.ndarray,
    galaxy: Mixture,
    psf_shape: np.ndarray,
    psf: Mixture,
    faintest: float,
) -> None:
    """Draw galaxies, convolved with the PSF, into `image` (H, W) float32, in place.

    galaxy_shape : (N, 3) px^2, xx, yy, xy of each galaxy in units of its half-light radius squared
    psf_shape : (N, 3) px^2 at each galaxy, as `add_stars` takes it
    """
    wide = np.sqrt(np.maximum(galaxy_shape[:, 0], galaxy_shape[:, 1]))
    size = np.sqrt(np.maximum(psf_shape[:, 0], psf_shape[:, 1]))
    pairs = [
        (wg * wp, sg, sp)
        for wg, sg in zip(*galaxy, strict=True)
        for wp, sp in zip(*psf, strict=True)
        if wg * wp > 3e-5
    ]

    def profile(rows: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        out = np.zeros((len(rows), dy.shape[1], dx.shape[2]), np.float32)
        for w, sg, sp in pairs:
            shape = galaxy_shape[rows] * sg**2 + psf_shape[rows] * sp**2
            determinant = shape[:, 0] * shape[:, 1] - shape[:, 2] ** 2
            height = (w * flux[rows] / (2 * np.pi * np.sqrt(determinant))).astype(np.float32)
            out += height[:, None, None] * np.exp(_quadratic(-0.5 * _form(shape, determinant), dx, dy))
        return out

    _draw(image, x, y, np.hypot(reach(galaxy, flux, wide, faintest), reach(psf, flux, size, faintest)), profile)


def stamp(x: float, y: float, shape: np.ndarray, mixture: Mixture, half: int) -> np.ndarray:
    """(2 half + 1, 2 half + 1) float64: a point source of flux 1 at (x, y) off the stamp's centre pixel."""
    weight, sigma = mixture
    side = np.arange(-half, half + 1)
    form = _form(shape[None], shape[None, 0] * shape[None, 1] - shape[None, 2] ** 2)
    squared = _quadratic(form, (side - x)[None, None, :], (side - y)[None, :, None])[0].astype(float)
    height = 1 / (2 * np.pi * np.sqrt(shape[0] * shape[1] - shape[2] ** 2))
    return height * sum(w / s**2 * np.exp(-0.5 / s**2 * squared) for w, s in zip(weight, sigma, strict=True))


def _form(shape: np.ndarray, determinant: np.ndarray) -> np.ndarray:
    """(N, 3) coefficients of dx^2, dy^2, dx dy in the squared radius."""
    return np.stack([shape[:, 1], shape[:, 0], -2 * shape[:, 2]], -1) / determinant[:, None]


def _quadratic(form: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """(n, h, w) float32 squared radius; dx (n, 1, w), dy (n, h, 1)."""
    a, b, c = (form[:, k, None, None].astype(np.float32) for k in range(3))
    dx, dy = dx.astype(np.float32), dy.astype(np.float32)
    return a * dx * dx + dy * (b * dy + c * dx)


def _draw(image: np.ndarray, x: np.ndarray, y: np.ndarray, radius: np.ndarray, profile: Profile) -> None:
    """Add each source's stamp, sources with stamps of one size together."""
    sides = np.asarray(STAMP_SIDES)
    group = np.minimum(np.searchsorted(sides, radius), len(sides) - 1)
    for number in np.unique(group):
        half = int(sides[number])
        offset = np.arange(-half, half + 1)
        inside = (x > -half - 1) & (x < image.shape[1] + half) & (y > -half - 1) & (y < image.shape[0] + half)
        members = np.flatnonzero((group == number) & inside)
        step = max(1, BLOCK // (2 * half + 1) ** 2)
        for start in range(0, len(members), step):
            rows = members[start : start + step]
            column, row = np.rint(x[rows]).astype(int), np.rint(y[rows]).astype(int)
            dx = (column - x[rows])[:, None, None] + offset
            dy = (row - y[rows])[:, None, None] + offset[:, None]
            for k, drawn in enumerate(profile(rows, dx, dy)):
                _paste(image, drawn, row[k] - half, column[k] - half)


def _paste(image: np.ndarray, drawn: np.ndarray, top: int, left: int) -> None:
    height, width = image.shape
    y0, y1 = max(0, top), min(height, top + drawn.shape[0])
    x0, x1 = max(0, left), min(width, left + drawn.shape[1])
    if y0 < y1 and x0 < x1:
        image[y0:y1, x0:x1] += drawn[y0 - top : y1 - top, x0 - left : x1 - left]
