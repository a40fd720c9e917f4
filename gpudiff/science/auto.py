"""The matching kernel that the stars ask for: of Gaussians, or pixel by pixel where those do not describe it."""

import dataclasses

import numpy as np

from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.science.delta import delta
from gpudiff.science.match import KernelFit, match
from gpudiff.science.stars import Stars

COMMON = 1.5, 0.01
"""Squared significance of a pixel, and share of the light, of a residual that the stars have in common, above
which the Gaussians do not describe the kernel.  Noise gives 1 within 5 % (the mean of 625 squares or more), an
undersampled PSF 1.2."""
SURE = 2.0
"""Errors of the mean by which a basis has to predict held-back stars better."""


def auto(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
    device: Device = CPU,
) -> KernelFit:
    """As `science.match.match`, or as `science.delta.delta` where the stars say so.

    The second is slow, so it is tried only where the first leaves the same residual at all stars; it is taken
    where it predicts held-back stars better.
    """
    gaussians = dataclasses.replace(
        match(target, convolved, stars, psf, widths, settings, device), algorithm="alard-lupton"
    )
    if not (gaussians.common[0] > COMMON[0] and gaussians.common[1] > COMMON[1]):
        return gaussians
    try:
        pixels = delta(target, convolved, stars, psf, widths, settings, device)
    except NoStars:
        return gaussians
    if not _better(pixels, gaussians):
        return gaussians
    said = (
        f"Gaussians leave {100 * gaussians.common[1]:.1f} % of the stars' light in a pattern that all have: the "
        "matching kernel is taken pixel by pixel (delta)"
    )
    return dataclasses.replace(pixels, algorithm="delta", notes=(said,))


def _better(one: KernelFit, other: KernelFit) -> bool:
    """Whether one fit surely predicts held-back stars better than another."""
    assert one.held_back is not None
    assert other.held_back is not None
    gain = np.log(other.held_back) - np.log(one.held_back)
    gain = gain[np.isfinite(gain)]
    return len(gain) > 1 and bool(gain.mean() > SURE * gain.std(ddof=1) / np.sqrt(len(gain)))
