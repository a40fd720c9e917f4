"""The noise of the difference: what the kernel predicts, what is seen, and the filter that whitens it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.correlation import autocorrelation, of_kernel
from gpudiff.arrays.score_tiles import extra_power, mean_power, noise_power, reach_of
from gpudiff.arrays.tiles import tiles
from gpudiff.model.kernel import MatchingKernel
from gpudiff.science.pair import Roles

REACH = 5
"""Pixels over which the noise of an image may be correlated (resampling, stacking)."""
SAMPLE = 16
"""Tiles that are looked at."""


@dataclass(frozen=True)
class Noise:
    """Noise of the plain difference.

    seen : variance on blank sky over the propagated one
    extra : (2 REACH + 1)^2 autocorrelation beyond the predicted one, in units of a pixel's variance; zeros when
        the images' noise is white, as propagation assumes
    calibrated : True when the propagated variance is to be multiplied by `seen`
    """

    seen: float
    extra: np.ndarray
    calibrated: bool

    @property
    def correlated(self) -> bool:
        return bool(self.extra.any())


def sky_variances(parts: Roles, y: float, x: float) -> tuple[float, float]:
    """(target's, convolved's) sky variance at a position."""
    height, width = parts.target.shape
    where = np.array([int(np.clip(y, 0, height - 1))]), np.array([int(np.clip(x, 0, width - 1))])
    return float(parts.target.sky_variance.at(*where)[0]), float(parts.convolved.sky_variance.at(*where)[0])


def blank(image: np.ndarray, variance: np.ndarray, model: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Bool: pixels of sky alone, where the matched template is below 0.3 sigma and nothing stands out."""
    return ~lost & (model**2 < 0.09 * variance) & (image**2 < 20 * variance)


def measure(
    image: np.ndarray,
    variance: np.ndarray,
    model: np.ndarray,
    lost: np.ndarray,
    kernel: MatchingKernel,
    parts: Roles,
) -> Noise:
    """The noise seen on blank sky against the propagated one.

    Correlation that the kernel does not explain comes from inputs that were resampled or stacked; only what
    stands out of the estimate's own error is kept.
    """
    pieces = tiles(image.shape, 256, 0)
    pieces = pieces[:: max(1, len(pieces) // SAMPLE)]
    seen, expected, count = np.zeros((2 * REACH + 1,) * 2), np.zeros((2 * REACH + 1,) * 2), 0
    for tile in pieces:
        core = tile.core
        use = blank(image[core], variance[core], model[core], lost[core])
        number = int(use.sum())
        if number < 500:
            continue
        ratio = np.where(use, image[core] / np.sqrt(variance[core]), 0)
        found, _ = autocorrelation(ratio, use, REACH)
        a, b = sky_variances(parts, *tile.centre)
        predicted = b * of_kernel(kernel.at(*tile.centre), REACH)
        predicted[REACH, REACH] += a
        seen += number * found
        expected += number * predicted / predicted[REACH, REACH]
        count += number
    if count == 0:
        return Noise(1.0, np.zeros_like(seen), False)
    level = float(seen[REACH, REACH] / count)
    extra = seen / seen[REACH, REACH] - expected / count
    error = 1 / np.sqrt(count)
    extra[np.abs(extra) < 2.5 * error] = 0
    if np.abs(extra).max() < max(0.015, 5 * error):
        extra[:] = 0
    known = parts.target.variance_known and parts.convolved.variance_known
    return Noise(level, extra, bool(extra.any()) or not known)


def whitener(
    kernel: MatchingKernel, parts: Roles, noise: Noise
) -> Callable[[float, float, int], tuple[np.ndarray, float]]:
    """whiten_at(u, v, size) -> (half spectrum of psi, variance after over variance before).

    psi keeps flux: it is 1 at zero frequency.
    """
    height, width = kernel.shape

    def whiten_at(u: float, v: float, size: int) -> tuple[np.ndarray, float]:
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        a, b = sky_variances(parts, y, x)
        power = noise_power(kernel.at(y, x), a, b, size)
        level = mean_power(power, size)
        if noise.correlated:
            power = power + level * extra_power(noise.extra, size)
            power = np.maximum(power, 0.03 * level)
            level = mean_power(power, size)
        return np.sqrt(power[0, 0] / power), float(power[0, 0] / level)

    return whiten_at


def whitening_reach(whiten_at: Callable[[float, float, int], tuple[np.ndarray, float]]) -> int:
    """Pixels of halo that whitening needs: all but 1e-6 of the filter's energy, at most 24."""
    psi = np.fft.irfft2(whiten_at(0.0, 0.0, 96)[0], (96, 96))
    return int(np.clip(reach_of(psi, 1e-6), 4, 24))
