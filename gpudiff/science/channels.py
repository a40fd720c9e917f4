"""Readout channels of an exposure, brought to one level."""

import dataclasses

import numpy as np

from gpudiff.arrays.channels import channel_levels
from gpudiff.arrays.mesh import clipped_mesh, robust_surface
from gpudiff.model.config import Calibrate
from gpudiff.model.frame import Exposure
from gpudiff.model.plane import SmoothPlane
from gpudiff.science.calibrate import mesh_cell
from gpudiff.science.stars import sky_noise

ROUNDS = 4
"""Of levelling columns and then rows, at most: what one leaves uneven the other makes even."""
STEP = 4
"""Pixels between those that tell the sky in a large cell."""


def level_channels(exposure: Exposure, settings: Calibrate) -> Exposure:
    """The exposure, its image levelled in place where the sky steps between stripes of columns or rows, all along
    or in one half of them, and its sky what it is then; a note says so.  Pixels without a value stay 0.
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
    sky = _without_sky(exposure, mesh_cell(exposure.shape, settings))
    flat[empty] = 0
    said = f"the sky steps by up to {most / noise:.1f} sigma between readout channels: they are levelled"
    made = dataclasses.replace(exposure, sky=sky, notes=(*exposure.notes, said))
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


def _without_sky(exposure: Exposure, cell: int) -> SmoothPlane:
    """The sky of an exposure, from which it is taken anew, in place: steps bent it.  cell : px, of its mesh"""
    sky, image = exposure.sky, exposure.image
    assert isinstance(sky, SmoothPlane)
    level, _ = clipped_mesh(image, exposure.unusable, cell, STEP if cell >= 128 else 1)
    left = SmoothPlane(robust_surface(level), image.shape)
    image -= left.cut(0, image.shape[0], 0, image.shape[1])
    return SmoothPlane(sky.grid + left.grid, image.shape)
