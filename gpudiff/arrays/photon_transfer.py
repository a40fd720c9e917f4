"""The gain of an image whose stars are noisier than its sky."""

import numpy as np

ENOUGH = 1_000_000
"""Pixels that are looked at, about: rows are left out of more."""
LIGHT = np.geomspace(0.7, 100, 16)
"""Borders of the classes of light, in scatters of the sky: beyond, the shape of stars outdoes their noise."""
FEWEST = 60
"""Pixels of a class below which its scatter says nothing."""
DOUBT = 0.03
"""Share of a variance that it is known to at best: not all stars of a class have one shape."""
SURE = 5.0
"""Errors that the photons' part must exceed."""
SHAPE = 0.5
"""The noise that the shape of stars seems to make, over that of photons, where they have the noise of the sky; of
more the stars are too narrow to tell."""
WHITE = 0.8
"""Variance of the sky that second differences leave, over its own, below which its noise is correlated."""
CERTAIN = 3.0
"""Errors that a class's scatter is granted beyond what was seen."""
LIT = 3.0
"""Scatters of the sky below which a pixel's light may be noise: nine times that of the mean of 3 x 3."""


def photon_transfer(light: np.ndarray, unusable: np.ndarray, sigma: float) -> float:
    """Electrons an image unit, by how noise grows with light; inf where that does not show.

    The noise is what differences second in both axes leave, in which a smooth star cancels (Immerkaer 1996,
    Computer Vision and Image Understanding 64, 300), the light is the mean of the same 3 x 3 pixels, which is
    independent of them.  Their variance is a + b light + c light^2: sky, photons (Janesick 2007, Photon Transfer)
    and what is left of the stars' shapes; a over the sky's own variance is what correlation hides, of the photons'
    as well.

    light : (H, W) float32, without the sky; unusable : (H, W) bool; sigma : of a sky pixel
    """
    mean, seen, error, _ = _classes(light, unusable, sigma)
    if len(mean) < 6 or not (seen > 0).all():
        return np.inf
    design = np.stack([np.ones_like(mean), mean, mean**2], 1) / error[:, None]
    (sky, photons, shape), rest, *_ = np.linalg.lstsq(design, seen / error, rcond=None)
    spread = max(1.0, float(rest.sum()) / (len(mean) - 3))
    doubt = float(np.sqrt(spread * np.linalg.inv(design.T @ design)[1, 1]))
    if not (sky > 0 and photons > SURE * doubt and shape * sky < (SHAPE * photons) ** 2):
        return np.inf
    return float(sky / (photons * sigma**2))


def least_gain(light: np.ndarray, unusable: np.ndarray, sigma: float) -> float:
    """Electrons an image unit that there are at least: with fewer, stars were noisier than they are; 0 where that
    does not show.

    The shape of stars adds to what is seen of their noise, and nothing takes from it but correlation, which is
    seen in the sky too: the class of light that scatters least for its light is the limit.

    light, unusable, sigma : as `photon_transfer` has them
    """
    mean, seen, error, dark = _classes(light, unusable, sigma)
    lit = mean > LIT * sigma
    if not lit.any() or dark < WHITE * sigma**2:
        return 0.0
    most = float(((seen + CERTAIN * error - dark) / mean)[lit].min())
    return 1 / most if most > 0 else 0.0


def _classes(
    light: np.ndarray, unusable: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(mean light, variance that second differences leave, its error) (C,) of the classes of light with FEWEST
    pixels or more, darkest first, and the variance of pixels darker than those.
    """
    rows = np.arange(1, light.shape[0] - 1, max(1, light.size // ENOUGH))
    known = ~_over(unusable, rows, (1, 1, 1)).astype(bool)
    noise = _over(light, rows, (1, -2, 1))[known] / 6
    level = _over(light, rows, (1, 1, 1))[known] / 9
    order = np.argsort(level)
    dark, *parts = np.split(order, np.searchsorted(level[order], LIGHT * sigma))[:-1]
    parts = [part for part in parts if len(part) >= FEWEST]
    seen = np.array([_scatter(noise[part]) for part in parts])
    # of a median deviation, squared
    error = seen * np.sqrt(5.4 / np.array([len(part) for part in parts]) + DOUBT**2)
    mean = np.array([level[part].mean() for part in parts])
    return mean, seen, error, _scatter(noise[dark]) if len(dark) >= FEWEST else 0.0


def _scatter(noise: np.ndarray) -> float:
    return float((1.4826 * np.median(np.abs(noise))) ** 2)


def _over(plane: np.ndarray, rows: np.ndarray, weights: tuple[int, int, int]) -> np.ndarray:
    """(R, W - 2) the weighted sum of three rows and columns round each pixel."""
    a, b, c = weights
    sums = a * plane[rows - 1].astype(np.float32) + b * plane[rows].astype(np.float32) + c * plane[rows + 1]
    return np.asarray(a * sums[:, :-2] + b * sums[:, 1:-1] + c * sums[:, 2:])
