"""What the cutouts of science and template have of their own: variance, mask and PSF.

Each pixel's variance is its own: that neighbours vary together, after a convolution or on a resampled grid, is not
in it.  The template's is that of the template as it was subtracted: the sky's noise through the squared matching
kernel, and photons by the matched light, as if the kernel spread noise as it spreads light.  That is exact on flat
sky and a few per cent off on a star.
"""

import numpy as np

from gpudiff.arrays.cutouts import nearest, pixels_around
from gpudiff.model.batch import OwnPlanes
from gpudiff.model.frame import Difference
from gpudiff.model.mask import bit
from gpudiff.model.plane import Plane

CENTRE = 4
"""Of the 3 x 3 field positions at which PSFs and kernels are kept."""


def own_planes(difference: Difference, images: np.ndarray, x: np.ndarray, y: np.ndarray) -> OwnPlanes:
    """Variance, mask and PSF of science and matched template round each position.

    images : (N, 2, S, S) float32, their cutouts at x, y : (N,) pixels
    """
    science, template, size = difference.science, difference.template, images.shape[-1]
    noise = _sky(science.sky_variance, x, y, size), _sky(template.sky_variance, x, y, size)
    spread, photons = _through_kernel(difference, x, y)
    variance = np.empty_like(images)
    for n, (sky, factor, gain) in enumerate(
        ((noise[0], np.float32(1), science.gain), (noise[1], spread, template.gain / photons))
    ):
        light = np.maximum(images[:, n], 0, out=variance[:, n])  # NaN stays NaN
        light /= np.asarray(gain, np.float32)
        light += factor * sky
    masks = np.stack([cut_mask(one.mask, x, y, size) for one in (science, template)], axis=1)
    psf = np.stack([difference.science_psf[CENTRE], difference.matched_psf[CENTRE]])
    return OwnPlanes(variance, masks, psf)


def cut_mask(mask: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size) uint16 bits round each position, NO_DATA beyond the image."""
    return pixels_around(mask, x, y, size, bit("NO_DATA"))


def _through_kernel(difference: Difference, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, 1, 1) what the sky's variance of the template is multiplied by, and the matched light its photons by."""
    height, width = difference.image.shape
    third = [
        np.clip(np.nan_to_num(3 * position / length), 0, 2).astype(int)
        for position, length in ((y, height), (x, width))
    ]
    kernels = difference.kernel.astype(float)
    total, squared = kernels.sum((1, 2)), np.square(kernels).sum((1, 2))
    if difference.quality.convolved == "SCIENCE":  # the template is divided by the kernel's sum
        factors = 1 / total**2, 1 / total
    else:
        factors = squared, squared / total
    rows = 3 * third[0] + third[1]
    spread, photons = (one.astype(np.float32)[rows, None, None] for one in factors)
    return spread, photons


def _sky(plane: Plane, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """(N, size, size) the plane round each position; beyond the image some value."""
    offsets = np.arange(size) - size // 2
    rows, columns = (
        np.clip(nearest(position, size, length)[:, None] + offsets, 0, length - 1)
        for position, length in zip((y, x), plane.shape, strict=True)
    )
    return plane.squares(rows, columns)
