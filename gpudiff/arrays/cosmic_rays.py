"""Cosmic rays and hot pixels in one image: light that falls off faster than the PSF lets it.

The test is that of the SDSS Photo pipeline (R. Lupton; LSST meas_algorithms findCosmicRays): a pixel is not a
star's if, along some direction, the mean of its two opposite neighbours is too faint for the PSF.
"""

import numpy as np

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
    image: np.ndarray, unusable: np.ndarray, sky_sigma: float, gain: float, psf: np.ndarray
) -> np.ndarray:
    """(H, W) bool: pixels of cosmic rays and hot pixels.

    image : (H, W) float32, sky-subtracted; unusable : (H, W) bool, neither tested nor used as a neighbour
    sky_sigma : noise of a sky pixel; gain : electrons a unit, inf when unknown
    psf : (P, P)
    """
    found = np.zeros(image.shape, bool)
    ratios = sharpest(psf)
    y, x = _inside(image.shape, *np.nonzero((image > FLOOR * sky_sigma) & ~unusable))
    hit = _sharp(image, unusable, found, y, x, sky_sigma, gain, ratios, FLOOR)
    found[y[hit], x[hit]] = True
    for _ in range(ROUNDS):
        y, x = np.nonzero(found)
        if len(y) == 0:
            break
        y, x = _neighbours(image.shape, y, x)
        fresh = ~found[y, x] & ~unusable[y, x] & (image[y, x] > GROWN * sky_sigma)
        y, x = y[fresh], x[fresh]
        hit = _sharp(image, unusable, found, y, x, sky_sigma, gain, ratios, 0.0)
        if not hit.any():
            break
        found[y[hit], x[hit]] = True
    return found


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


def _sharp(
    image: np.ndarray,
    unusable: np.ndarray,
    found: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    sky_sigma: float,
    gain: float,
    ratios: list[float],
    above: float,
) -> np.ndarray:
    """(N,) bool: too sharp along at least one direction; found pixels count as dark neighbours."""
    value = image[y, x]
    noise = np.sqrt(sky_sigma**2 + np.maximum(value, 0) / gain)
    out = np.zeros(len(y), bool)
    for (dy, dx), ratio in zip(DIRECTIONS, ratios, strict=True):
        first, second = (y + dy, x + dx), (y - dy, x - dx)
        sides = [np.where(found[at], 0, image[at]) for at in (first, second)]
        mean = 0.5 * (sides[0] + sides[1])
        spread = np.sqrt(0.5 * (sky_sigma**2 + np.maximum(mean, 0) / gain))
        clear = ~(unusable[first] | unusable[second])
        faint = mean + MARGIN * spread < TRUST * ratio * (value - MARGIN * noise)
        out |= clear & faint & (value - mean > above * sky_sigma)
    return out


def _inside(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = (y > 0) & (x > 0) & (y < shape[0] - 1) & (x < shape[1] - 1)
    return y[inner], x[inner]


def _neighbours(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    offset = np.array([(j, i) for j in (-1, 0, 1) for i in (-1, 0, 1) if j or i])
    flat = (y[:, None] + offset[:, 0]) * shape[1] + x[:, None] + offset[:, 1]
    return _inside(shape, *np.divmod(np.unique(flat), shape[1]))


ROUND = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def fill(image: np.ndarray, holes: np.ndarray) -> None:
    """Overwrite small holes in place with the mean of the pixels round them, from the rim inwards.

    What is farther than 8 pixels from the rim of its hole is left as it is.
    """
    left = holes.copy()
    y, x = np.nonzero(left)
    for _ in range(8):
        if len(y) == 0:
            return
        total, count = np.zeros(len(y)), np.zeros(len(y))
        for dy, dx in ROUND:
            j, i = np.clip(y + dy, 0, image.shape[0] - 1), np.clip(x + dx, 0, image.shape[1] - 1)
            known = ~left[j, i]
            total += np.where(known, image[j, i], 0)
            count += known
        rim = count > 0
        if not rim.any():
            return
        image[y[rim], x[rim]] = total[rim] / count[rim]
        left[y[rim], x[rim]] = False
        y, x = y[~rim], x[~rim]
