"""Cosmic rays and hot pixels in one image: light that falls off faster than the PSF lets it.

The test is that of the SDSS Photo pipeline (R. Lupton; LSST meas_algorithms findCosmicRays): a pixel is not a
star's if, along some direction, the mean of its two opposite neighbours is too faint for the PSF.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.stamps import distinct

SigmaAt = Callable[[np.ndarray], np.ndarray]

DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))
FLOOR = 6.0
"""Sigmas of sky above which a pixel is looked at, and by which it must exceed its neighbours."""
TRUST = 0.6
"""How far below the PSF's own ratio the neighbours must be."""
MARGIN = 2.5
"""Sigmas of noise allowed for in that comparison."""
GROWN = 3.0
"""Sigmas of sky above which a neighbour of a cosmic ray may belong to it."""
ROUNDS = 3
BRIGHT = 0.85
"""Share of the PSF's peak above which a pixel may be its sharpest: of a star the middle, of a ring its ridge."""


def cosmic_rays(
    image: np.ndarray,
    unusable: np.ndarray,
    sky_sigma: float,
    gain: float,
    psf: np.ndarray,
    at: np.ndarray | None = None,
    sigma_at: SigmaAt | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) int64, row by row, of the pixels of cosmic rays and hot pixels.

    image : (H, W) float32, sky-subtracted; unusable : (H, W) bool, neither tested nor used as a neighbour
    sky_sigma : noise of a sky pixel, where it varies its least; gain : electrons a unit, inf when unknown
    psf : (P, P)
    at : (N,) of `suspects` on whatever device; None: they are looked for here
    sigma_at : (N,) noise of the sky at pixels of those numbers; None: `sky_sigma` at all
    """
    ratios = sharpest(psf)
    sigma_at = sigma_at or (lambda at: np.full(len(at), sky_sigma))
    pixels = Pixels(image.ravel(), unusable.ravel(), image.shape, sky_sigma, sigma_at, gain)
    at = _inside(image.shape, suspects(image, sky_sigma) if at is None else at)
    struck = _sharp(pixels, at[~pixels.unusable[at]], np.empty(0, int), ratios, FLOOR)
    for _ in range(ROUNDS):
        at = _neighbours(image.shape, struck)
        fresh = ~(np.isin(at, struck) | pixels.unusable[at]) & (pixels.image[at] > GROWN * sigma_at(at))
        more = _sharp(pixels, at[fresh], struck, ratios, 0.0)
        if len(more) == 0:
            break
        struck = np.concatenate([struck, more])
    y, x = np.divmod(np.sort(struck), image.shape[1])
    return y, x


def suspects(image: np.ndarray, sky_sigma: float) -> np.ndarray:
    """(N,) numbers, row by row, of the pixels that are looked at: the bright ones."""
    return np.flatnonzero(image > FLOOR * sky_sigma)


def sharpest(psf: np.ndarray) -> list[float]:
    """Along each direction the least ratio of two neighbours' mean to a pixel that a PSF has where it is bright.

    For a star that is in its middle; for a defocused one, on its ring.  psf : (P, P)
    """
    inner = psf[1:-1, 1:-1]
    bright = inner > BRIGHT * inner.max()
    side = np.arange(1, len(psf) - 1)
    rows, columns = side[:, None], side
    sides = [0.5 * (psf[rows + dy, columns + dx] + psf[rows - dy, columns - dx]) for dy, dx in DIRECTIONS]
    return [float((side[bright] / inner[bright]).min()) for side in sides]


@dataclass(frozen=True)
class Pixels:
    """What cosmic_rays works on: image and unusable as one row of pixels each."""

    image: np.ndarray
    unusable: np.ndarray
    shape: tuple[int, ...]
    sky_sigma: float
    sigma_at: SigmaAt
    gain: float


def _sharp(pixels: Pixels, at: np.ndarray, found: np.ndarray, ratios: list[float], above: float) -> np.ndarray:
    """Those of the pixels `at` that are too sharp along at least one direction; found pixels count as dark.

    at, found : (N,) places in the row of pixels, the first none at the image's edge
    Less noise makes more of them sharp: how much there is has to be asked of few.
    """
    at = _sharp_above(pixels, at, found, ratios, above, np.full(1, pixels.sky_sigma))
    return _sharp_above(pixels, at, found, ratios, above, pixels.sigma_at(at))


def _sharp_above(
    pixels: Pixels, at: np.ndarray, found: np.ndarray, ratios: list[float], above: float, sigma: np.ndarray
) -> np.ndarray:
    """`_sharp` where the noise of the sky is `sigma`."""

    def noise(value: np.ndarray) -> np.ndarray:
        return np.sqrt(sigma**2 + np.maximum(value, 0) / pixels.gain)

    value = pixels.image[at]
    trusted = TRUST * (value - MARGIN * noise(value))
    out = np.zeros(len(at), bool)
    for (dy, dx), ratio in zip(DIRECTIONS, ratios, strict=True):
        first, second = (at + sign * (dy * pixels.shape[1] + dx) for sign in (1, -1))
        sides = [np.where(np.isin(side, found), 0, pixels.image[side]) for side in (first, second)]
        mean = 0.5 * (sides[0] + sides[1])
        spread = 0.5**0.5 * noise(mean)
        sharp = (mean + MARGIN * spread < ratio * trusted) & (value - mean > above * sigma)
        sharp = np.flatnonzero(sharp)  # few: only theirs are asked whether their neighbours may be used
        clear = ~(pixels.unusable[first[sharp]] | pixels.unusable[second[sharp]])
        out[sharp[clear]] = True
    return at[out]


def _inside(shape: tuple[int, ...], at: np.ndarray) -> np.ndarray:
    """Those not at the image's edge."""
    y, x = np.divmod(at, shape[1])
    return at[(y > 0) & (x > 0) & (y < shape[0] - 1) & (x < shape[1] - 1)]


def _neighbours(shape: tuple[int, ...], at: np.ndarray) -> np.ndarray:
    offset = np.array([j * shape[1] + i for j, i in ROUND])
    return _inside(shape, distinct((at[:, None] + offset).ravel()))


ROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def fill(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """Overwrite small holes in place by what is round them, from the rim inwards.

    A pixel whose eight neighbours are known is the quadratic surface through them, which keeps the light of stars:
    twice the mean of the four beside it less that of the four corners.  Any other is the mean of those known.
    What is farther than 8 pixels from the rim of its hole is left as it is.
    y, x : (N,) pixels of the holes
    """
    before = image[y, x]
    image[y, x] = np.nan  # until it is known
    for _ in range(8):
        if len(y) == 0:
            return
        total, count, surface = np.zeros(len(y)), np.zeros(len(y)), np.zeros(len(y))
        rows, columns = (
            {step: np.clip(at + step, 0, side - 1) for step in (-1, 0, 1)}
            for at, side in zip((y, x), image.shape, strict=True)
        )
        for dy, dx in ROUND:
            near = image[rows[dy], columns[dx]]
            known = ~np.isnan(near)
            total += np.where(known, near, 0)
            count += known
            surface += near * (-0.25 if dy and dx else 0.5)
        rim = count > 0
        if not rim.any():
            break
        value = np.where(count == len(ROUND), surface, total / np.maximum(count, 1))
        image[y[rim], x[rim]] = value[rim]
        y, x, before = y[~rim], x[~rim], before[~rim]
    image[y, x] = before


# ---------------------------------------------------------------- on a GPU
THREADS = 256
"""Of a block in the CUDA body, each for a pixel."""


def suspects_cuda(
    launcher: Launcher, image: Any, sky_sigma: float, gain: float, ratios: Sequence[float]
) -> np.ndarray:
    """`suspects` on a GPU without nearly all that are not sharp: the host tells them by its own rounding.

    image : (1, H, W) float32 on the device; ratios : of `sharpest`
    """
    _, height, width = image.shape
    limits = launcher.upload(np.array([FLOOR * sky_sigma, sky_sigma, 1 / gain, *ratios]), np.float32)
    capacity = max(256, height * width // 256)  # far more than a good image has; a bad one is run again
    while True:
        count, places = launcher.zeros((1,), np.int32), launcher.empty((capacity,), np.int32)
        arguments = [image, limits, count, places, *map(np.int32, (width, height, capacity))]
        blocks = (-(-height * width // THREADS), 1, 1)
        launcher.launch("cosmic_rays", "suspects", blocks, (THREADS, 1, 1), arguments)
        found = int(launcher.download(count)[0])
        if found <= capacity:
            return np.sort(launcher.download(places)[:found]).astype(np.int64)
        capacity = found
