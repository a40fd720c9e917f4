"""Wings of saturated stars farther out than a matching kernel reaches.

A kernel ends a few FWHM from its middle, and what seeing throws farther stays in the difference: some 1e-5 of a
star's peak, which round a saturated star is a third of a sigma in every pixel, 2 sigma and more in a PSF.
"""

from collections.abc import Iterator

import numpy as np

from gpudiff.arrays.saturated import REACH, SaturatedStar
from gpudiff.arrays.stamps import inside, square, stamps

FEWEST = 5
"""Stars below which what they have in common could be what happens to lie round one of them."""
CLIP = 4.0
"""Sigmas of a pixel beyond which it is something else."""
BATCH = 100
"""Stars that are looked at together."""


def without_wings(
    image: np.ndarray, variance: np.ndarray, lost: np.ndarray, stars: list[SaturatedStar], fwhm: float
) -> None:
    """Take out of a difference, in place, the rings that its saturated stars leave round what is lost.

    All have one profile, times their flux: the weighted mean of their pixels in rings of half a FWHM, shrunk by
    the share of its square that noise makes (James & Stein 1961): where there is no wing nothing is taken.

    image, variance : (H, W) float32, lost : (H, W) bool, also on a device; fwhm : of stars in it, pixels
    """
    known = [star for star in stars if star.flux > 0]
    if len(known) < FEWEST:
        return
    step, reach = 0.5 * fwhm, 2 * max(REACH, 4.3 * fwhm)
    half = int(np.ceil(reach))
    light, power = np.zeros((2, int(reach / step) + 1))
    for y, x, flux, distance, near in _batches(known, image.shape, reach):
        there, noise = (stamps(plane, y, x, half) for plane in (image, variance))
        quiet = near & ~stamps(lost, y, x, half) & (there**2 < CLIP**2 * noise)
        at, star = np.flatnonzero(quiet), np.repeat(flux, quiet.sum((1, 2)))
        there, noise = there.take(at), noise.take(at)
        ring, weight = (distance.take(at) / step).astype(int), star / noise
        light += np.bincount(ring, weight * there, len(light))
        power += np.bincount(ring, weight**2 * noise, len(power))
    rings = np.flatnonzero(power)  # the first is next to what is lost, and goes on to its very rim
    light, power, middle = light[rings], power[rings], step * (rings + 0.5)
    profile = light / power * np.maximum(1 - power / np.maximum(light**2, 1e-30), 0)
    if not profile.any():
        return
    for y, x, flux, distance, near in _batches(known, image.shape, reach):
        at, star = np.flatnonzero(near), np.repeat(flux, near.sum((1, 2)))
        taken = star * np.interp(distance.take(at), middle, profile)
        rows, columns = square(y, x, np.arange(-half, half + 1))
        numbers = (rows * image.shape[1] + columns).take(at)
        pixels, _, at = np.unique(numbers, True, True)  # a stable sort, of rows in order: in half the time
        where = np.divmod(pixels, image.shape[1])
        image[where] = image[where] - np.bincount(at, taken).astype(np.float32)


def _batches(
    stars: list[SaturatedStar], shape: tuple[int, ...], reach: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """(y, x (N,) middle pixels, flux (N,), distance (N, S, S) of the pixels round them, which of them are on the
    image and nearer than reach) of some stars at a time."""
    half = int(np.ceil(reach))
    offset = np.arange(-half, half + 1)
    for start in range(0, len(stars), BATCH):
        some = np.array([(star.y, star.x, star.flux) for star in stars[start : start + BATCH]])
        y, x = np.rint(some[:, :2]).astype(int).T
        rows, columns = square(y, x, offset)
        down, across = rows - some[:, 0, None, None], columns - some[:, 1, None, None]
        distance = np.sqrt(down**2 + across**2)  # in half the time of np.hypot
        near = (distance < reach) & inside(shape, y, x, half)
        yield y, x, some[:, 2], distance, near
