"""Stars seen in both images: candidates for the matching kernel and the PSF."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from gpudiff.arrays.gaps import REACH, gaps, maybe_near
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.polynomial import field, powers, terms
from gpudiff.arrays.stamps import stamps
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.mask import UNUSABLE, bit, marked

FEWEST = 3
"""Stars below which no matching kernel can be believed."""
CELLS = 8
"""Candidates are spread over CELLS x CELLS parts of the frame, the brightest of each first."""
RING = 9
"""Pixels from a peak to what is round it: a star as wide as 16 px has fallen to half there."""
ALONE = 0.1
"""Share of a peak's height that the two pixels on its sides have, along either axis, in a star of FWHM 0.9 px."""
OFF_CENTRE = 1.0
"""Pixels from the brightest pixel to the centre of light, the median star's, above which positions are moved."""
WIDEST = 9.99
"""Gaussian width, pixels, at which `arrays.moments` ends: light as flat as that, of a nebula's knots, is no star,
unless three quarters of the candidates are as wide."""
BAND = 1.15
"""Greatest over least width of a band of widths: that of a star of 15 sigma is known to 7 %."""
VARYING = 1.25
"""Width over the stars' up to which it may be theirs at another place of the field."""
MANY = 20
"""Candidates from which on a band is looked for: a few that happen to be alike are none."""
A_TERM = 4
"""Candidates as wide as that for each term of the polynomial by which the width varies over the field."""
ROUNDS = 4
"""Of that, each with what the one before made even."""
CORE = 2
"""Pixels from a star's middle within which what an unusable pixel is filled with is not the star's light."""
RECENTRED = 4
"""Times that they are moved, at most: 2 px a time."""


@dataclass(frozen=True)
class Stars:
    """Positions in both images.

    y, x : (N,) brightest whole pixel in the science image; of a ring, the pixel in its middle
    peak : (N,) science image's value there
    stellar : (N,) bool: as wide as most in both images
    isolated : (N,) bool: no other candidate of a tenth of its brightness within 18 px
    science, template : (3, N) dy, dx, sigma from `arrays.moments`
    given : Gaussian widths in science and template where the PSFs tell them and there are no stars
    """

    y: np.ndarray
    x: np.ndarray
    peak: np.ndarray
    stellar: np.ndarray
    isolated: np.ndarray
    science: np.ndarray
    template: np.ndarray
    given: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def width(self, which: str) -> float:
        """Median Gaussian width of the brighter stellar half in "science" or "template", pixels."""
        if self.given is not None:
            return self.given[which == "template"]
        bright = self.stellar & (self.peak >= np.median(self.peak[self.stellar]))
        return float(np.median(getattr(self, which)[2][bright]))


def find_stars(science: Exposure, template: Exposure, settings: Match, margin: int, device: Device = CPU) -> Stars:
    """Stars that are unsaturated and unmasked in both images, spread over the frame.

    margin : pixels from the edge that their stamps need
    device : where candidates are looked for and measured; if it holds an image, then as it is
    Raises NoStars for fewer than 3.
    """
    noise = sky_noise(science)
    kept, clear = (np.empty(0, int), np.empty(0, int)), np.empty(0, bool)
    for floor in (settings.candidate_snr, 12.0):
        y, x = _candidates(science, floor, noise, margin, device)
        # one masked pixel of the science image has no weight in the fit, and bright stars are few
        masked = gapped(template, y, x, 9) | spoilt(science, y, x, 2) | spoilt(science, y, x, 5, "SAT")
        clear = ~masked
        kept = y[clear], x[clear]
        if len(kept[0]) >= 200:
            break
    y, x, shapes = centred(science, *_spread(*kept, science.image, settings.candidates), device)
    if len(y):
        level = 5 * np.sqrt(template.sky_variance.at(y, x))
        there = stamps(template.image, y, x, 2).reshape(len(y), -1).max(1) > level
        y, x, shapes = y[there], x[there], shapes[:, there]
    if len(y) < FEWEST:
        beside = np.count_nonzero(~clear)
        why = f"{beside} more candidates lie beside masked pixels: {_masked(science, template)}" if beside else ""
        raise NoStars(
            f"{science.name}: expected at least {FEWEST} unsaturated stars above {floor:g} sigma that the "
            f"template shows too, got {len(y)}{why and '; '}{why}"
        )
    return _described(science, y, x, shapes, _moments(template, y, x, device))


def sky_noise(exposure: Exposure, share: float = 0.5) -> float:
    """Noise of a sky pixel, image units, that is not exceeded by that share of them."""
    height, width = exposure.shape
    rows = np.linspace(0, height - 1, 16).astype(int)
    return float(np.sqrt(np.quantile([exposure.sky_variance.cut(r, r + 1, 0, width) for r in rows], share)))


def prominent(exposure: Exposure, y: np.ndarray, x: np.ndarray, sigmas: float) -> np.ndarray:
    """(N,) bool: peaks that stand out of what is round them by half of `sigmas` times the noise there, not alone.

    On nebulae and galaxies every noise peak is high above the sky.  Round a star is the median at RING px.  A hot
    pixel, which lies in both images as a star does, shares no light with those beside it (ALONE), and two of them
    none across.
    """
    turn = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    height, width = exposure.shape
    rows = np.clip(y[:, None] + np.rint(RING * np.sin(turn)).astype(int), 0, height - 1)
    columns = np.clip(x[:, None] + np.rint(RING * np.cos(turn)).astype(int), 0, width - 1)
    level = np.median(exposure.image[rows, columns], 1)
    noise = np.sqrt(exposure.sky_variance.at(y, x) + np.maximum(level, 0) / exposure.gain)
    peak = exposure.image[y, x] - level
    image = exposure.image
    beside = 0.5 * np.minimum(image[y, x - 1] + image[y, x + 1], image[y - 1, x] + image[y + 1, x]) - level
    return np.asarray((peak > 0.5 * sigmas * noise) & (beside > ALONE * peak))


def spoilt(exposure: Exposure, y: np.ndarray, x: np.ndarray, half: int, *planes: str) -> np.ndarray:
    """(N,) bool: a pixel of those unusable planes, any unusable one without them, within `half` pixels along an
    axis."""
    flaws = exposure.flaws
    if planes:
        flaws = flaws[exposure.mask.reshape(-1)[flaws] & bit(*planes) != 0]
    out = maybe_near(flaws, exposure.shape, y, x, half)
    there = stamps(exposure.mask if planes else exposure.unusable, y[out], x[out], half)
    out[out] = (marked(there, *planes) if planes else there).any((1, 2))
    return out


def gapped(exposure: Exposure, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N,) bool: a gap within `half` pixels along an axis, or an unusable pixel, though alone, in the core."""
    out = maybe_near(exposure.flaws, exposure.shape, y, x, half + REACH)
    out[out] = gaps(stamps(exposure.unusable, y[out], x[out], half + REACH)).any((1, 2))
    return out | spoilt(exposure, y, x, half, "SAT", "SAT_TEMPLATE") | spoilt(exposure, y, x, CORE)


def _candidates(
    science: Exposure, floor: float, noise: float, margin: int, device: Device
) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of what looks like a star, masked or not."""
    height, width = science.shape
    y, x = device.peaks(science.image, floor * noise, name=science.held)
    inside = (y > margin) & (y < height - margin) & (x > margin) & (x < width - margin)
    y, x = y[inside], x[inside]
    star = prominent(science, y, x, floor)
    return y[star], x[star]


def _masked(*exposures: Exposure) -> str:
    """What is masked of each exposure, to tell a mask of the stars themselves by, and lines beside all of them."""
    said, lines = [], 0
    for exposure in exposures:
        planes = {name: float((exposure.mask & bit(name) != 0).mean()) for name in UNUSABLE}
        named = ", ".join(f"{name} {share:.2%}" for name, share in planes.items() if share)
        said.append(f"{exposure.name} in {label(exposure.unusable)[1]} patches ({named or 'none'})")
        lines += int(sum((exposure.unusable.mean(axis) > 0.5).sum() for axis in (0, 1)))
    grid = (
        f".  {lines} rows and columns are masked: where one lies beside every star of the template, within 9 px, "
        "interpolate over them and leave them out of the mask"
    )
    return (
        f"{', '.join(said)}.  A masked star is none, and a mask whose planes have no names (MP_* keywords) is BAD "
        "wherever it is not 0: bad_bits under [instrument] says which bits count (1 for JWST), or leave a mask of "
        f"the sources out{grid if lines else ''}"
    )


def _spread(y: np.ndarray, x: np.ndarray, image: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `most`: the brightest of every cell, then the second brightest, and so on."""
    cell = (y * CELLS // image.shape[0]) * CELLS + x * CELLS // image.shape[1]
    order = np.lexsort((x, y, -image[y, x], cell))
    first = np.searchsorted(cell[order], cell[order])
    rank = np.empty(len(y), int)
    rank[order] = np.arange(len(y)) - first
    chosen = np.lexsort((x, y, -image[y, x], rank))[:most]
    return y[chosen], x[chosen]


def centred(
    science: Exposure, y: np.ndarray, x: np.ndarray, device: Device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions moved from the brightest pixel to the centre of light where most stars' lie apart, each star once,
    and their `_moments`.

    A defocused star is a ring: its brightest pixel is anywhere on it, and the template's star is in its middle.
    """
    shapes = _moments(science, y, x, device)
    for _ in range(RECENTRED):
        dy, dx, _ = shapes
        if len(y) < FEWEST or np.median(np.hypot(dy, dx)) < OFF_CENTRE:
            break
        y = np.clip(np.rint(y + dy).astype(int), 0, science.shape[0] - 1)
        x = np.clip(np.rint(x + dx).astype(int), 0, science.shape[1] - 1)
        _, first = np.unique(np.stack([y // 3, x // 3]), axis=1, return_index=True)
        y, x = y[np.sort(first)], x[np.sort(first)]
        shapes = _moments(science, y, x, device)
    return y, x, shapes


def _moments(exposure: Exposure, y: np.ndarray, x: np.ndarray, device: Device) -> np.ndarray:
    """(3, N) dy, dx, sigma, measured on stamps of three widths or more."""
    for half in (7, 14, 24):
        found = device.moments(exposure.image, y, x, half, half / 3.5, exposure.held)
        if len(y) == 0 or np.median(found[2]) < half / 3:
            break
    return found


def _described(
    science: Exposure, y: np.ndarray, x: np.ndarray, in_science: np.ndarray, in_template: np.ndarray
) -> Stars:
    """The stars at these positions, of such `_moments` in both images."""
    peak = science.image[y, x]
    at = field(x, science.shape[1]), field(y, science.shape[0])
    stellar = _as_stars(in_science[2], peak, at) & _as_stars(in_template[2], peak, at)
    if stellar.sum() < FEWEST:
        stellar[:] = True
    distance2 = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    near = distance2 < 18**2
    np.fill_diagonal(near, False)
    isolated = ~(near & (peak > 0.1 * peak[:, None])).any(1)
    return Stars(y, x, peak, stellar, isolated, in_science, in_template)


def _as_stars(width: np.ndarray, peak: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(N,) bool: as wide as stars are, which may vary over the field as a polynomial.

    Stars at one place have one width, and galaxies, which may be most of the candidates, any that is larger.  So
    stars are in the narrowest band of widths (BAND) that has half as many candidates as any other.

    width, peak : (N,) pixels, image units; at : u, v (N,) each
    """
    known = (width < WIDEST) | (np.mean(width < WIDEST) < 0.25)
    even = np.log(width)
    for _ in range(ROUNDS if known.sum() >= MANY else 0):
        middle, _ = _band(even[known], peak[known])
        near = known & (np.abs(even - middle) < np.log(VARYING))
        order = max(k for k in range(3) if k == 0 or near.sum() >= A_TERM * len(powers(k)))
        place = terms(*at, order)
        trend = np.linalg.lstsq(place[near], even[near])[0]
        even -= place[:, 1:] @ trend[1:]
    middle, spread = _band(even[known], peak[known])
    return np.asarray(np.abs(even - middle) < 4 * spread + 0.1 / np.exp(middle))


def _band(widths: np.ndarray, peak: np.ndarray) -> tuple[float, float]:
    """(median, robust sigma) of the brighter half of the narrowest dense band of (N,) logarithms of widths.

    Of fewer than MANY, of all.
    """
    ordered, wide = np.sort(widths), np.log(BAND) if len(widths) >= MANY else np.inf
    count = np.searchsorted(ordered, ordered + wide, "right") - np.arange(len(ordered))
    least = ordered[np.argmax(count >= count.max() / 2)]
    band = (widths >= least) & (widths <= least + wide)
    bright = widths[band & (peak >= np.median(peak[band]))]
    return float(np.median(bright)), robust_sigma(bright)
