"""Electrons an image unit, where a header does not say it or the noise of sky and stars belies what it says."""

import numpy as np

from gpudiff.arrays.photon_transfer import least_gain, photon_transfer
from gpudiff.model.frame import Frame
from gpudiff.model.photometry import electrons
from gpudiff.model.plane import SmoothPlane

SHOT = 3.0
"""Sigmas above zero of a sky whose noise may be its photons': nine electrons a pixel."""
BELIED = 1.4
"""Times a gain that stars say there is at least, from which on it is not believed: as a sky's variance is not."""


def likely_gain(
    frame: Frame, image: np.ndarray, unusable: np.ndarray, sky: SmoothPlane, level: float, sigma: float
) -> tuple[float, str]:
    """(gain where nobody said one, inf for none, what to say of it)."""
    if sigma > 0 and level > SHOT * sigma:
        gain = level / sigma**2
        return gain, f"gain not given: {gain:.3g} e- a unit estimated from the sky's level and scatter"
    of_unit = electrons(frame.unit, frame.observation.exposure_s)
    if of_unit is not None:
        return of_unit, f"gain not given: {of_unit:.4g} e- a unit, which is {frame.unit}"
    gain = photon_transfer(image - sky.cut(0, image.shape[0], 0, image.shape[1]), unusable, sigma)
    if gain < np.inf:
        return gain, f"gain not given: {gain:.3g} e- a unit estimated from the scatter in the light of sources"
    return np.inf, "unknown gain: the sources' own photons are not in the variance"


def believed_gain(
    frame: Frame, image: np.ndarray, unusable: np.ndarray, sky: SmoothPlane, level: float, sigma: float
) -> tuple[float, str]:
    """(the frame's gain, or what its sky and stars say where these are less noisy than it allows, why or '').

    A header's gain is often that of one exposure where the image is a mean of many.  The sky alone does not tell:
    its level may have been changed, or its pixels resampled.  Stars never seem less noisy than they are; but their
    shape may seem noise, so that a gain too large is not found out.

    frame : with a gain; level, sigma : of the sky
    """
    assert frame.gain is not None
    light = image - sky.cut(0, image.shape[0], 0, image.shape[1])
    least = least_gain(light, unusable, sigma)
    if least < BELIED * frame.gain:
        return frame.gain, ""
    if level > SHOT * sigma:
        gain, by = max(least, _of_sky(level, sigma, frame.read_noise or 0.0)), "sky's level and scatter"
    else:
        likely = photon_transfer(light, unusable, sigma)
        gain, by = max(least, likely if likely < np.inf else 0.0), "scatter in the light of sources"
    return gain, f"stars are less noisy too, so a gain of {gain:.3g} is taken, from the {by}"


def _of_sky(level: float, sigma: float, read_noise: float) -> float:
    """The gain with which sigma^2 = level / gain + (read noise / gain)^2."""
    return float((level + np.hypot(level, 2 * sigma * read_noise)) / (2 * sigma**2))
