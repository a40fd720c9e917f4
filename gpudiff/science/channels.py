"""Readout channels of an exposure, brought to one level."""

import dataclasses

import numpy as np

from gpudiff.arrays.channels import channel_levels
from gpudiff.model.frame import Exposure
from gpudiff.science.stars import sky_noise

ROUNDS = 4
"""Of levelling columns and then rows, at most: what is large is clipped in the first, and hides what is small."""


def level_channels(exposure: Exposure) -> Exposure:
    """The exposure, its image levelled in place where the sky steps between stripes of columns or rows, all along
    or in one half of them; a note says so.  Pixels without a value stay 0.
    """
    image, noise = exposure.image, sky_noise(exposure)
    flat = image.reshape(-1)
    empty = exposure.flaws[flat[exposure.flaws] == 0]
    most = 0.0
    for _ in range(ROUNDS):
        columns = _level(image, exposure.unusable, noise)
        rows = _level(image.T, exposure.unusable.T, noise)
        if not columns and not rows:
            break
        most = max(most, columns, rows)
    if not most:
        return exposure
    flat[empty] = 0
    said = (
        f"the sky steps between readout channels, by up to {most / noise:.1f} sigma of a pixel: they are levelled"
    )
    made = dataclasses.replace(exposure, notes=(*exposure.notes, said))
    return made.knowing(exposure.unusable, exposure.flaws)


def _level(pixels: np.ndarray, unusable: np.ndarray, noise: float) -> float:
    """The largest step, which is taken off with all others, in place; 0 without one."""
    levels = channel_levels(pixels, unusable, noise)
    if levels is None:
        return 0.0
    half = len(pixels) // 2
    pixels[:half] -= levels[0]
    pixels[half:] -= levels[1]
    return float(np.abs(np.diff(levels, axis=1)).max())
