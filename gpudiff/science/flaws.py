"""Flaws of a sensor that nobody named: dead pixels, and those bad ones that lie alone, which are filled."""

import numpy as np

from gpudiff.arrays.cosmic_rays import fill
from gpudiff.arrays.gaps import alone
from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Exposure
from gpudiff.model.mask import bit
from gpudiff.model.plane import Plane
from gpudiff.science.stars import ALONE

DEEP, SHARP, MOST_DEAD = 8.0, 0.8, 0.05
"""Sigmas below the sky, and below those beside it, where no noise is; share of its depth below those beside it,
more than that of a star of FWHM 1.4 px; share of the pixels that may be below the sky."""
WIDTH, RUN, AT_ONCE = 3, 5, 1 << 16
"""Dead columns side by side that are still known by those beyond them; pixels along them that are as deep, which a
hole as wide as a star has not; how many are looked at together."""


def mend(exposure: Exposure, sigma: float, saturation: float | None) -> None:
    """Bad pixels that lie alone get what those round them say: a matching kernel need not know them as holes.

    They are BAD, too, where they have no value, and where they are saturated without the light of a star beside;
    cosmic rays that the mask names are no more than that: of a template's the difference does not know.
    sigma : of a sky pixel; saturation : image units
    """
    mask, image, width = exposure.mask.reshape(-1), exposure.image, exposure.shape[1]
    one = alone(exposure.unusable, exposure.flaws)
    saturated = mask[one] & bit("SAT", "SAT_TEMPLATE") != 0
    full = one[saturated]
    y, x = np.divmod(full, width)
    light = np.maximum(DEEP * sigma, ALONE * ((saturation or 0) - exposure.sky.at(y, x)))
    one = np.sort(np.concatenate([one[~saturated], full[_beside(exposure, y, x) < light]]))
    mask[one] &= ~bit("SAT", "SAT_TEMPLATE")
    mask[one[mask[one] & bit("CR") == 0]] |= bit("BAD")
    fill(image, *np.divmod(one, width))


def _beside(exposure: Exposure, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N,) mean light of the usable of the two pixels on either side, along the axis where it is less.

    inf where none of the four is usable, which no pixel that lies alone has.
    """
    known = ~stamps(exposure.unusable, y, x, 1)
    around = np.where(known, stamps(exposure.image, y, x, 1), 0)
    light = np.stack([around[:, 1, ::2].sum(1), around[:, ::2, 1].sum(1)])
    count = np.stack([known[:, 1, ::2].sum(1), known[:, ::2, 1].sum(1)])
    return np.divide(light, count, out=np.full(light.shape, np.inf), where=count > 0).min(0)


def dead_pixels(image: np.ndarray, variance: Plane, sigma: float, low: np.ndarray) -> np.ndarray:
    """(n,) those of the pixels (N,), by their numbers, that lie deep below the two beside them in a row or column,
    or in a column or row of such, at most WIDTH wide.

    Light only adds to the sky; a sky that was mistaken for another is below it as a whole, and a hole as wide as a
    star has no pixel so far below its neighbours, and is not as deep along a line.
    """
    if len(low) > MOST_DEAD * image.size:
        return low[:0]

    def dead(part: np.ndarray) -> np.ndarray:
        y, x = np.divmod(part, image.shape[1])
        around, own = stamps(image, y, x, RUN), image[y, x]
        noise = np.sqrt(np.maximum(variance.at(y, x), sigma**2))
        step = np.maximum(DEEP * noise, SHARP * np.abs(own))
        sides = slice(RUN - 1, RUN + 2, 2)
        level = np.fmax(around[:, RUN, sides].mean(1), around[:, sides, RUN].mean(1))
        alike = (1 - SHARP) * np.abs(own) + 0.5 * DEEP * noise
        lines = _in_line(around, step, alike) | _in_line(around.transpose(0, 2, 1), step, alike)
        return np.asarray(part[(own < level - step) | lines])

    return np.concatenate([dead(part) for part in np.array_split(low, 1 + len(low) // AT_ONCE)])


def _in_line(around: np.ndarray, step: np.ndarray, alike: np.ndarray) -> np.ndarray:
    """(N,) bool: the middle is `step` (N,) below one of WIDTH pixels on either side in its row, and RUN pixels
    that follow on it in its column, up or down, differ from it by less than `alike` (N,).

    around : (N, 2 RUN + 1, 2 RUN + 1)
    """
    own, row = around[:, RUN, RUN], around[:, RUN]
    sides = np.minimum(row[:, RUN - WIDTH : RUN].max(1), row[:, RUN + 1 : RUN + 1 + WIDTH].max(1))
    same = np.abs(around[:, :, RUN] - own[:, None]) < alike[:, None]
    return np.asarray((own < sides - step) & (same[:, :RUN].all(1) | same[:, RUN + 1 :].all(1)))
