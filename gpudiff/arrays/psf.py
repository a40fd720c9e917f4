"""A pixel PSF from stars: centred, flux-scaled stamps, each pixel a polynomial over the field."""

import math

import numpy as np
import scipy.fft

from gpudiff.arrays.box import grown
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.positive import solve_positive
from gpudiff.arrays.stamps import stamps


def centred(image: np.ndarray, y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, half: int):
    """(N, 2 half + 1, ...) float32 stamps shifted so that each star's centre is the middle pixel's.

    The shift is a phase in Fourier space: exact for a well-sampled, isolated star.
    y, x : whole-pixel positions; dy, dx : the centre's offset from there
    """
    cut = stamps(image, y, x, half).astype(np.float32)
    size = scipy.fft.next_fast_len(2 * half + 9, real=True)
    spectrum = scipy.fft.rfft2(cut, s=(size, size))
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    for wave in (ky * dy[:, None, None], kx * dx[:, None, None]):
        spectrum *= np.exp(2j * np.pi * wave).astype(np.complex64)
    side = 2 * half + 1
    return scipy.fft.irfft2(spectrum, s=(size, size))[:, :side, :side]


CLIP = 4.0
"""Standard errors by which a pixel of a star may differ from the PSF, and a star in its width."""
VARYING = 0.5
"""Share of its light by which a pixel of a PSF may well change between the middle of the field and its edge."""


def fit(
    stars: np.ndarray, terms: np.ndarray, noise: np.ndarray, reach: int, rounds: int = 4
) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients (P, K, K), kept (N,) bool): the PSF's polynomial, pixels and stars that disagree clipped.

    Each pixel is fitted by itself, the stars weighted by one over their squared error there: the bright ones tell
    of the wings, all alike of the core.  It is expected to vary over the field by VARYING of its light (standard
    deviation of a Gaussian prior): where stars are too few or too faint to tell, it stays as it is on average.
    A neighbour that shows in the wings is left out with all within `reach` of what shows; a star wider than the
    others (a galaxy, two stars in one) or narrower (a cosmic ray) is left out whole.

    stars : (N, K, K) float32 from `centred`; terms : (N, P) field polynomial, 1 first; noise : (N,) sky sigma
    reach : pixels along an axis
    """
    count, side = stars.shape[:2]
    half = side // 2
    values = stars.reshape(count, -1)
    axis = np.arange(-half, half + 1)
    core = (np.hypot(axis, axis[:, None]) <= 6).ravel()
    inner, weight = values[:, core].astype(float), np.ones((count, core.sum()))
    flux = inner.sum(1)
    ordered = np.sort(values / flux[:, None].astype(np.float32), 0)  # a tenth of the time of np.median
    model = np.repeat(ordered[(count - 1) // 2 : count // 2 + 1].mean(0)[None], count, 0)
    kept = np.ones(count, bool)
    coefficients = np.zeros((terms.shape[1], side * side))
    for _ in range(rounds):
        use = weight * model[:, core]
        flux = (inner * use).sum(1) / np.maximum((model[:, core] * use).sum(1), 1e-12)
        good = flux > 0
        scaled = values / np.where(good, flux, 1)[:, None].astype(np.float32)
        error = _error(model, (noise / np.where(good, flux, 1)).astype(np.float32))
        above = scaled - model
        off = np.abs(above) > CLIP * error
        wider = _wider(scaled, model, error, core)
        kept = good & (off[:, core].mean(1) < 0.1) & (np.abs(wider) < CLIP * max(1.0, robust_sigma(wider)))
        off |= _near(off & (above > 0), reach) & ~core
        weight = (~off[:, core]).astype(float)
        if kept.sum() < terms.shape[1]:
            kept = good
        expected = np.maximum(VARYING * np.abs(model).mean(0, dtype=float), 1e-12)
        np.copyto(scaled, model, where=off)
        coefficients = _weighted(terms, scaled, kept[:, None] / error**2, expected)
        model = (terms @ coefficients).astype(np.float32)
    return coefficients.reshape(-1, side, side), kept


def _error(model: np.ndarray, relative: np.ndarray) -> np.ndarray:
    """(N, K K) by how much a star's pixels may differ from the model: noise, photons, and 2 % of the model.

    relative : (N,) noise of a sky pixel over the star's flux
    """
    light = np.abs(model)
    error = np.sqrt(light * relative[:, None])
    error *= 0.1
    light *= 0.02
    error += light
    error += relative[:, None]
    return np.asarray(error)


def _near(lit: np.ndarray, reach: int) -> np.ndarray:
    """(N, K K) bool: within `reach` pixels along an axis of what is lit on the same star."""
    some, side = lit.any(1), math.isqrt(lit.shape[1])
    out = np.zeros_like(lit)
    out[some] = grown(lit[some].reshape(-1, side, side), reach).reshape(-1, side * side)
    return out


def _wider(scaled: np.ndarray, model: np.ndarray, error: np.ndarray, core: np.ndarray) -> np.ndarray:
    """(N,) by how many standard errors each star is wider than the model, all (N, K K); `core` (K K,) bool.

    A star is taken for the model plus a share of what a slight blur adds to it: least squares in the core.
    """
    side = math.isqrt(len(core))
    edge = max(int(core.reshape(side, side).any(0).argmax()) - 1, 0)
    reach = slice(edge, side - edge)  # the core and a pixel round it
    image = model.reshape(-1, side, side)[:, reach, reach].astype(float)
    blur = sum(np.roll(image, step, axis) for axis in (1, 2) for step in (-1, 1)) / 4 - image
    near = core.reshape(side, side)[reach, reach]
    design = np.stack([image[:, near], blur[:, near]], 1)
    weighed = design / error[:, None, core].astype(float) ** 2
    matrix = np.linalg.inv(weighed @ design.transpose(0, 2, 1))
    share = (matrix @ (weighed @ scaled[:, core, None]))[:, 1, 0]
    return np.asarray(share / np.sqrt(matrix[:, 1, 1]))


def _weighted(terms: np.ndarray, values: np.ndarray, weights: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(P, n) least-squares coefficients of each column of `values` (N, n) under its own `weights` (N, n).

    expected : (n,) standard deviation of the prior of every coefficient but the first
    """
    count, number = terms.shape
    products = (terms[:, :, None] * terms[:, None]).reshape(count, -1)
    matrices = (products.T.astype(weights.dtype) @ weights).astype(float).reshape(number, number, -1)
    matrices[range(1, number), range(1, number)] += 1 / expected**2
    right = terms.T.astype(weights.dtype) @ (weights * values)
    return solve_positive(matrices, right[:, None].astype(float))[:, 0]


WING = 3.0
"""Radius, FWHM, beyond which the PSF is round and the same over the field: stars are too faint to say more."""
INNER, FURTHER = 1.25, 2.25
"""Radii, FWHM, of the rings whose power law is continued to the rim."""
RIM = 6
"""Pixels at the edge of the stamp in which the pedestal is measured."""


def clean_wings(coefficients: np.ndarray, fwhm: float) -> np.ndarray:
    """(P, K, K) the same PSF without the light of stars' neighbours.

    Faint neighbours lift the wings of an average star by a pedestal; what the rings at the rim show beyond the
    power law that the rings at 1.25 and 2.25 FWHM continue is taken for it.  Means, not medians, for it is in the
    sum over the wings that neighbours have to leave nothing.  Beyond 3 FWHM the PSF is the falling
    profile closest to its ring means (isotonic regression), so that noise adds no light.

    fwhm : pixels
    """
    half = coefficients.shape[1] // 2
    axis = np.arange(-half, half + 1)
    radius = np.hypot(axis, axis[:, None])
    middle = coefficients[0].copy()
    wing = WING * fwhm
    if half >= wing + RIM / 2:
        middle -= _pedestal(middle, radius, half, fwhm)
        middle = np.where(radius > wing, _falling(middle, radius, half), middle)
    out = coefficients * np.clip(wing + 2 - radius, 0, 1)
    out[0] = np.where(radius <= half, middle, 0)
    return out


def _pedestal(image: np.ndarray, radius: np.ndarray, half: int, fwhm: float) -> float:
    outer = (radius > half - RIM) & (radius <= half)
    pedestal = 0.0
    for _ in range(4):
        inner, further = (_ring_mean(image - pedestal, radius, r * fwhm) for r in (INNER, FURTHER))
        slope = np.log(max(inner, 1e-12) / max(further, 1e-12)) / np.log(FURTHER / INNER)
        steps = np.median(radius[outer]) / (FURTHER * fwhm)
        pedestal = float(image[outer].mean()) - max(further, 0.0) * steps ** -np.clip(slope, 2.5, 12)
    return pedestal


def _falling(image: np.ndarray, radius: np.ndarray, half: int) -> np.ndarray:
    """(K, K) the never rising, never negative profile closest to the means of the image's rings.

    Antitonic regression by the min-max formula (Robertson, Wright & Dykstra 1988, section 1.4).
    """
    ring = np.minimum(np.rint(radius).astype(int), half)
    light = np.concatenate([[0], np.bincount(ring.ravel(), image.ravel()).cumsum()])
    pixels = np.concatenate([[0], np.bincount(ring.ravel()).cumsum()])
    index = np.arange(half + 1)
    first, last = index[:, None], index
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (light[last + 1] - light[first]) / (pixels[last + 1] - pixels[first])
    profile = [np.nanmin(np.max(mean[: n + 1, n:], 1)) for n in index]
    return np.maximum(profile, 0)[ring]


def _ring_mean(image: np.ndarray, radius: np.ndarray, at: float) -> float:
    return float(image[np.abs(radius - at) <= 0.7].mean())
