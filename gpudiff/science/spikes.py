"""Light round bright stars on the difference: diffraction spikes, halos and ghosts, which are no sources."""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.components import beyond
from gpudiff.arrays.rays import blobs, pairs_near, ray_light
from gpudiff.arrays.ridges import RADII, Beside, along, before_the_edge, flanks, patch_beside, scatter_round
from gpudiff.arrays.stamps import distinct, stamps
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit

BRIGHT = 1000.0
"""Signal to noise of stars whose spikes are looked for; saturated ones too."""
REACH, FARTHEST = 2.0, 300.0
"""Pixels from a star, times the root of its signal to noise, and at most, within which its spikes can be seen."""
SURE = 2.5
"""Errors of a ray's light above which it is there; more where a detection has several stars to lie on a ray of."""
WIDE_SHARE = 0.25
"""Of a detection's score: a ray or a patch as bright as that is not a chance neighbour."""
ALIGNED = 15.0
"""Degrees between a trail and the direction to a star within which a ray is the trail itself."""
RIDGE, PATCH, SHARE = 1.8, 0.8, 0.35
"""Mean score on a line to both sides of a detection, or all round it, that is no noise (4 sigma each); and share
of the detection's own score above which the line is not a chance neighbour."""
PATCH_OF_TRAIL = 1.2
"""PATCH of a trail, beside which fewer directions are looked in: 115 trails on plain sky had 0.2 +- 0.26."""
BEYOND = 1.25, 0.15
"""Mean score beyond both ends of a trail that is no noise (0.65 each), and its share of the trail's own, below
which it is no piece of a longer line."""
BESIDE_STAR = 3.0
"""FWHM from a bright star's core within which a trail, or each of a crowd, may be what the star leaves."""
CROWD = 3
"""Detections beside one bright star that are a crowd."""
RESTLESS = 1.25
"""Scatter of the score round a detection that is no noise (3 errors): the threshold is meant in units of it."""
FLANK = 3.5
"""Errors of the light beside a trail, of either sign, above which the trail is the rim of something wide."""


@dataclass(frozen=True)
class BrightStars:
    """y, x : (S,) px; core : (S,) px, radius of what is bright; reach : (S,) px to which their spikes may go."""

    y: np.ndarray
    x: np.ndarray
    core: np.ndarray
    reach: np.ndarray


def bright_stars(difference: Difference) -> BrightStars:
    """The saturated stars, and those above 1000 sigma in the template: the middle of what exceeds their peak."""
    psf, plain = difference.psf[4].astype(float), difference.matched_psf[4].astype(float)
    noise = np.sqrt(difference.usual_variance / (psf**2).sum())
    y, x = _bright_pixels(difference, float(BRIGHT * noise * plain.max()))
    if len(y) == 0:
        return BrightStars(*np.empty((4, 0)))
    blob = blobs(y, x, difference.image.shape[1])
    light = np.maximum(np.nan_to_num(difference.matched[y, x]), 1e-3 * noise)
    total = np.bincount(blob, light)
    peak = np.zeros(len(total))
    np.maximum.at(peak, blob, light)
    significance = np.maximum(peak / (noise * plain.max()), BRIGHT)
    return BrightStars(
        np.bincount(blob, light * y) / total,
        np.bincount(blob, light * x) / total,
        np.sqrt(np.bincount(blob) / np.pi),
        np.minimum(REACH * np.sqrt(significance), FARTHEST),
    )


def _bright_pixels(difference: Difference, limit: float) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) of the pixels above the limit in the template, or saturated."""
    width, matched = difference.image.shape[1], difference.matched
    y, x, light = beyond(matched, limit)
    bright = light > np.float32(limit)
    flaws = np.concatenate([difference.science.flaws, difference.template.flaws])  # saturated ones among them
    saturated = flaws[difference.mask[np.divmod(flaws, width)] & bit("SAT", "SAT_TEMPLATE") != 0]
    return np.divmod(distinct(np.concatenate([(y * width + x)[bright], saturated])), width)


def on_streaks(
    difference: Difference, y: np.ndarray, x: np.ndarray, light: Beside, threshold: float
) -> np.ndarray:
    """(N,) bool: on the plane STREAK, and not so bright that the streak's wing beneath makes no difference.

    light : beside the detections; nearer to the frame's edge than it is measured, the plane alone decides
    """
    size, height, width = np.abs(difference.score[y, x]), *difference.image.shape
    marked = (stamps(difference.mask, y, x, 1) & bit("STREAK") != 0).reshape(len(y), -1).any(1)
    edge = np.minimum.reduce([y, x, height - 1 - y, width - 1 - x]) < RADII[-1] * difference.quality.science_fwhm
    return marked & (edge | (size - light.ridge < threshold) | (light.ridge > WIDE_SHARE * size))


def crowded(stars: BrightStars, y: np.ndarray, x: np.ndarray, fwhm: float) -> np.ndarray:
    """(N,) bool: detections of which three or more lie beside one bright star: pieces of its residual."""
    n, s = pairs_near((y, x), (stars.y, stars.x), stars.core + BESIDE_STAR * fwhm)
    out = np.zeros(len(y), bool)
    out[n[np.bincount(s, minlength=1)[s] >= CROWD]] = True
    return out


def cut_by_edge(
    difference: Difference,
    peak: tuple[np.ndarray, np.ndarray],
    middle: tuple[np.ndarray, np.ndarray],
    length: np.ndarray,
    angle: np.ndarray,
) -> np.ndarray:
    """(N,) bool: trails with an end that cannot be seen, there being no dark between it and the frame's edge.

    Such a trail may be the ray of a star beyond the edge; its length and its middle are not known.
    peak : (y, x), (N,) int; middle : (y, x), (N,) float; length : (N,) px, 0 for no trail; angle : (N,) degrees
    """
    score, fwhm = difference.score[peak], difference.quality.science_fwhm
    near = length / 2 + 1.5 * fwhm
    light = before_the_edge(difference.score, *middle, angle, near, near + 2 * fwhm) * np.sign(score)[:, None]
    dark = light <= np.maximum(BEYOND[0], BEYOND[1] * np.abs(score))[:, None]
    return (length > 0) & ~dark.all(1)


def off_source(
    difference: Difference,
    stars: BrightStars,
    light: Beside,
    y: np.ndarray,
    x: np.ndarray,
    middle: tuple[np.ndarray, np.ndarray],
    length: np.ndarray,
    angle: np.ndarray,
    threshold: float,
) -> tuple[np.ndarray, np.ndarray]:
    """((N,) on a ray of a bright star, (N,) on another patch or line of light wider than the PSF), both bool.

    What the light beside a detection leaves of its score is below the threshold, or a third of it goes on to
    both sides along a line, or the score is below the threshold in units of its scatter round the detection; for
    a trail (length > 0, at `angle`), the line goes on beyond both its ends, there is light beside it, or it
    touches a bright star.
    light : beside the detections; y, x : (N,) int, peaks of |score|; middle : (y, x) (N,) float, of the trails
    """
    size = np.abs(difference.score[y, x])
    fwhm = difference.quality.science_fwhm
    line = (light.ridge > RIDGE) & ((size - light.ridge < threshold) | (light.ridge > SHARE * size))
    trailed = length > 0
    t = np.flatnonzero(trailed)
    lines = (middle[0][t], middle[1][t]), length[t], angle[t]
    around = light.patch.copy()
    around[t] = patch_beside(difference.score, y[t], x[t], angle[t], fwhm)
    noise = np.where(trailed, PATCH_OF_TRAIL, PATCH)
    patch = (around > noise) & ((size - around < threshold) | (around > WIDE_SHARE * size))
    patch[t] |= (around[t] > np.maximum(PATCH_OF_TRAIL, 0.1 * size[t])) | _touched(stars, *lines, fwhm)
    flank, error = flanks(difference.score, *lines[0], angle[t], length[t], fwhm)
    patch[t] |= flank > FLANK * error
    near = length[t] / 2 + 1.5 * fwhm
    ends = along(difference.score, *lines[0], angle[t], near, near + 2 * fwhm)
    ends *= np.sign(difference.score[y[t], x[t]])[:, None]
    ends = np.where(ends == 0, ends[:, ::-1], ends)  # of a trail that leaves the image there is one end to look at
    line[t] = ends.min(1) > np.maximum(BEYOND[0], BEYOND[1] * size[t])
    place = np.where(trailed, middle[0], y), np.where(trailed, middle[1], x)
    scatter = scatter_round(difference.score, *place, np.where(trailed, angle, 0), length, fwhm)
    patch |= (scatter > RESTLESS) & (size < threshold * scatter)
    ray = _on_rays(difference, stars, place, size, length, angle, threshold)
    return ray, (line | patch) & ~ray


def _touched(
    stars: BrightStars, middle: tuple[np.ndarray, np.ndarray], length: np.ndarray, angle: np.ndarray, fwhm: float
) -> np.ndarray:
    """(N,) bool: lines so near to a bright star that its residual would pass for them."""
    dy, dx = (at - of[:, None] for at, of in zip((stars.y, stars.x), middle, strict=True))
    sin, cos = np.sin(np.radians(angle))[:, None], np.cos(np.radians(angle))[:, None]
    beyond = np.maximum(np.abs(dx * cos + dy * sin) - length[:, None] / 2, 0)
    return (np.hypot(beyond, dy * cos - dx * sin) < stars.core + BESIDE_STAR * fwhm).any(1)


def _on_rays(
    difference: Difference,
    stars: BrightStars,
    place: tuple[np.ndarray, np.ndarray],
    size: np.ndarray,
    length: np.ndarray,
    angle: np.ndarray,
    threshold: float,
) -> np.ndarray:
    """(N,) bool: on a ray of a star that leaves less than the threshold of it, or is a quarter of it.

    A trail that points at the star needs only be on a ray.
    """
    out = np.zeros(len(size), bool)
    n, s = _pairs(place, stars)
    if len(n) == 0:
        return out
    y, x = place[0][n], place[1][n]
    fwhm = difference.quality.science_fwhm
    near = length[n] / 2 + 1.5 * fwhm
    light, error = ray_light(difference.score, (y, x), (stars.y[s], stars.x[s]), stars.core[s], near, fwhm)
    explains = (size[n] - light < threshold) | (light > WIDE_SHARE * size[n])
    turned = np.degrees(np.arctan2(y - stars.y[s], x - stars.x[s])) - angle[n]
    explains |= (length[n] > 0) & (np.abs((turned + 90) % 180 - 90) < ALIGNED)
    sure = np.sqrt(SURE**2 + 2 * np.log(np.bincount(n)[n]))
    out[n[explains & (light > sure * error)]] = True
    return out


def _pairs(place: tuple[np.ndarray, np.ndarray], stars: BrightStars) -> tuple[np.ndarray, np.ndarray]:
    """(detections, stars): indices of the pairs with the detection outside the star's core, within its reach."""
    n, s = pairs_near(place, (stars.y, stars.x), stars.reach)
    out = np.hypot(place[0][n] - stars.y[s], place[1][n] - stars.x[s]) > stars.core[s]
    return n[out], s[out]
