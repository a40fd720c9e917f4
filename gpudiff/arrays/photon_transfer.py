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


def photon_transfer(light: np.ndarray, unusable: np.ndarray, sigma: float) -> float:
    """Electrons an image unit, by how noise grows with light; inf where that does not show.

    The noise is what differences second in both axes leave, in which a smooth star cancels (Immerkaer 1996,
    Computer Vision and Image Understanding 64, 300), the light is the mean of the same 3 x 3 pixels, which is
    independent of them.  Their variance is a + b light + c light^2: sky, photons (Janesick 2007, Photon Transfer)
    and what is left of the stars' shapes; a over the sky's own variance is what correlation hides, of the photons'
    as well.

    light : (H, W) float32, without the sky; unusable : (H, W) bool; sigma : of a sky pixel
    """
    rows = np.arange(1, light.shape[0] - 1, max(1, light.size // ENOUGH))
    known = ~_over(unusable, rows, (1, 1, 1)).astype(bool)
    noise = _over(light, rows, (1, -2, 1))[known] / 6
    level = _over(light, rows, (1, 1, 1))[known] / 9
    order = np.argsort(level)
    parts = np.split(order, np.searchsorted(level[order], LIGHT * sigma))[:-1]
    parts = [part for part in parts if len(part) >= FEWEST]
    seen = np.array([1.4826 * np.median(np.abs(noise[part])) for part in parts]) ** 2
    if len(parts) < 6 or not (seen > 0).all():
        return np.inf
    error = seen * np.sqrt(
        5.4 / np.array([len(part) for part in parts]) + DOUBT**2
    )  # of a median deviation, squared
    mean = np.array([level[part].mean() for part in parts])
    design = np.stack([np.ones_like(mean), mean, mean**2], 1) / error[:, None]
    (sky, photons, shape), rest, *_ = np.linalg.lstsq(design, seen / error, rcond=None)
    spread = max(1.0, float(rest.sum()) / (len(parts) - 3))
    doubt = float(np.sqrt(spread * np.linalg.inv(design.T @ design)[1, 1]))
    if not (sky > 0 and photons > SURE * doubt and shape * sky < (SHAPE * photons) ** 2):
        return np.inf
    return float(sky / (photons * sigma**2))


def _over(plane: np.ndarray, rows: np.ndarray, weights: tuple[int, int, int]) -> np.ndarray:
    """(R, W - 2) the weighted sum of three rows and columns round each pixel."""
    a, b, c = weights
    sums = a * plane[rows - 1].astype(np.float32) + b * plane[rows].astype(np.float32) + c * plane[rows + 1]
    return np.asarray(a * sums[:, :-2] + b * sums[:, 1:-1] + c * sums[:, 2:])
