"""Cosmic rays and hot pixels of an exposure."""

import numpy as np

from gpudiff.arrays.cosmic_rays import cosmic_rays, fill, sharpest
from gpudiff.arrays.passes import Device
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.model.mask import bit
from gpudiff.science.stars import sky_noise

QUIET = 0.02
"""Share of the pixels whose noise may be below that with which suspects are looked for."""


def suspects(exposure: Exposure, psf: PsfModel, device: Device) -> np.ndarray:
    """(N,) numbers of the pixels that `mark_cosmic_rays` looks at; none of a resampled exposure.

    device : where they are looked for; if it holds the image, then as it is
    """
    if exposure.resampled:
        return np.empty(0, int)
    ratios = sharpest(_middle(exposure, psf))
    return device.suspects(exposure.image, sky_noise(exposure, QUIET), exposure.gain, ratios, exposure.held)


def mark_cosmic_rays(exposure: Exposure, psf: PsfModel, at: np.ndarray) -> int:
    """How many pixels were newly given the CR plane; unusable pixels of the image are filled from round them.

    Filled, because a matching kernel reaches into them: a hole in a star would be a hole in its match.
    Resampled pixels are left alone: interpolation blurs cosmic rays into stars and sharpens undersampled stars.
    at : from `suspects`
    """
    if exposure.resampled:
        return 0
    image, width = exposure.image, exposure.shape[1]

    def sigma_at(pixels: np.ndarray) -> np.ndarray:
        return np.sqrt(exposure.sky_variance.at(*np.divmod(pixels, width)))

    least = sky_noise(exposure, QUIET)
    middle = _middle(exposure, psf)
    struck = cosmic_rays(image, exposure.unusable, least, exposure.gain, middle, at, sigma_at)
    exposure.mark(*struck, "CR")
    holes = exposure.flaws[exposure.mask.reshape(-1)[exposure.flaws] & bit("SAT", "NO_DATA") == 0]
    fill(image, *np.divmod(holes, width))
    return len(struck[0])


def _middle(exposure: Exposure, psf: PsfModel) -> np.ndarray:
    """(P, P) the PSF in the middle of the exposure."""
    height, width = exposure.shape
    return psf.at(height / 2, width / 2)
