"""Images of one sky added up: what only one of them shows is left out, the rest is weighted."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

OUTLIER = 5.0
"""Sigmas, of a pixel or of what lies under a PSF, from which a deviation is none of the noise."""
EDGE = 1.5
"""Sigmas under a PSF down to which a deviation is followed from its brightest place."""
MARGIN = 40
"""Pixels beyond a band of rows that the search for outliers looks at."""
CORE, WING, SLOPE = 0.1, 0.04, 0.25
"""How wrong two images may be on a star whose seeing was made alike: a share of its light, of its peak within a
FWHM, and of how much it changes within a pixel, for errors of registration.  Real PSFs are no Gaussians."""
FAINT = 8.0
"""Sigmas of the middle image, smoothed, below which there is no star to be wrong about."""
SHARP = 0.3
"""Pixels of blur that change nothing."""
LOWER = 1 / np.sqrt(np.pi)
"""Sigmas by which the lower of two values lies below their mean, on average."""


@dataclass(frozen=True)
class Stack:
    """N images of the same sky in one unit and on one grid, or a band of their rows.

    values : (N, h, w) float32, finite
    good : (N, h, w) bool, pixels that count; saturated : (N, h, w) bool, those of them that are too low
    variance : (N,) of the sky in a pixel; photons : (N,) variance that a unit of light adds
    width : (N,) Gaussian widths of the stars, pixels
    """

    values: np.ndarray
    good: np.ndarray
    saturated: np.ndarray
    variance: np.ndarray
    photons: np.ndarray
    width: np.ndarray


def outliers(stack: Stack) -> np.ndarray:
    """(N, h, w) bool: pixels where one image shows what the others do not: rays, satellites, what moves.

    All are blurred to the widest seeing and compared with their middle, pixel by pixel and under a PSF; what
    differs is followed to where it is lost in the noise, and a FWHM farther.  What remains of a source that one
    image alone shows is its share of the sum if it lies below OUTLIER, and next to nothing of a brighter one; but
    on and beside a star what seeing and registration may do to it is believed (CORE, WING, SLOPE).
    One image has no outliers; of two the lower is believed.
    """
    found = np.zeros(stack.good.shape, bool)
    if len(stack.values) < 2:
        return found
    middle = np.nan_to_num(_middle(stack, stack.values))
    widest = float(stack.width.max())
    blur = np.sqrt(np.maximum(widest**2 - stack.width.astype(float) ** 2, 0))
    images = zip(stack.values, stack.good, blur, strict=True)
    alike = np.stack([_blurred(np.where(good, values, middle), k) for values, good, k in images])
    level = _middle(stack, alike)
    known = np.isfinite(level)
    level[~known] = 0
    smooth = ndimage.gaussian_filter(level, 1.0)
    step = ndimage.maximum_filter(smooth, 3) - ndimage.minimum_filter(smooth, 3)
    own = 1.57 * stack.variance.mean() / len(stack.values)
    beside = ndimage.maximum_filter(smooth, 2 * round(2.355 * widest) + 1)
    allowed = SLOPE * step + CORE * np.maximum(smooth, 0) + WING * np.maximum(beside, 0)
    allowed[beside < FAINT * np.sqrt(own)] = 0  # noise, no star
    saturated = ndimage.binary_dilation(stack.saturated.any(0), iterations=3)
    for image, k in enumerate(blur):
        noise = np.sqrt(stack.variance[image] + own + stack.photons[image] * np.maximum(middle, 0))
        away = np.where(stack.good[image] & known & ~saturated, alike[image] - level, 0)
        away = np.sign(away) * np.maximum(np.abs(away) - allowed, 0) / noise
        found[image] = _followed(away, float(stack.width[image]), k) & ~saturated
    return found


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    """The image with its stars wider by a Gaussian of so many pixels; as it is below what pixels can show."""
    return ndimage.gaussian_filter(image, width, truncate=3.0) if width > SHARP else image


def _middle(stack: Stack, images: np.ndarray) -> np.ndarray:
    """(h, w) median of the good values, of two the lower put right for its noise; NaN where none is good."""
    values = np.where(stack.good, images, np.inf)
    values.sort(0)
    count = stack.good.sum(0)
    low, high = np.maximum(count - 1, 0) // 2, np.where(count == 2, 0, count // 2)
    take = [np.take_along_axis(values, np.minimum(i, len(values) - 1)[None], 0)[0] for i in (low, high)]
    noise = np.sqrt(stack.variance.mean() + stack.photons.mean() * np.maximum(take[0], 0))
    middle = np.where(count == 2, take[0] + LOWER * noise, 0.5 * (take[0] + take[1]))
    return np.where(count > 0, middle, np.nan).astype(np.float32)


def _followed(away: np.ndarray, width: float, blur: float) -> np.ndarray:
    """Bool: the outliers in a map of deviations over noise, and what belongs to them.

    width : of the image's stars; blur : by which the map was widened, its noise with it
    """
    core = _over_scatter(away, _quieter(blur)) > OUTLIER
    rest = float(np.sqrt(max(width**2 - blur**2, 0)))
    seen = _over_scatter(_blurred(away, rest), _quieter(np.hypot(rest, blur)))
    seeds = core | (seen > OUTLIER)
    if not seeds.any():
        return seeds
    reach = round(2.355 * width)
    near = ndimage.binary_propagation(seeds & (seen > EDGE), mask=seen > EDGE)
    disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
    return ndimage.binary_dilation(near, disc) | ndimage.binary_dilation(core, iterations=1)


def _over_scatter(values: np.ndarray, expected: float) -> np.ndarray:
    """|values| in their own scatter, no less than the one expected: noise may be correlated, a sky uneven."""
    size = np.abs(values)
    return size / np.float32(max(expected, 1.4826 * float(np.median(size[::3, ::3]))))


def _quieter(width: float) -> float:
    """The noise of a pixel after a blur, of that before, where it is white."""
    return float(min(1.0, 1 / (2 * np.sqrt(np.pi) * width))) if width > SHARP else 1.0


@dataclass(frozen=True)
class Sum:
    """A weighted mean and what is known of it; all (h, w).

    image, variance : float32, NaN where no image counts; variance : of the sky and of the light
    count : uint16, images that count there; saturated : bool, one of them is too low
    """

    image: np.ndarray
    variance: np.ndarray
    count: np.ndarray
    saturated: np.ndarray


def weighted(stack: Stack, weights: np.ndarray, left_out: np.ndarray) -> Sum:
    """The mean of what is good and not left out.  weights : (N,), one an image, so that its PSF is one everywhere

    Weights that followed each pixel's own noise would make stars fainter than they are.
    """
    use = stack.good & ~left_out
    total, image, sky, light = (np.zeros(use.shape[1:]) for _ in range(4))
    for one, weight in enumerate(weights):
        share = weight * use[one]
        total += share
        image += share * stack.values[one]
        sky += share * weight * stack.variance[one]
        light += share * weight * stack.photons[one]
    with np.errstate(divide="ignore", invalid="ignore"):
        image /= total
        variance = (sky + light * np.maximum(image, 0)) / total**2
    count = use.sum(0).astype(np.uint16)
    return Sum(image.astype(np.float32), variance.astype(np.float32), count, (use & stack.saturated).any(0))
