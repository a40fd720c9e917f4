"""Which pixels of stamps tell about a matching kernel: those that show light, the same in both images."""

import numpy as np
from scipy import ndimage

LIGHT = 7
"""Side of the square, pixels, over which light is averaged to see whether there is any."""
SEEN = 3.0
"""Sigmas of that average above which there is."""
SQUARE = 5
"""Side of the square over which a residual of a source is coherent."""
OUTLIER, COHERENT = 4.5, 5.0
"""Sigmas by which a pixel, and the mean of a square, may disagree."""
GROWN = 3
"""Pixels round one that disagrees that are not believed either."""


def share_of_light(model: np.ndarray, noise2: np.ndarray, half: float) -> np.ndarray:
    """(N, S, S) float32 in [0, 1): how much of a pixel of the convolved image is light rather than its own noise.

    Noise in what is convolved pulls a fit to kernels that smooth it away; where there is no light there is nothing
    to learn, and all of that pull.  The light is averaged: a pixel's own noise has little say in its weight.

    model : (N, S, S), the convolved image matched; noise2 : (N,) variance of its sky
    half : light^2 / noise^2 at which a pixel counts half
    """
    mean = _mean(model, LIGHT)
    noise2 = np.asarray(noise2, np.float32)[:, None, None]
    light = np.where(mean > SEEN / LIGHT * np.sqrt(noise2), mean**2, 0)
    return light / (light + np.float32(half) * noise2 + np.float32(1e-30))


def changed(chi: np.ndarray) -> np.ndarray:
    """(N, S, S) bool: pixels of variables, transients and what else is in one image only, and those round them.

    chi : (N, S, S), residual over its uncertainty; 0 where a pixel says nothing
    """
    off = (np.abs(chi) > OUTLIER) | (np.abs(_mean(chi, SQUARE)) * SQUARE > COHERENT)
    return ndimage.maximum_filter(off, (1, 2 * GROWN + 1, 2 * GROWN + 1))


def _mean(values: np.ndarray, side: int) -> np.ndarray:
    return ndimage.uniform_filter(values, (1, side, side), mode="constant")
