"""The noise of the difference: what the kernel predicts, what is seen, and the filter that whitens it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from scipy import ndimage

from gpudiff.arrays.afar import Afar, cores
from gpudiff.arrays.correlation import autocorrelation, of_kernel
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.parallel import over
from gpudiff.arrays.quiet_sky import MEAN, sigmas
from gpudiff.arrays.score_tiles import extra_power, mean_power, noise_power, reach_of
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.model.kernel import MatchingKernel
from gpudiff.science.pair import Roles

REACH = 8
"""Pixels over which the noise of an image may be correlated (resampling, stacking)."""
ENOUGH = 500
"""Pixels of blank sky below which its scatter says nothing."""
SIDE, SAMPLE, ROUNDS, PLENTY = 128, 16, 4, 130_000
"""Side of the tiles that are looked at, pixels; how many at a time, spread over the frame, and how many times at
most; pixels of blank sky that are enough, half of those tiles': their scatter is known to 0.2 %, a correlation to
0.3 %."""
START, FEW = 10_000, 1_000
"""Pixels, of one sample and of each of many, whose median deviation tells where clipping starts: where it ends
does not depend on it."""
CORRELATED = {True: 0.08, False: 0.03}
"""Unexplained correlation within 2 px that says the inputs were resampled, where their variances are known to
fit white noise and where not.  Residuals of faint stars give up to 0.03."""
FELT = 0.1, 0.25, 5.0
"""Share of a star's variance by which correlation over its light is felt (the score is 5 % too wide), share of the
tiles that need not feel it, and errors of the mean.  Between neighbours it may be too weak to see: a stacked
template's under the science image's noise, or fringes.  Noise is everywhere, what streaks leave is not."""
SHARED = 0.01
"""Variance on blank sky over the propagated one below which the two images have their noise in common."""
RATIO = 0.1, 10.0
"""How far from the predicted power spectrum the noise may be believed to be."""


@dataclass(frozen=True)
class Noise:
    """Noise of the plain difference.

    seen : variance on blank sky over the propagated one
    spectrum : (2 REACH + 1)^2 autocorrelation, window applied, seen and predicted: their spectra's ratio tells
        what the kernel does not explain; None when the images' noise is white, as propagation assumes
    calibrated : True when the propagated variance is to be multiplied by `seen`
    shared : both images have the same noise, so that the difference shows none of it; then nothing is measured
    """

    seen: float
    spectrum: tuple[np.ndarray, np.ndarray] | None
    calibrated: bool
    shared: bool = False

    @property
    def correlated(self) -> bool:
        return self.spectrum is not None

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        said = []
        if self.shared:
            said.append("science and template have their noise in common, as copies do: it is taken as given")
        if self.calibrated:
            said.append(f"variance multiplied by {self.seen:.3f}, the scatter seen on blank sky")
        if self.correlated:
            said.append("the inputs' noise is correlated (resampled or stacked): whitened as measured")
        return tuple(said)

    def ratio(self, size: int) -> np.ndarray:
        """(size, size // 2 + 1) power spectrum seen over predicted."""
        assert self.spectrum is not None
        seen, predicted = (extra_power(one, size) for one in self.spectrum)
        return np.clip(seen / np.maximum(predicted, 1e-6), *RATIO)


def _window() -> np.ndarray:
    """Parzen's lag window, whose spectrum is never negative (Priestley 1981, section 6.2.3)."""
    lag = np.abs(np.arange(-REACH, REACH + 1)) / (REACH + 1)
    one = np.where(lag <= 0.5, 1 - 6 * lag**2 * (1 - lag), 2 * (1 - lag) ** 3)
    return one[:, None] * one


def sky_variances(parts: Roles, y: float, x: float) -> tuple[float, float]:
    """(target's, convolved's) sky variance at a position."""
    height, width = parts.target.shape
    where = np.array([int(np.clip(y, 0, height - 1))]), np.array([int(np.clip(x, 0, width - 1))])
    return float(parts.target.sky_variance.at(*where)[0]), float(parts.convolved.sky_variance.at(*where)[0])


def sky_limit(kernel: MatchingKernel, parts: Roles) -> float:
    """Sigmas of the difference below which that average says "sky": 0.4, and 2.5 sigma of its own noise.

    The convolved image's noise is in the difference too: a limit without room for it would pick pixels where
    both happen to be small, and make the difference look quieter than it is.
    """
    height, width = kernel.shape
    a, b = sky_variances(parts, height / 2, width / 2)
    image = kernel.at(height / 2, width / 2)
    return limit_of(image, np.sqrt(b / (a + b * float((image**2).sum()))))


def limit_of(filter_image: np.ndarray, sigma: float) -> float:
    """The same for an image made by a filter (K, K) from white noise of `sigma` sigmas of the difference."""
    averaged = ndimage.uniform_filter(np.pad(filter_image, MEAN), MEAN, mode="constant")
    return 0.4 + 2.5 * sigma * float(np.sqrt((averaged**2).sum()))


OUTLIER = 4.5
"""Sigmas beyond which a pixel of blank sky is left out of statistics."""


def measure(
    image: np.ndarray,
    variance: np.ndarray,
    blank: np.ndarray,
    predict: Callable[[float, float], np.ndarray],
    known: bool,
    width: float,
    threads: int = 0,
) -> Noise:
    """The noise seen on blank sky against the propagated one.

    predict(y, x) : (2 REACH + 1)^2 autocorrelation that the filters give white inputs there, any scale
    known : the inputs' variances follow from variance planes, or gain and read noise
    width : Gaussian width of a star, pixels
    threads : 0 for one a core
    Correlation that the filters do not explain comes from inputs that were resampled or stacked.
    """
    afar = isinstance(image, Afar)
    there = sigmas(image, variance, blank, OUTLIER) if afar else image  # one plane comes down, not three
    pieces = _spread(tiles(image.shape, SIDE, 0))

    def ratio_in(tile: Tile) -> np.ndarray:
        return sigmas(image[tile.core], variance[tile.core], blank[tile.core], OUTLIER)

    def correlation(ratio: np.ndarray) -> tuple[int, np.ndarray]:
        """(pixels that show noise, their autocorrelation about their mean).  ratio : written to"""
        use = np.isfinite(ratio)
        ratio[~use] = 0
        use &= ~_lit(ratio, use)
        number = int(use.sum())
        ratio -= np.sum(ratio, dtype=float, where=use) / max(number, 1)  # a sky not quite known is no noise
        ratio[~use] = 0
        return number, autocorrelation(ratio, use, REACH)[0]

    seen, expected, count = np.zeros((2 * REACH + 1,) * 2), np.zeros((2 * REACH + 1,) * 2), 0
    excess = list[float]()
    for first in range(0, min(len(pieces), ROUNDS * SAMPLE), SAMPLE):
        some = pieces[first : first + SAMPLE]
        ratios = cores(there, some) if afar else over(ratio_in, some, threads)
        for tile, (number, one) in zip(some, over(correlation, ratios, threads), strict=True):
            if number < ENOUGH:
                continue
            predicted = predict(*tile.centre)
            seen += number * one
            expected += number * predicted / predicted[REACH, REACH]
            count += number
            excess.append(_on_stars(one, width) / _on_stars(predicted, width) - 1)
        if count >= PLENTY:
            break
    if count == 0:
        return Noise(1.0, None, False)
    level = float(seen[REACH, REACH] / count)
    if level < SHARED:
        return Noise(1.0, None, False, shared=True)
    seen, expected = seen / seen[REACH, REACH], expected / expected[REACH, REACH]
    off = np.abs(seen - expected)[REACH - 2 : REACH + 3, REACH - 2 : REACH + 3].max()
    if off < max(CORRELATED[known], 5 / np.sqrt(count)) and not _felt(np.array(excess), width, count):
        return Noise(level, None, not known)
    return Noise(level, (seen * _window(), expected * _window()), True)


def _felt(excess: np.ndarray, width: float, count: int) -> bool:
    """Whether a star's flux is surely noisier, or calmer, than the filters say, nearly everywhere.

    excess : (T,) of each tile, by `_on_stars`; count : pixels in them all
    width : Gaussian width of a star, pixels
    """
    share, spared, errors = FELT
    low, high = np.quantile(excess, (spared, 1 - spared))
    error = np.sqrt(4 * np.pi * width**2 / count)
    return bool(max(low, -high) > share and abs(excess.mean()) > errors * error)


def _on_stars(correlation: np.ndarray, width: float) -> float:
    """Variance of a star's flux over a pixel's.

    correlation : (2 REACH + 1)^2 of the noise; width : Gaussian width of the star, pixels
    """
    lag = np.arange(-REACH, REACH + 1)
    star = np.exp(-(lag[:, None] ** 2 + lag**2) / (4 * width**2))
    return float((correlation * star).sum() / correlation[REACH, REACH])


def _spread(pieces: list[Tile]) -> list[Tile]:
    """The tiles in an order whose beginning, wherever it ends, is spread over them (golden section)."""
    place = np.arange(len(pieces)) * (5**0.5 - 1) / 2 % 1
    return [pieces[n] for n in np.argsort(place)]


LIT = 4.0
"""Scatters of a 7 x 7 mean beyond which light, of a streak or a ghost, is no noise."""


def _lit(ratio: np.ndarray, use: np.ndarray) -> np.ndarray:
    """Bool: pixels round which the difference over its noise is on average farther from zero than noise goes."""
    size = np.abs(ndimage.uniform_filter(ratio, MEAN, mode="nearest"))
    return size > LIT * 1.4826 * np.median(size[use]) if use.any() else np.zeros(use.shape, bool)


def measure_matched(
    image: np.ndarray,
    variance: np.ndarray,
    blank: np.ndarray,
    kernel: MatchingKernel,
    parts: Roles,
    threads: int = 0,
) -> Noise:
    """`measure` for target minus matched."""

    def predict(y: float, x: float) -> np.ndarray:
        a, b = sky_variances(parts, y, x)
        predicted = b * of_kernel(kernel.at(y, x), REACH)
        predicted[REACH, REACH] += a
        return predicted

    known = parts.target.variance_known and parts.convolved.variance_known
    return measure(image, variance, blank, predict, known, parts.target_width, threads)


def whitener(
    spectrum_at: Callable[[float, float, int], np.ndarray], parts: Roles, noise: Noise
) -> Callable[[float, float, int], tuple[np.ndarray, float]]:
    """whiten_at(u, v, size) -> (half spectrum of psi, variance after over variance before).

    psi keeps flux: it is 1 at zero frequency.
    spectrum_at : `MatchingKernel.spectrum`
    """
    height, width = parts.target.shape
    variances_at = cache(partial(sky_variances, parts))
    ratio = cache(noise.ratio)

    def whiten_at(u: float, v: float, size: int) -> tuple[np.ndarray, float]:
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        a, b = variances_at(y, x)
        spectrum = spectrum_at(y, x, size)
        power = noise_power(spectrum, a, b)
        if noise.correlated:
            power = power * ratio(size)
        level = mean_power(power, size)
        return np.sqrt(power[0, 0] / power), float(power[0, 0] / level)

    return whiten_at


def whitening_reach(whiten_at: Callable[[float, float, int], tuple[np.ndarray, float]]) -> int:
    """Pixels of halo that whitening needs: all but 1e-8 of the filter's energy, at most 24."""
    psi = np.fft.irfft2(whiten_at(0.0, 0.0, 96)[0], (96, 96))
    return int(np.clip(reach_of(psi, 1e-8), 4, 24))


def scatter(values: np.ndarray) -> float:
    """Standard deviation of blank sky, clipped at 3.5 sigma and corrected for that; NaN below ENOUGH pixels."""
    if len(values) < ENOUGH:
        return float("nan")
    first = robust_sigma(values[:: max(1, len(values) // START)])
    sigma, size, count = first, np.abs(values), -1
    for _ in range(5):
        kept = size < 3.5 * sigma
        number = int(np.count_nonzero(kept))
        if number == 0:  # no scatter that is larger than the values: the image of itself, say
            return float("nan")
        if number == count:  # the same ones
            break
        near = np.where(kept, values, 0)  # taking them out costs as much again as all else
        mean, square = float(near.sum()) / number, float(np.square(near, out=near).sum()) / number
        sigma, count = float(np.sqrt(max(square - mean**2, 0))) / CLIPPED, number
    return sigma


def scatters(values: np.ndarray) -> np.ndarray:
    """(N,) the same of each row (N, n), NaN where there is no pixel: of many short ones at once."""
    size, count = np.abs(values), np.count_nonzero(~np.isnan(values), 1)
    some = few(values)
    sigma, last = 1.4826 * medians(np.abs(some - medians(some)[:, None]))[:, None], np.zeros(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(np.isfinite(values), values, 0)
        for _ in range(5):
            kept = size < 3.5 * sigma
            number, near = np.count_nonzero(kept, 1)[:, None], kept * values
            if np.array_equal(number, last):  # the same ones
                break
            last = number
            mean = near.sum(1, keepdims=True) / number
            squares = np.vecdot(near, near)[:, None]
            sigma = (np.sqrt(squares / number - mean**2) / CLIPPED).astype(values.dtype)
    return np.where(count < ENOUGH, np.nan, sigma[:, 0])


def few(values: np.ndarray) -> np.ndarray:
    """(N, FEW or some more) of each row's (N, n) values, evenly."""
    return values[:, :: max(1, values.shape[1] // FEW)]


def medians(values: np.ndarray) -> np.ndarray:
    """(N,) median of each row's (N, n) values that are not NaN; NaN for none."""
    ordered = np.sort(values, 1)
    count = np.count_nonzero(~np.isnan(ordered), 1)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, ordered.shape[1] - 1)], 1)
    return np.take_along_axis(ordered, middle, 1).mean(1)


CLIPPED = 0.99694
"""Standard deviation of a unit normal clipped at 3.5 sigma."""
