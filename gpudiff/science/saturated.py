"""Saturated stars of the image that will be convolved."""

import numpy as np

from gpudiff.arrays.saturated import WING, SaturatedStar, core_of, fit_wings, groups
from gpudiff.arrays.stamps import inside, stamps
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.model.mask import bit

BATCH = 100
"""Stars that are fitted together."""


def fill_cores(exposure: Exposure, psf: PsfModel) -> list[SaturatedStar]:
    """The saturated stars; their unusable pixels in `exposure.image` are overwritten with the fitted PSF.

    Only the pixels change, the mask stays: what was filled is still known to be unusable.
    """
    saturated = exposure.flaws[exposure.mask.reshape(-1)[exposure.flaws] & bit("SAT") != 0]
    found = groups(*np.divmod(saturated, exposure.shape[1]))
    cores = np.array([core_of(y, x) for y, x in found]).reshape(-1, 3)
    parts = [cores[n : n + BATCH] for n in range(0, len(cores), BATCH)]
    return [star for part in parts for star in _filled(exposure, psf, part)]


def _filled(exposure: Exposure, psf: PsfModel, cores: np.ndarray) -> list[SaturatedStar]:
    """The stars of some cores, (N, 3) from `core_of`, as `fill_cores` has them."""
    y, x = np.rint(cores[:, :2]).astype(int).T
    half = max(WING, psf.half - 2)
    there = inside(exposure.shape, y, x, half)
    unusable = stamps(exposure.unusable, y, x, half)
    flux, place, models = fit_wings(
        stamps(exposure.image, y, x, half),
        there & ~unusable,
        exposure.sky_variance.at(y, x).astype(float),
        exposure.gain,
        cores[:, :2] - np.stack([y, x], 1),
        cores[:, 2],
        psf.at_all(y, x),
    )
    for n in np.flatnonzero(flux > 0):
        rows, columns = np.nonzero(there[n] & unusable[n])
        exposure.image[rows + y[n] - half, columns + x[n] - half] = np.maximum(models[n, rows, columns], 0)
    return [
        SaturatedStar(float(j + dy), float(i + dx), float(light), float(core))
        for j, i, (dy, dx), light, core in zip(y, x, place, flux, cores[:, 2], strict=True)
    ]
