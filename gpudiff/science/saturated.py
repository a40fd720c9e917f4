"""Saturated stars of the image that will be convolved."""

import numpy as np

from gpudiff.arrays.saturated import SaturatedStar, core_of, fit_wings, groups
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.model.mask import UNUSABLE, marked


def fill_cores(exposure: Exposure, psf: PsfModel) -> list[SaturatedStar]:
    """The saturated stars; their unusable pixels in `exposure.image` are overwritten with the fitted PSF.

    Only the pixels change, the mask stays: what was filled is still known to be unusable.
    """
    stars = []
    unusable = marked(exposure.mask, *UNUSABLE)
    for y, x in groups(marked(exposure.mask, "SAT")):
        centre = core_of(y, x)
        iy, ix = (int(np.clip(round(c), 0, n - 1)) for c, n in zip(centre, exposure.shape, strict=False))
        noise2 = float(exposure.sky_variance.at(np.array([iy]), np.array([ix]))[0])
        star, model, box = fit_wings(exposure.image, unusable, noise2, exposure.gain, centre, psf.at(iy, ix))
        stars.append(star)
        if model is not None:
            near = unusable[box]
            exposure.image[box][near] = np.maximum(model[near], 0)
    return stars
