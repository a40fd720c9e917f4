"""A template from earlier exposures: brought onto one grid and one scale, cleaned of what moved, added up."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpudiff import __version__
from gpudiff.arrays.combine import MARGIN, Stack, Sum, outliers, weighted
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.parallel import over
from gpudiff.arrays.stamps import stamps
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import NoStars, NoUsablePixels
from gpudiff.model.frame import Exposure, Frame, FrameId, Observation
from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.model.plane import constant
from gpudiff.model.provenance import extend, step
from gpudiff.model.sky import Sky
from gpudiff.model.tables import Column, Table
from gpudiff.science.align import align
from gpudiff.science.calibrate import calibrate
from gpudiff.science.clean_stars import clean_stars
from gpudiff.science.psf import psf_of
from gpudiff.science.stars import Stars, find_stars, sky_noise

BAND = 256
"""Rows that are added up at a time."""
APERTURE = 1.5
"""Radius in which stars are compared, in FWHM of the wider image."""
RIM = 15
"""Pixels from the edge within which stars do not help."""
LEAST = 0.05
"""Share of its grid that a template covers, at which its PSF can still be measured."""
COADD_INPUT: tuple[Column, ...] = (
    Column("name", "U64", "", "file"),
    Column("digest", "U32", "", "of the frame (blake2b-128)"),
    Column("visit", "i8", "", "visit number"),
    Column("detector", "i2", "", "detector number"),
    Column("midpointMjdTai", "f8", "d", "middle of the exposure, MJD TAI"),
    Column("fwhm", "f4", "pixel", "of its stars on the template's grid"),
    Column("scale", "f8", "", "template units a unit of the frame"),
    Column("weight", "f8", "", "share of the sum where all count"),
    Column("clipped", "f8", "", "share of its pixels that were left out as outliers"),
)
"""What went into a template: the provenance that its file keeps."""


@dataclass(frozen=True)
class Layer:
    """One exposure on the template's grid, ready to be added.

    exposure : its planes may lie in a file; width : Gaussian width of its stars, pixels
    scale : template units a unit of the exposure; noise : of a sky pixel, the exposure's units
    """

    exposure: Exposure
    width: float
    scale: float
    noise: float


def on_grid(grid: Exposure, frame: Frame, configuration: Configuration, first: Exposure | None = None) -> Layer:
    """A frame calibrated, cleaned of cosmic rays, and brought onto the grid of an exposure.

    As `match.align` says (science.align); with "auto", by the WCS alone on a grid without pixels, and by the stars
    alone where there is no WCS: nothing is taken as aligned without a look that is not the grid itself.  Its flux
    is scaled by the two zero points, where both are known, else by the stars in it and in `first`, the grid unless
    given, which a grid without pixels is compared with.  Raises InputRejected by its branches.
    """
    exposure = calibrate(frame, configuration)
    blank = not grid.image.any()
    clean_stars(exposure, exposure, configuration.match)
    placed = _placed(grid, exposure, configuration, blank)
    compared = (first or placed) if blank else grid
    stars = _stars(compared, placed, configuration)
    scale = _by_zero_points(grid.frame, frame) or _by_stars(compared, placed, stars)
    return Layer(placed, stars.width("template"), scale, sky_noise(placed))


def _placed(grid: Exposure, exposure: Exposure, configuration: Configuration, blank: bool) -> Exposure:
    """The exposure on the grid; a frame that is the grid itself is not resampled."""
    choice = configuration.match.align
    if choice == "auto":
        if grid.frame.digest and grid.frame.digest == exposure.frame.digest:
            choice = "none"
        elif blank:
            choice = "wcs"
        elif not (Sky(grid.frame.wcs) and Sky(exposure.frame.wcs)):
            choice = "stars"
    return align(grid, exposure, override(configuration, "match", align=choice))


def _stars(grid: Exposure, placed: Exposure, configuration: Configuration) -> Stars:
    return find_stars(grid, placed, configuration.match, min(RIM, min(grid.shape) // 6))


def _by_zero_points(grid: Frame, frame: Frame) -> float | None:
    if grid.zero_point is None or frame.zero_point is None:
        return None
    return float(10 ** (0.4 * (grid.zero_point - frame.zero_point)))


def _by_stars(grid: Exposure, placed: Exposure, stars: Stars) -> float:
    """Median flux ratio of the stars, in an aperture that seeing hardly changes."""
    use = stars.stellar & stars.isolated
    y, x = (stars.y[use], stars.x[use]) if use.sum() >= 5 else (stars.y, stars.x)
    radius = APERTURE * FWHM * max(stars.width("science"), stars.width("template"))
    half = int(np.ceil(radius))
    circle = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]) <= radius
    own, theirs = ((stamps(one.image, y, x, half) * circle).sum((1, 2)) for one in (grid, placed))
    bright = (own > 0) & (theirs > 0)
    return float(np.median(own[bright] / theirs[bright]))


def empty_grid(like: Frame, shape: tuple[int, int], wcs: dict) -> Exposure:
    """A grid without light, in a frame's unit and with its zero point."""
    frame = dataclasses.replace(like.without_planes(), wcs=wcs, psf=None, digest="")
    image, mask = np.zeros(shape, np.float32), np.zeros(shape, np.uint16)
    return Exposure(frame, image, mask, constant(0, shape), constant(1, shape), np.inf, False)


def weights_of(layers: list[Layer]) -> np.ndarray:
    """(N,) weights, of sum 1, that find point sources best in the plain sum.

    The signal to noise of a PSF in sum w_i I_i is stationary for w_i in proportion to what image i's PSF and the
    sum's have in common, over its variance: for Gaussians 1 / (sigma_i^2 (width_i^2 + width^2)).
    """
    variance = np.array([(layer.scale * layer.noise) ** 2 for layer in layers])
    width2 = np.array([layer.width**2 for layer in layers])
    made = 1 / (variance * (width2 + np.median(width2)))
    return made / made.sum()


def coadd(
    layers: list[Layer],
    grid: Exposure,
    configuration: Configuration,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Frame, np.ndarray, Table]:
    """(the template, with its PSF where it has stars; how many layers count in each pixel; what went in).

    The mask has SAT where one that counts is saturated, NO_DATA where none counts.  The variance is that of the
    sky on the scale of a star, as for any resampled image, and of the light.  layers : planes may be memory maps
    """
    weights = weights_of(layers)
    height, width = grid.shape
    image, variance = (np.empty((height, width), np.float32) for _ in range(2))
    mask, count = np.empty((height, width), np.int32), np.empty((height, width), np.uint16)
    starts, done = range(0, height, BAND), []

    def work(start: int) -> np.ndarray:
        core, made, share = _band(layers, weights, start, height)
        image[core], variance[core], count[core] = made.image, made.variance, made.count
        mask[core] = np.where(made.saturated, bit("SAT"), 0) | np.where(made.count == 0, bit("NO_DATA"), 0)
        done.append(start)
        progress(len(done), len(starts))
        return share

    clipped = np.mean(over(work, starts, configuration.match.threads), 0)
    frame = _frame(layers, weights, grid, image, mask, variance)
    digests = [layer.exposure.frame.digest for layer in layers]
    steps = step("coadd", __version__, configuration.digest("calibrate", "match"), digests)
    frame = dataclasses.replace(frame, digest=extend("", [steps]))
    return _with_psf(frame, configuration), count, _inputs(layers, weights, clipped)


def _band(layers: list[Layer], weights: np.ndarray, start: int, height: int) -> tuple[slice, Sum, np.ndarray]:
    """(rows, their sum, share of each layer that was clipped)."""
    outer = slice(max(start - MARGIN, 0), min(start + BAND + MARGIN, height))
    core = slice(start, min(start + BAND, height))
    inner = slice(core.start - outer.start, core.stop - outer.start)
    stack = _stack(layers, outer)
    left_out = outliers(stack)[:, inner]
    cut = dataclasses.replace(
        stack, values=stack.values[:, inner], good=stack.good[:, inner], saturated=stack.saturated[:, inner]
    )
    return core, weighted(cut, weights, left_out), left_out.mean((1, 2))


def _stack(layers: list[Layer], rows: slice) -> Stack:
    scale = np.array([layer.scale for layer in layers])
    values = np.stack([layer.exposure.image[rows] * np.float32(layer.scale) for layer in layers])
    masks = np.stack([layer.exposure.mask[rows] for layer in layers])
    saturated = marked(masks, "SAT")
    good = ~marked(masks, *(name for name in UNUSABLE if name != "SAT"))
    noise = np.array([layer.noise for layer in layers])
    gain = np.array([layer.exposure.gain for layer in layers])
    width = np.array([layer.width for layer in layers])
    return Stack(values, good, saturated & good, (scale * noise) ** 2, scale / gain, width)


def _frame(
    layers: list[Layer],
    weights: np.ndarray,
    grid: Exposure,
    image: np.ndarray,
    mask: np.ndarray,
    variance: np.ndarray,
) -> Frame:
    seen = [layer.exposure.frame.observation for layer in layers]
    like = grid.frame.observation
    photons = sum(w**2 * layer.scale / layer.exposure.gain for w, layer in zip(weights, layers, strict=True))
    observation = Observation(
        FrameId(like.frame.visit, 0, like.frame.detector),
        like.band,
        mjd_start_tai=float(np.fmin.reduce([one.mjd_start_tai for one in seen])),
        mjd_end_tai=float(np.fmax.reduce([one.mjd_end_tai for one in seen])),
        exposure_s=float(sum(one.exposure_s for one in seen)),
        boresight_ra=like.boresight_ra,
        boresight_dec=like.boresight_dec,
        rotation_deg=like.rotation_deg,
    )
    return Frame(
        f"template of {len(layers)} exposures",
        observation,
        image,
        mask,
        variance,
        gain=float(1 / photons) if photons > 0 else None,
        wcs=grid.frame.wcs,
        unit=grid.frame.unit,
        zero_point=grid.frame.zero_point,
    )


def _with_psf(frame: Frame, configuration: Configuration) -> Frame:
    """The frame with the PSF of its stars at a 3 x 3 grid of positions; as it is when it has too few."""
    partly = override(configuration, "calibrate", min_usable_fraction=LEAST)
    try:
        exposure = calibrate(frame, partly)
        stars = _stars(exposure, exposure, configuration)
    except (NoStars, NoUsablePixels):
        return frame
    return dataclasses.replace(frame, psf=psf_of(exposure, stars, "science").at_thirds())


def _inputs(layers: list[Layer], weights: np.ndarray, clipped: np.ndarray) -> Table:
    frames = [layer.exposure.frame for layer in layers]
    seen = [frame.observation for frame in frames]
    return Table(
        COADD_INPUT,
        {
            "name": [frame.name.rsplit("/", 1)[-1] for frame in frames],
            "digest": [frame.digest for frame in frames],
            "visit": [one.frame.visit for one in seen],
            "detector": [one.frame.detector for one in seen],
            "midpointMjdTai": [one.midpoint_mjd_tai for one in seen],
            "fwhm": [FWHM * layer.width for layer in layers],
            "scale": [layer.scale for layer in layers],
            "weight": weights,
            "clipped": clipped,
        },
    )
