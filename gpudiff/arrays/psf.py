"""A pixel PSF from stars: centred, flux-scaled stamps, each pixel a polynomial over the field."""

import numpy as np
import scipy.fft

from gpudiff.arrays.stamps import stamps


def centred(image: np.ndarray, y: np.ndarray, x: np.ndarray, dy: np.ndarray, dx: np.ndarray, half: int):
    """(N, 2 half + 1, ...) float64 stamps shifted so that each star's centre is the middle pixel's.

    The shift is a phase in Fourier space: exact for a well-sampled, isolated star.
    y, x : whole-pixel positions; dy, dx : the centre's offset from there
    """
    cut = stamps(image, y, x, half).astype(np.float64)
    size = scipy.fft.next_fast_len(2 * half + 9, real=True)
    spectrum = scipy.fft.rfft2(cut, s=(size, size))
    ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    spectrum *= np.exp(2j * np.pi * (ky * dy[:, None, None] + kx * dx[:, None, None]))
    side = 2 * half + 1
    return scipy.fft.irfft2(spectrum, s=(size, size))[:, :side, :side]


def fit(stars: np.ndarray, terms: np.ndarray, noise: np.ndarray, rounds: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """(coefficients (P, K, K), kept (N,) bool): the PSF's polynomial, pixels and stars that disagree clipped.

    stars : (N, K, K) from `centred`; terms : (N, P) field polynomial; noise : (N,) sky sigma
    """
    count, side = stars.shape[:2]
    half = side // 2
    values = stars.reshape(count, -1)
    axis = np.arange(-half, half + 1)
    core = (np.hypot(axis, axis[:, None]) <= 6).ravel()
    flux = values[:, core].sum(1)
    model = np.repeat(np.median(values / flux[:, None], 0)[None], count, 0)
    weight = np.ones_like(values)
    kept = np.ones(count, bool)
    coefficients = np.zeros((terms.shape[1], side * side))
    for _ in range(rounds):
        use = weight[:, core] * model[:, core]
        flux = (values[:, core] * use).sum(1) / np.maximum((model[:, core] * use).sum(1), 1e-12)
        good = flux > 0
        scaled = values / np.where(good, flux, 1)[:, None]
        relative = noise / np.where(good, flux, 1)
        error = relative[:, None] + 0.02 * np.abs(model) + 0.1 * np.sqrt(np.abs(model) * relative[:, None])
        off = np.abs(scaled - model) > 4 * error
        weight = (~off).astype(float)
        kept = good & (off[:, core].mean(1) < 0.1)
        if kept.sum() < terms.shape[1]:
            kept = good
        importance = np.sqrt(np.clip(flux, 0, np.percentile(flux[kept], 80)) * kept)[:, None]
        clean = np.where(off, model, scaled)
        coefficients = np.linalg.lstsq(terms * importance, clean * importance, rcond=None)[0]
        model = terms @ coefficients
    return coefficients.reshape(-1, side, side), kept


WING = 12
"""Radius, pixels, beyond which the PSF is round and the same over the field: stars are too faint to say more."""


def clean_wings(coefficients: np.ndarray) -> np.ndarray:
    """(P, K, K) the same PSF without the light of stars' neighbours.

    Faint neighbours lift the wings of an average star by a pedestal; what the rings at the rim show beyond the
    power law that the rings at 5 and 9 px continue is taken for it.  Beyond 12 px the PSF is its ring medians.
    """
    half = coefficients.shape[1] // 2
    axis = np.arange(-half, half + 1)
    radius = np.hypot(axis, axis[:, None])
    ring = np.minimum(np.rint(radius).astype(int), half)
    middle = coefficients[0].copy()
    if half >= WING + 4:
        outer = (radius > half - 6) & (radius <= half)
        pedestal = 0.0
        for _ in range(4):
            inner, further = (_ring_mean(middle - pedestal, radius, r) for r in (5.0, 9.0))
            slope = np.log(max(inner, 1e-12) / max(further, 1e-12)) / np.log(9 / 5)
            expected = max(further, 0.0) * (np.median(radius[outer]) / 9) ** -np.clip(slope, 2.5, 12)
            pedestal = float(np.median(middle[outer])) - expected
        middle -= pedestal
        profile = np.array([np.median(middle[ring == n]) for n in range(half + 1)])
        profile = np.maximum(profile, 0)
        middle = np.where(radius > WING, profile[ring], middle)
    out = coefficients * np.clip(WING + 2 - radius, 0, 1)
    out[0] = np.where(radius <= half, middle, 0)
    return out


def _ring_mean(image: np.ndarray, radius: np.ndarray, at: float) -> float:
    return float(np.median(image[np.abs(radius - at) <= 0.7]))
