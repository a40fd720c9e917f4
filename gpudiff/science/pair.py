"""Two exposures as a pair: which one is convolved."""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.moments import FWHM, moments, second_moments
from gpudiff.arrays.subtract_tiles import Factors, Found, Pair
from gpudiff.model.config import Match
from gpudiff.model.errors import WrongShape
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import MatchingKernel
from gpudiff.science.stars import Stars

SHARPER = 0.9
"""The science image is convolved when its stars are narrower than this share of the template's."""
WIDEST = 12
"""FWHM, pixels, of which the widest PSF, 32 px from its middle, holds 2.7: 1 % of a star's light lies beyond."""


def check_shapes(science: Exposure, template: Exposure) -> None:
    """Raises WrongShape when the pixel grids differ in size."""
    if science.shape != template.shape:
        raise WrongShape(
            f"{template.name}: expected a template on the science frame's {science.shape} pixel grid, "
            f"got {template.shape}"
        )


def seeing_notes(stars: Stars) -> tuple[str, ...]:
    """A note on stars that are wider than a PSF can be here."""
    widest = FWHM * max(stars.width("science"), stars.width("template"))
    if widest <= WIDEST:
        return ()
    return (
        f"stars of FWHM {widest:.1f} px lose light beyond what a PSF takes in ({WIDEST:g} px): bin the images",
    )


def crossed_notes(target: np.ndarray, convolved: np.ndarray) -> tuple[str, ...]:
    """A note where stars of the convolved image are the wider ones along some direction, though not over all.

    target, convolved : (K, K) their PSFs
    """
    half = min(target.shape[0], convolved.shape[0]) // 2
    stamps = [_inner(psf, half)[None] for psf in (target, convolved)]
    # of twice its width: far out is noise where a PSF is of few stars, times the distance squared
    axes = [second_moments(stamp, min(2 * moments(stamp)[2][0], half / 3))[0] for stamp in stamps]
    if not np.isfinite(axes).all():
        return ()
    turns = np.radians(np.arange(0, 180, 5))
    along = np.stack([np.cos(turns) ** 2, np.sin(turns) ** 2, 2 * np.sin(turns) * np.cos(turns)])
    widths = np.sqrt(np.maximum(axes @ along, 0))
    worst = np.argmin(widths[0] / widths[1])
    if widths[0, worst] > SHARPER * widths[1, worst] or (widths[0] < SHARPER * widths[1]).all():
        return ()
    return (
        f"the PSFs are long in different directions: at {5 * worst} degrees the convolved stars are wider "
        f"({FWHM * widths[1, worst]:.1f} px against {FWHM * widths[0, worst]:.1f}), and the kernel has to sharpen "
        "them; --algorithm zogy need not",
    )


def _inner(psf: np.ndarray, half: int) -> np.ndarray:
    rim = psf.shape[0] // 2 - half
    return psf[rim : psf.shape[0] - rim, rim : psf.shape[1] - rim]


@dataclass(frozen=True)
class Roles:
    """Which exposure is convolved to match which."""

    target: Exposure
    convolved: Exposure
    target_width: float
    convolved_width: float
    name: str
    """"TEMPLATE" or "SCIENCE": what is convolved."""

    @property
    def convolves_science(self) -> bool:
        return self.name == "SCIENCE"

    @property
    def rings(self) -> int:
        """Pixels round a star out to which a kernel that has to sharpen leaves rings; 0 where it need not."""
        sharpens = self.convolved_width > self.target_width
        return round(1.5 * FWHM * self.target_width) if sharpens else 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know about the choice."""
        if self.target_width > SHARPER * self.convolved_width:
            return ()
        return (
            f"the {self.name.lower()} is convolved though its stars are wider ({self.convolved_width:.2f} px "
            f"against {self.target_width:.2f}): the kernel has to sharpen it, at the cost of noise and rings",
        )

    @property
    def widths(self) -> tuple[float, float]:
        """Gaussian widths of target and convolved stars, pixels."""
        return self.target_width, self.convolved_width


def roles(science: Exposure, template: Exposure, stars: Stars, settings: Match) -> Roles:
    """The sharper image is convolved, unless the configuration says which."""
    wide_science, wide_template = stars.width("science"), stars.width("template")
    choice = settings.convolve
    if choice == "auto":
        choice = "science" if wide_science < SHARPER * wide_template else "template"
    if choice == "science":
        return Roles(template, science, wide_template, wide_science, "SCIENCE")
    return Roles(science, template, wide_science, wide_template, "TEMPLATE")


def bare(parts: Roles) -> Pair:
    """The pair as arrays."""
    target, convolved = parts.target, parts.convolved
    return Pair(
        target.image,
        convolved.image,
        target.unusable,
        convolved.unusable,
        target.sky_variance.cut,
        convolved.sky_variance.cut,
        target.gain,
        convolved.gain,
        target.held,
        convolved.held,
        target.flaws,
        convolved.flaws,
    )


def bare_kernel(kernel: MatchingKernel, parts: Roles) -> Found:
    """The matching kernel as arrays."""
    coefficients, background = kernel.coefficients, kernel.background
    return Found(coefficients, kernel.order, background, kernel.background_order, parts.convolves_science)


def variance_factors(parts: Roles) -> tuple[Factors, Factors]:
    """The sky variances of target and convolved image as products of small matrices."""
    return parts.target.sky_variance.factors(), parts.convolved.sky_variance.factors()
