"""Noise in the wings of a measured PSF: rings that vary slowly with the angle have little of it."""

import numpy as np

HARMONICS = 2
"""Angular orders that a ring keeps beside its mean."""
STEP = 0.12
"""Width of a ring over its radius, at the least a pixel and a half."""


def quiet_wings(images: np.ndarray, core: float) -> np.ndarray:
    """(P, K, K) coefficient images of a PSF, beyond `core` pixels rings of few angular harmonics; sums are kept.

    Linear in the images.  Between `core` and twice that the one fades into the other.
    """
    half = images.shape[-1] // 2
    axis = np.arange(-half, half + 1)
    radius, angle = np.hypot(axis[:, None], axis), np.arctan2(axis[:, None], axis)
    used = (radius > 0.5 * core) & (radius <= half)
    if used.sum() < 50 or 2 * core > half:
        return images
    knots = _knots(0.5 * core, half)
    place = np.interp(radius[used], knots, np.arange(len(knots)))
    tents = np.maximum(0, 1 - np.abs(place[:, None] - np.arange(len(knots))))
    turns = [np.ones(used.sum())]
    for m in range(1, HARMONICS + 1):
        turns += [np.cos(m * angle[used]), np.sin(m * angle[used])]
    design = (tents[:, :, None] * np.stack(turns, 1)[:, None]).reshape(used.sum(), -1)
    fitted = design @ np.linalg.lstsq(design, images[:, used].T, rcond=None)[0]
    share = np.clip((radius[used] - core) / core, 0, 1)
    out = images.copy()
    out[:, used] += share * (fitted.T - images[:, used])
    return out


def _knots(first: float, last: float) -> np.ndarray:
    knots = [first]
    while knots[-1] < last:
        knots.append(knots[-1] + max(1.5, STEP * knots[-1]))
    return np.array(knots)
