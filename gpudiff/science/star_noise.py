"""Noise near stars that photons do not explain: errors of the matching kernel and of the registration.

Learned from the scores at static stars, not from their pixels: the residuals of one star belong together, and a
variance that took them for independent would be too small.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter

from gpudiff.arrays.measure import psf_stamps
from gpudiff.arrays.peaks import peaks
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.star_light import learn, light_round
from gpudiff.model.frame import usual
from gpudiff.model.kernel import PsfModel

FAINTEST = 20.0
"""Signal to noise of the faintest stars that are looked at."""
MOST = 400
"""Stars that the error is learned from, at most: the brightest."""
FEWEST = 8
"""Static stars below which nothing is learned."""
LEAST = 0.05
"""Excess over the variance below which a pixel is left alone."""
BATCH = 200


@dataclass(frozen=True)
class StarNoise:
    """flux : share of a star's light that the difference leaves; shift : pixels by which it seems moved;
    raised : (N,) numbers of the pixels whose variance was raised."""

    flux: float
    shift: float
    raised: np.ndarray

    @property
    def pixels(self) -> int:
        """How many they are."""
        return len(self.raised)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know."""
        if not self.pixels:
            return ()
        left = f"{100 * self.flux:.2f} % of their light and {self.shift:.3f} px of shift"
        done = f"variance raised and score lowered at {self.pixels} pixels near stars"
        return (f"static stars leave {left} beyond their noise: {done}",)


@dataclass(frozen=True)
class Surface:
    """The planes of a difference that the stars are judged by, all (H, W); `score` and `variance` are changed.

    matched : float32 light of the template as subtracted; lost : bool
    psf : of the difference; fwhm : of its stars, pixels
    rings : pixels from a star's light at which a kernel that had to sharpen leaves rings, 0 for any other
    """

    score: np.ndarray
    variance: np.ndarray
    matched: np.ndarray
    lost: np.ndarray
    psf: PsfModel
    fwhm: float
    rings: int = 0

    @property
    def reach(self) -> int:
        """Pixels round a star that its error can spoil."""
        return max(4, round(1.7 * self.fwhm)) + self.rings

    def around(self, y: np.ndarray, x: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
        """(light, shift) of `arrays.star_light` in the squares of `reach` round each star."""
        profile = psf_stamps(self.psf.coefficients, self.psf.order, self.psf.shape, y, x)
        half = min(profile.shape[1] // 2, max(5, round(1.7 * self.fwhm)))
        edge = profile.shape[1] // 2 - half
        profile = profile[:, edge : profile.shape[1] - edge, edge : profile.shape[1] - edge]
        found = light_round(self.matched, self.variance, self.lost, y, x, profile, reach)
        if self.rings:
            found = tuple(maximum_filter(one, (1, 2 * self.rings + 1, 2 * self.rings + 1)) for one in found)
        return found


def allow_for_stars(surface: Surface) -> StarNoise:
    """What static stars leave behind, put into the surface's variance and out of its score.

    Both by the same factor f at each pixel: variance times f^2, score over f, where f^2 is
    1 + flux^2 light + shift^2 shift.
    """
    y, x, bright = _stars(surface)
    flux, shift = _learned(surface, y[:MOST], x[:MOST])
    if flux == shift == 0:
        return StarNoise(0.0, 0.0, np.empty(0, int))
    # A star's light is at most its squared signal to noise; its slope, per pixel, that over the PSF's width.
    most = bright**2 * (flux**2 + (2.4 * shift / surface.fwhm) ** 2)
    many = int((most > LEAST).sum())
    raised = np.zeros(surface.score.shape, bool)
    for start in range(0, many, BATCH):
        part = slice(start, min(start + BATCH, many))
        light, move = surface.around(y[part], x[part], surface.reach)
        _raise(surface, raised, y[part], x[part], 1 + flux**2 * light + shift**2 * move)
    return StarNoise(flux, shift, np.flatnonzero(raised))


def _stars(surface: Surface) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(y, x, signal to noise) of the matched template's stars with a value, the brightest first."""
    middle = usual(surface.variance)
    psf = surface.psf.at(surface.psf.shape[0] / 2, surface.psf.shape[1] / 2)
    noise = np.sqrt(middle / (psf**2).sum())
    y, x = peaks(surface.matched, FAINTEST * noise * psf.max(), surface.lost)
    variance = np.nan_to_num(surface.variance[y, x], nan=np.inf)
    bright = surface.matched[y, x] / psf.max() * np.sqrt((psf**2).sum() / variance)
    order = np.argsort(-bright, kind="stable")
    return y[order], x[order], bright[order]


def _learned(surface: Surface, y: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """(flux, shift) from the scores at stars that are nowhere lost, on their own light."""
    whole = ~stamps(surface.lost, y, x, surface.reach).reshape(len(y), (2 * surface.reach + 1) ** 2).any(1)
    y, x = y[whole], x[whole]
    if len(y) < FEWEST:
        return 0.0, 0.0
    own = 0.75 * surface.fwhm + surface.rings
    reach = min(surface.reach, int(own) + surface.rings)
    index = np.arange(-reach, reach + 1)
    near = np.hypot(index, index[:, None]) <= own
    light, shift = surface.around(y, x, reach)
    return learn(stamps(surface.score, y, x, reach)[:, near], light[:, near], shift[:, near])


def _raise(surface: Surface, raised: np.ndarray, y: np.ndarray, x: np.ndarray, factor: np.ndarray) -> None:
    """Apply f^2 (N, R, R) round each star; where the squares of two overlap the brighter one, which came first."""
    height, width = surface.score.shape
    reach, changes = surface.reach, []
    for n in range(len(y)):
        top, left = max(0, y[n] - reach), max(0, x[n] - reach)
        box = slice(top, min(height, y[n] + reach + 1)), slice(left, min(width, x[n] + reach + 1))
        here = factor[n][
            top - y[n] + reach : box[0].stop - y[n] + reach, left - x[n] + reach : box[1].stop - x[n] + reach
        ]
        change = (here > 1 + LEAST) & ~raised[box]
        raised[box] |= change
        rows, columns = np.nonzero(change)
        changes.append((rows + top, columns + left, here[change]))
    if changes:
        y, x, factors = map(np.concatenate, zip(*changes, strict=True))
        surface.score[y, x] /= np.sqrt(factors)
        surface.variance[y, x] *= factors
