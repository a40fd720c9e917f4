"""Stamps of a pair of exposures, weighted by the noise: what a matching kernel is fitted to."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.box import grown
from gpudiff.arrays.gaps import REACH, gaps
from gpudiff.arrays.polynomial import field, terms
from gpudiff.arrays.stamps import inside, stamps
from gpudiff.model.frame import Exposure
from gpudiff.science.stars import FEWEST, Stars

FLOOR = 0.002
"""Fraction of a star's flux by which no model is trusted: keeps one bright star from deciding everything."""
SKY = 0.5
"""Squared signal to noise of a pixel of the convolved image at which its light is half of what it tells."""
DARK = 0.3
"""What a pixel without light counts in the fit."""
PASSED = 0.07
"""Share of the convolved image's noise that a typical matching kernel lets through, before dark pixels say it."""
DIM, SOME = 0.1, 200
"""Variance of a dark pixel's light over that of its sky, at most; dark pixels that say something."""
BLANK = 3.0
"""Sigmas within which a pixel is sky."""
MANY = 64
"""Stars that are enough to tell the noise round them."""
MEDIAN_POWER = 0.4549
"""Median of the square of a unit normal."""
FILLED = 1
"""Pixels from a pixel of the convolved image within which what it was filled with is felt: kernels fall off."""

Terms = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Stamps of the stars, ready to be fitted.

    target : (N, n) float32; convolved : (N, S, S) float32; usable : (N, n) bool
    own_variance : (N, n) float32, variance of a pixel of the convolved image, in the target's unit
    sky, photon : of the target and of the convolved image, in the target's unit, (2, N) and (2,): the variance of
        a pixel is sky + photon * model; passed : share of the convolved image's that is in the difference
    u, v : (N,) field coordinates; scale : flux of a star in the target over that in the convolved image
    steady : (N,) bool, False for a star whose flux changed: it may not pull the first fit
    white : from `white_share`
    """

    target: np.ndarray
    convolved: np.ndarray
    usable: np.ndarray
    own_variance: np.ndarray
    sky: np.ndarray
    photon: np.ndarray
    u: np.ndarray
    v: np.ndarray
    scale: float
    steady: np.ndarray
    shape: tuple[int, int]
    white: float = 0.0
    passed: float = PASSED

    def trust(self, model: np.ndarray) -> np.ndarray:
        """(N, n) in [DARK, 1]: how much of a pixel of the convolved image is light rather than its own noise.

        Noise in what is convolved pulls the fit to kernels that smooth it away; where there is no light there
        is nothing to learn about the kernel and all of that pull.  But of few faint stars only dark pixels tell
        the background from their wings: with none of them the kernel sum came out 4 to 7 % low.  The light is
        the mean star's, scaled: a weight that followed the pixel's own noise would bias the kernel sum.
        """
        light = _mean_star(model) ** 2
        noise = SKY * self.own_variance + 1e-30
        return (light + DARK * noise) / (light + noise)

    def pull(self, weights: np.ndarray, functions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """((N,), (M, M)): what the right side of each star's normal equations lacks for the noise of the convolved
        image is the first, times the star's coefficients in the solution, times the second.

        That noise is in the sums of squares and pulls the fit to kernels that smooth (regression dilution: Fuller
        1987, Measurement Error Models, section 2.2).  What it adds there, times the solution, is added here.

        weights : (N, n); functions : (M, K, K)
        """
        flat = functions.reshape(len(functions), -1)
        return (weights * self.own_variance).sum(1) * (self.white / self.scale**2), flat @ flat.T

    @property
    def side(self) -> int:
        """Pixels along a stamp."""
        return round(self.target.shape[1] ** 0.5)

    def variance(self, model: np.ndarray) -> np.ndarray:
        """(N, n) of target minus model, with the floor on trust."""
        bright = np.maximum(model, 0)
        photon = np.float32(self.photon[0] + self.passed * self.photon[1])
        return self.sky_variance[:, None] + bright * photon + (np.float32(FLOOR) * bright) ** 2

    @property
    def sky_variance(self) -> np.ndarray:
        """(N,) of a difference pixel without light."""
        return (self.sky[0] + self.passed * self.sky[1]).astype(np.float32)

    def seen(self, model: np.ndarray, left: np.ndarray, usable: np.ndarray, kernel: np.ndarray) -> "Sample":
        """The same with `passed` as dark pixels show it; at most all, or what `kernel` makes of white noise.

        A kernel that hardly smooths lets nearly all through: with too little expected, chi2 of two images of the
        same seeing and depth was 1.4, and a kernel that smooths too much won by it; one that sharpens makes it
        more.  Dark is where the mean star is: what is dark in a pixel of the model itself has little of its noise.

        model, left : (N, n), the convolved image matched, and the target less that and the background
        kernel : (K, K), the mean one
        """
        step = slice(None, None, 1 + len(model) // MANY)
        sky = self.sky_variance[step, None]
        dark = usable[step] & (self.photon.sum() * _mean_star(model)[step] < DIM * sky)
        dark &= model[step] < BLANK * np.sqrt(sky)  # where no other star is
        if np.count_nonzero(dark) < SOME:
            return self
        power = float(np.median((left[step] ** 2 / sky)[dark])) / MEDIAN_POWER
        passed = (power * sky[:, 0] - self.sky[0, step]) / np.maximum(self.sky[1, step], 1e-30)
        most = max(1.0, float((kernel**2).sum()) / self.scale**2)
        return dataclasses.replace(self, passed=float(np.clip(np.median(passed), 0, most)))

    def terms(self, spatial_order: int, background_order: int) -> Terms:
        """The polynomial terms of kernel and background at each stamp: (N, P) and (N, Q)."""
        return terms(self.u, self.v, spatial_order), terms(self.u, self.v, background_order)


def _mean_star(model: np.ndarray) -> np.ndarray:
    """(N, n) light of the mean star, scaled to each of (N, n)."""
    flux = np.maximum(model.sum(1), 0)
    return flux[:, None] * (np.maximum(model.sum(0), 0) / max(float(flux.sum()), 1e-30))


def sample_of(target: Exposure, convolved: Exposure, stars: Stars, half: int, fit: int) -> Sample:
    """The stars' stamps of half width `fit`, for a kernel of half width `half`."""
    scale, steady = flux_ratio(target, convolved, stars)
    white = white_share(target, convolved, stars.y, stars.x)
    made = patches(target, convolved, stars.y, stars.x, half, fit, scale)
    return dataclasses.replace(made, steady=steady, white=white)


def patches(
    target: Exposure, convolved: Exposure, y: np.ndarray, x: np.ndarray, half: int, fit: int, scale: float
) -> Sample:
    """Stamps of half width `fit` round whole-pixel positions, all of them steady.

    half : of the kernel, pixels; scale : target's flux over the convolved image's
    """
    unusable = stamps(convolved.unusable, y, x, fit + half + REACH)
    blocked = gaps(unusable) | ~inside(target.shape, y, x, fit + half)
    blocked = _any_within(blocked, 2 * half + 1) | stamps(target.unusable, y, x, fit)
    beside = half + REACH - FILLED
    blocked |= _any_within(unusable[:, beside:-beside, beside:-beside], 2 * FILLED + 1)
    sky = np.stack([target.sky_variance.at(y, x), scale**2 * convolved.sky_variance.at(y, x)])
    count = len(y)
    height, width = target.shape
    around, inner = stamps(convolved.image, y, x, fit + half), slice(half, half + 2 * fit + 1)
    light = np.maximum(around[:, inner, inner], 0)
    own = convolved.sky_variance.at(y, x)[:, None, None] + light / np.float32(convolved.gain)
    return Sample(
        stamps(target.image, y, x, fit).reshape(count, -1),
        around,
        ~blocked.reshape(count, -1),
        (scale**2 * own).reshape(count, -1).astype(np.float32),
        sky,
        np.array([1 / target.gain, scale / convolved.gain]),
        field(x, width),
        field(y, height),
        scale,
        np.ones(count, bool),
        target.shape,
    )


ROUND = 20
"""Pixels on each side of a star that are looked at."""
SAME = 0.05
"""Correlation of the noise of two images up to which it is chance, or faint light that both show."""


def white_share(target: Exposure, convolved: Exposure, y: np.ndarray, x: np.ndarray) -> float:
    """Share of the convolved image's noise that is independent from pixel to pixel, on the sky round stars.

    0 where the target has that noise, too, as a copy does, or a mean that it is in.  The mask (1, -2, 1) along
    both axes leaves noise, 36 times its variance, and next to nothing of light (Immerkaer 1996, CVIU 64, 300).
    """
    images, step = (target, convolved), 1 + len(y) // MANY
    y, x = y[::step], x[::step]
    cut = [stamps(image.image, y, x, ROUND) for image in images]
    sky = [image.sky_variance.at(y, x)[:, None, None] for image in images]
    blank = np.logical_and(*(np.abs(one) < BLANK * np.sqrt(power) for one, power in zip(cut, sky, strict=True)))
    some = blank[:, 1:-1, 1:-1]
    if not some.any():
        return 0.0
    mine, own = (np.diff(np.diff(one, 2, 1), 2, 2)[some] / 6 for one in cut)
    if float((mine * own).mean()) ** 2 > SAME**2 * float((mine**2).mean()) * float((own**2).mean()):
        return 0.0
    expected = np.broadcast_to(sky[1], some.shape)[some].mean()
    return min(float((own**2).mean() / expected), 1.0)


CHANGED = 0.1
"""Share of its flux by which a star has to differ from the others before it is called variable."""


def flux_ratio(target: Exposure, convolved: Exposure, stars: Stars) -> tuple[float, np.ndarray]:
    """(median star's flux in the target over that in the convolved image, (N,) bool: not variable)."""
    images = target, convolved
    flux = np.array([stamps(image.image, stars.y, stars.x, 7).sum((1, 2)) for image in images])
    sky = np.array([15**2 * image.sky_variance.at(stars.y, stars.x) for image in images])
    light = np.maximum(flux, 0) / np.array([[image.gain] for image in images])
    good = (flux > 0).all(0)
    if not good.any():
        return 1.0, np.ones(len(stars), bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(good, flux[0] / flux[1], np.inf)
        error = ratio * np.sqrt(((sky + light) / flux**2).sum(0))
    where = np.stack([field(stars.x, target.shape[1]), field(stars.y, target.shape[0])], 1)
    return float(np.median(ratio[good])), steady_of(ratio, np.where(good, error, 0), where)


def steady_of(ratio: np.ndarray, error: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N,) bool: stars whose flux ratio lies on the plane over the field that most lie on.

    ratio, error : (N,), inf and 0 where a flux is not positive, of one star at least it is; where : (N, 2) u, v
    A star is off by more than 5 sigma and CHANGED.  All are steady where fewer than 3 would be left.
    """
    middle = float(np.median(ratio[np.isfinite(ratio)]))
    near = np.abs(ratio - middle) < 5 * error + 3 * CHANGED * middle
    design = np.column_stack([np.ones(len(ratio)), where])
    for _ in range(3):
        if near.sum() <= 3 * design.shape[1]:
            return near if near.sum() >= FEWEST else np.ones(len(ratio), bool)
        weight = 1 / np.hypot(error[near], 0.02 * middle)
        plane = np.linalg.lstsq(design[near] * weight[:, None], ratio[near] * weight, rcond=None)[0]
        near = np.abs(ratio - design @ plane) < 5 * error + CHANGED * middle
    return near if near.sum() >= FEWEST else np.ones(len(ratio), bool)


def _any_within(flags: np.ndarray, side: int) -> np.ndarray:
    """(N, S - side + 1, ...) True where any of the side x side pixels is; side : odd"""
    half = side // 2
    inner = slice(half, flags.shape[1] - half)
    some = flags.any((1, 2))  # of few stamps
    out = np.zeros_like(flags[:, inner, inner])
    out[some] = grown(flags[some], half)[:, inner, inner]
    return out
