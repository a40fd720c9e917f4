"""Error planes that come with a frame: which power and scale of theirs is the variance of its sky."""

import numpy as np

from gpudiff.arrays.box import box_mean, grown
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.passes import Device
from gpudiff.model.errors import BadVariance, ConstantImage
from gpudiff.model.frame import Frame
from gpudiff.model.plane import DensePlane, Plane, SmoothPlane

SMALLEST = 64
"""Pixels along an axis; below it there is no room for a sky and stars."""
UNLIKE = 1e4
"""Factor by which no variance is off: a galaxy that fills a cutout explains hundreds."""
CONTRARY = 16.0
"""Times the sky's variance that no gain gives: drizzling onto pixels of half the size hides 6."""
OTHERWISE = {2.0: "standard deviations", 0.5: "variances squared", -1.0: "inverse variances"}
"""Powers of an error plane that are variances where its maker did not say what it holds."""
LIKELY = 2.0
"""Factor by which a variance and the scatter of neighbouring pixels without correlation may differ."""
WHITE = 0.9
"""Noise between neighbours over that of the sky above which it is not correlated."""
EVEN = 1.2
"""Upper quartile over lower one, from the median, below which a sky is noise: crowds that scatter by CONTRARY and
more had 1.35 at least, and 4000 pixels tell it to 0.05."""
LIT = 3.0, 0.1
"""Sigmas above the sky, and share of its photons in its variance, from which on a pixel has light."""
ROUND, DARK = 31, 0.05
"""Pixels of a square round it, and the share of dark ones among them, that tell of the sky's variance there."""


def from_plane(
    frame: Frame, image: np.ndarray, unusable: np.ndarray, sky: SmoothPlane, sigma: float, device: Device
) -> tuple[Plane, float, bool, list[str]]:
    """The sky's part of a variance plane.  Raises BadVariance for one that can be no variance of this sky.

    A pixel's own photons are in such a plane twice, as signal and as noise, and that correlation biases a
    weighted sum; so the sources' part is taken out here and put back from the model.  Where what is left is
    not smooth (holes of a coadd) the plane is kept pixel by pixel, that of what is round it where there is light.
    """
    height, width = image.shape
    above = image - sky.cut(0, height, 0, width)
    variance, base, known, given = _as_variance(frame, above, unusable, sigma)
    gain = _photon_gain(above, variance, unusable, base)
    left = variance - np.maximum(above, 0) / np.float32(gain)
    cell = int(np.clip(min(image.shape) // 8, 32, 128))
    grid, _ = device.mesh(left, unusable, cell, 2)
    grid[~np.isfinite(grid)] = np.nanmedian(grid)
    smooth = SmoothPlane(np.maximum(grid, 0.05 * base), image.shape)
    plane = smooth.cut(0, height, 0, width)
    uneven = (np.abs(left - plane) > 0.5 * plane + 0.3 * np.maximum(above, 0) / gain) & ~unusable
    said = f"{given}; sources' photons at {gain:.4g} e- a unit"
    if uneven.mean() > 0.002:
        kept = _without_light(np.maximum(variance, 0.05 * base), above, gain, unusable, plane)
        return DensePlane(kept), gain, known, [f"{said}; not smooth, kept as it is"]
    return smooth, gain, known, [said]


def _as_variance(
    frame: Frame, image: np.ndarray, unusable: np.ndarray, sigma: float
) -> tuple[np.ndarray, float, bool, str]:
    """((H, W) float32 variance, its typical value, whether its scale is known, note) of an error plane.

    The sky's scatter and that of neighbours are both that of white noise.  A crowd's stars widen one or both, and
    correlation narrows the second: a plane between the two is believed, and one above both by less than CONTRARY
    where there is correlation.  One far below both is brought to the scatter of neighbours where that is noise: as
    great as two pixels apart, or to both sides alike.  Else, and by less than CONTRARY, stars may belie it: it is
    relative, its scale for blank sky of the difference to say.  A cutout may have no sky: its plane is believed.

    image : sky-subtracted
    Raises BadVariance where the scale is out of all reason.
    """
    variance = np.asarray(frame.variance, np.float32)
    base, rough = float(np.median(variance[::3, ::3][~unusable[::3, ::3]])), noise_of_neighbours(image, unusable)
    cutout = min(image.shape) < SMALLEST
    power = 1.0 if cutout else _power(base, sigma, rough)
    if power != 1:
        with np.errstate(invalid="ignore", over="ignore"):
            variance, base = variance**power, base**power
    if sigma > 0 and not (base < UNLIKE * sigma**2 and min(sigma, rough) ** 2 < UNLIKE * base):
        raise BadVariance(
            f"{frame.name}: expected a variance, got a plane of {base:.3g} where the sky scatters by "
            f"{sigma:.3g}, a variance of {sigma**2:.3g}: weights?"
        )
    said = "variance plane given"
    if power != 1:
        said = f"{said} as {OTHERWISE[power]}, by the sky's noise"
    most = LIKELY if rough > WHITE * sigma else CONTRARY
    high = base < most * max(sigma, rough) ** 2
    if cutout or rough == 0 or (high and min(sigma, rough) ** 2 < LIKELY * base):
        return variance, base, True, said
    # In sigmas of each pixel: the typical value may be of another part than the typical scatter.
    factor = noise_of_neighbours(image, unusable, variance) ** 2
    if factor == 0 or 1 / most < factor < LIKELY:
        return variance, base, True, said
    white = factor**0.5 > WHITE * noise_of_neighbours(image, unusable, variance, 2)
    if factor < 1 and not white:
        rough, factor = sigma, factor * (sigma / rough) ** 2
    said = f"{said}, {base**0.5:.4g} a pixel where the sky scatters by {rough:.4g}"
    if factor >= LIKELY and not (factor >= CONTRARY and (white or _even(image, unusable))):
        return variance, base, False, f"{said}: taken as relative"
    return variance * np.float32(factor), base * factor, False, f"{said}: multiplied by {factor:.3g}"


def _even(image: np.ndarray, unusable: np.ndarray) -> bool:
    """Whether pixels lie as far above their median as below: noise does, the light of a crowd does not."""
    low, middle, high = np.quantile(some_of(image, unusable), (0.25, 0.5, 0.75))
    return bool(high - middle < EVEN * (middle - low))


def _power(base: float, sigma: float, rough: float) -> float:
    """The power of an error plane of that typical value that is the variance of a sky of that noise.

    rough : noise between neighbours.  Correlation, which lowers it, may hide much of a variance, but adds none.
    """
    likely = rough <= 0 or 1 / LIKELY < base / rough**2 < LIKELY
    hidden = base > rough**2 and rough < WHITE * sigma
    fitting = [] if likely or hidden else [power for power in OTHERWISE if agree(base**power, rough)]
    return fitting[0] if fitting else 1.0


def _without_light(
    variance: np.ndarray, above: np.ndarray, gain: float, unusable: np.ndarray, smooth: np.ndarray
) -> np.ndarray:
    """The sky's part of a plane, pixel by pixel; where there is light or no value, what dark pixels round it have.

    Where a mosaic is shallow its photons are noisier too: what one gain leaves of a star's would be in its sky.  A
    dark pixel's own noise is taken out as far as the plane follows it.
    above : (H, W) float32 light; smooth : (H, W) float32, taken where no dark pixel is near
    """
    lit = above > np.maximum(LIT[0] * np.sqrt(variance), LIT[1] * np.float32(gain) * variance)
    dark = ~(grown(lit, 2) | unusable)
    share, mean = (box_mean(np.where(dark, one, np.float32(0)), ROUND) for one in (np.float32(1), variance))
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(share > DARK, mean / share, smooth)
    some = (slice(None, None, 3),) * 2
    light, seen = above[some][dark[some]].astype(float), (variance[some] / level[some] - 1)[dark[some]]
    follows = np.float32(max((light * seen).sum() / max((light**2).sum(), 1e-30), 0.0))
    return np.where(dark, variance / np.maximum(1 + follows * above, 0.3), level)


def _photon_gain(above: np.ndarray, variance: np.ndarray, unusable: np.ndarray, base: float) -> float:
    """Electrons a unit: slope of signal against excess variance over the bright pixels; inf where none.

    Bright by the pixel's own variance: the noise of a shallow part of the image is not light.
    """
    with np.errstate(invalid="ignore"):
        bright = ~unusable & (above > 5 * np.sqrt(variance)) & (variance < 1e4 * base)
    if bright.sum() < 50:
        return np.inf
    signal, excess = above[bright].astype(np.float64), variance[bright].astype(np.float64) - base
    slope = float((signal * excess).sum() / (signal**2).sum())
    return 1 / slope if slope > 1e-9 else np.inf


def noise_of_neighbours(
    image: np.ndarray, unusable: np.ndarray, variance: np.ndarray | None = None, lag: int = 1
) -> float:
    """Noise of a pixel by its difference from the one `lag` on, along the axis that shows more of it.

    Nebulae, crowds and gradients, which widen a cell's histogram, do not raise it; correlation lowers it.
    variance : (H, W), to count in sigmas of; None: in image units
    """
    found = []
    for turn in (np.asarray, np.transpose):
        pixels, bad = turn(image)[::7], turn(unusable)[::7]
        good = ~(bad[:, lag:] | bad[:, :-lag])
        own = None if variance is None else turn(variance)[::7]
        both = 2.0 if own is None else (own[:, lag:] + own[:, :-lag])[good]
        found.append(robust_sigma((pixels[:, lag:] - pixels[:, :-lag])[good] / np.sqrt(both)))
    return max(found)


def agree(expected: float, sigma: float) -> bool:
    """Whether a variance is that of a sky of noise sigma."""
    return sigma > 0 and 0.7 < expected / sigma**2 < 1.4


def even_plane(sigma: float, frame: Frame) -> SmoothPlane:
    """The variance of a sky of noise sigma, the same all over.  Raises ConstantImage."""
    if sigma <= 0:
        raise ConstantImage(f"{frame.name}: expected a noisy sky, got most pixels at one value")
    return SmoothPlane(np.full((1, 1), sigma**2), frame.image.shape)


def some_of(image: np.ndarray, unusable: np.ndarray) -> np.ndarray:
    """Some 4,000 usable pixels of all over the frame."""
    step = max(1, int(np.sqrt(image.size / 4000)))
    return np.asarray(image[::step, ::step][~unusable[::step, ::step]])
