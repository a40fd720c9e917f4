"""Cosmic rays and hot pixels of an exposure."""

from gpudiff.arrays.cosmic_rays import cosmic_rays, fill
from gpudiff.arrays.stamps import positions
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.science.stars import sky_noise


def mark_cosmic_rays(exposure: Exposure, psf: PsfModel) -> int:
    """How many pixels were newly given the CR plane; unusable pixels of the image are filled from round them.

    Filled, because a matching kernel reaches into them: a hole in a star would be a hole in its match.
    Resampled pixels are left alone: interpolation blurs cosmic rays into stars and sharpens undersampled stars.
    """
    if exposure.resampled:
        return 0
    height, width = exposure.shape
    unusable = marked(exposure.mask, *UNUSABLE)
    found = cosmic_rays(
        exposure.image, unusable, sky_noise(exposure), exposure.gain, psf.at(height / 2, width / 2)
    )
    struck = positions(found)
    exposure.mask[struck] |= bit("CR")
    holes = found | unusable
    holes &= ~marked(exposure.mask, "SAT", "NO_DATA")
    fill(exposure.image, holes)
    return len(struck[0])
