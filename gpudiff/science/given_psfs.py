"""Cutouts: too few stars to match PSFs by, but both PSFs given.

The matching kernel is then the regularised quotient of the two PSFs (Phillips & Davis 1995, ASP Conf. 77, 297),
its sum the ratio of the two zero points, or 1 where they are not known.
"""

import numpy as np

from gpudiff.arrays.box import grown
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.science.match import KernelFit
from gpudiff.science.psf import given
from gpudiff.science.stars import Stars, find_stars

REGULAR = 1e-4
"""Squared transfer of the convolved PSF below which the quotient is not believed.  On 26 cutouts of a survey 1e-3
leaves more of sharp stars, 1e-5 more noise."""
SEEN, WINGS, ROUNDS, FEWEST = 3.5, 1.5, 3, 50
"""Sigmas of the difference that are no sky, Gaussian widths round them that are none either, how often they are
looked for; pixels that a level is known to 0.2 sigma by."""


def both(science: Exposure, template: Exposure) -> bool:
    """True when both frames came with their PSFs."""
    return science.frame.psf is not None and template.frame.psf is not None


def stars_or_psfs(
    science: Exposure, template: Exposure, settings: Match, margin: int, device: Device = CPU
) -> Stars:
    """`find_stars`, or where there are too few but both PSFs are given no star, and how wide these are.

    Raises NoStars, BadPsf.
    """
    try:
        return find_stars(science, template, settings, margin, device)
    except NoStars:
        if not both(science, template):
            raise
    place, yes, positions = np.empty(0, int), np.empty(0, bool), np.empty((3, 0))
    widths = width(_middle(science)), width(_middle(template))
    return Stars(place, place, np.empty(0, np.float32), yes, yes, positions, positions, widths)


def width(psf: np.ndarray) -> float:
    """Gaussian width of a (K, K) PSF by the area above half its peak, pixels."""
    return float(np.sqrt((psf > 0.5 * psf.max()).sum() * 4 / np.pi)) / FWHM


def match_psfs(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
    device: Device = CPU,
) -> KernelFit:
    """The kernel that takes `convolved` to the PSF and scale of `target`, from their given PSFs, constant.

    stars, psf, widths : as `science.match.match` takes them, the first two not used.  chi2 is unknown (NaN).
    """
    half = min(settings.half_width, (min(target.shape) - 1) // 2)
    kernel = quotient(_middle(target), _middle(convolved), half) * _scale(target, convolved)
    level = _level(target, convolved, kernel, widths[0])
    field = MatchingKernel(kernel[None], 0, target.shape, np.array([level]), 0)
    return KernelFit(field, np.zeros(len(stars), bool), 0, float("nan"), float("nan"), algorithm="given-psfs")


def _level(target: Exposure, convolved: Exposure, kernel: np.ndarray, psf_width: float) -> float:
    """What the difference has for a sky: a source fills so much of a cutout that neither image shows its own.

    Of the pixels that the kernel knows, away from what changed; where they are too few, of those at the rim too.
    """
    height, width = target.shape
    size = height + kernel.shape[0], width + kernel.shape[1]
    spectrum = np.fft.rfft2(convolved.image, size) * np.fft.rfft2(kernel, size)
    half = kernel.shape[0] // 2
    light = target.image - np.fft.irfft2(spectrum, size)[half : half + height, half : half + width]
    usable = ((target.mask | convolved.mask) & bit(*UNUSABLE)) == 0
    rim = min(half, min(target.shape) // 4)
    inner = np.zeros_like(usable)
    inner[rim : height - rim, rim : width - rim] = usable[rim : height - rim, rim : width - rim]
    if not inner.any():
        return 0.0
    middle = np.array([height // 2]), np.array([width // 2])
    a, b = (float(one.sky_variance.at(*middle)[0]) for one in (target, convolved))
    limit, reach = SEEN * np.sqrt(a + b * (kernel**2).sum()), round(WINGS * psf_width)
    level = float(np.median(light[inner]))
    for _ in range(ROUNDS):
        changed = grown(np.abs(light - level) > limit, reach)
        dark = next((one for one in (inner & ~changed, usable & ~changed) if one.sum() >= FEWEST), inner)
        level = float(np.median(light[dark]))
    return level


def quotient(target: np.ndarray, convolved: np.ndarray, half: int) -> np.ndarray:
    """(2 half + 1, ...) float64 kernel of unit sum that takes one (K, K) PSF to the other."""
    size = 2 * max(*target.shape, *convolved.shape, 2 * half + 1)
    wanted, seen = (np.fft.rfft2(_centred(psf, size)) for psf in (target, convolved))
    image = np.fft.irfft2(wanted * seen.conj() / (np.abs(seen) ** 2 + REGULAR), (size, size))
    index = np.arange(-half, half + 1)
    kernel = image[np.ix_(index, index)]
    return kernel / kernel.sum()


def _centred(psf: np.ndarray, size: int) -> np.ndarray:
    """A (K, K) PSF in a periodic square, its middle at [0, 0]."""
    out = np.zeros((size, size))
    out[: psf.shape[0], : psf.shape[1]] = psf
    return np.roll(out, (-(psf.shape[0] // 2), -(psf.shape[1] // 2)), (0, 1))


def _middle(exposure: Exposure) -> np.ndarray:
    """(K, K) the given PSF at the middle of the frame, unit sum."""
    assert exposure.frame.psf is not None
    model: PsfModel = given(exposure.frame.psf, exposure.shape, exposure.name)
    return model.at(exposure.shape[0] / 2, exposure.shape[1] / 2)


def _scale(target: Exposure, convolved: Exposure) -> float:
    """Flux in the target's unit over flux in the convolved image's."""
    mine, its = target.frame.zero_point, convolved.frame.zero_point
    return 1.0 if mine is None or its is None else 10 ** (0.4 * (mine - its))
