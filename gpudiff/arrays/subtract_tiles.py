"""The pixel pass: spatially varying convolution, subtraction, variance and mask, tile by tile in cache.

Within a tile the kernel is linear in position (one kernel a tile steps at the borders and leaks flux): three
inverse FFTs of one forward FFT.  Checked against `arrays.convolve`, which evaluates it at every pixel.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft

from gpudiff.arrays.polynomial import field, gradients, powers, rectangle, terms
from gpudiff.arrays.tiles import Tile

Cut = Callable[[int, int, int, int], np.ndarray]


@dataclass(frozen=True)
class Spectra:
    """FFTs of the kernel's coefficient images for one tile size, made once.

    kernel : (P, size * (size // 2 + 1)) complex64; power : the same of K^2 over the field, order 2
    half : half width of the kernel; order : of its polynomial; share : sum of K^2's coefficients, (6,)
    magnitude : (size * ...) complex64 of |K| / sum |K| at the field's centre
    """

    kernel: np.ndarray
    power: np.ndarray
    magnitude: np.ndarray
    share: np.ndarray
    half: int
    order: int


POWER_ORDER = 2


def spectra(coefficients: np.ndarray, order: int, size: int) -> Spectra:
    """The spectra of a kernel field.  coefficients : (P, K, K) as `model.kernel.FieldImage` has them."""

    def transform(images: np.ndarray) -> np.ndarray:
        return scipy.fft.rfft2(images.astype(np.float32), s=(size, size)).reshape(-1, size * (size // 2 + 1))

    squares = polynomial_fit(lambda u, v: np.tensordot(terms(u, v, order), coefficients, 1) ** 2, POWER_ORDER)
    centre = np.abs(coefficients[0])
    return Spectra(
        transform(coefficients),
        transform(squares),
        transform(centre[None] / centre.sum())[0],
        squares.sum((1, 2)),
        coefficients.shape[1] // 2,
        order,
    )


def polynomial_fit(function: Callable[[float, float], np.ndarray], order: int) -> np.ndarray:
    """(P, ...) coefficients of the polynomial over the field closest to `function(u, v)` on a 5 x 5 grid."""
    axis = np.linspace(-0.98, 0.98, 5)
    u, v = (a.ravel() for a in np.meshgrid(axis, axis))
    values = np.array([function(a, b) for a, b in zip(u, v, strict=True)])
    fitted = np.linalg.lstsq(terms(u, v, order), values.reshape(len(u), -1), rcond=None)[0]
    return fitted.reshape(-1, *values.shape[1:])


@dataclass(frozen=True)
class Pair:
    """The two images of a subtraction, as bare arrays.

    target, convolved : (H, W) float32, sky-subtracted, unusable pixels 0
    target_bad, convolved_bad : (H, W) bool
    target_variance, convolved_variance : rectangles of the sky variance
    target_gain, convolved_gain : electrons a unit, inf for none
    """

    target: np.ndarray
    convolved: np.ndarray
    target_bad: np.ndarray
    convolved_bad: np.ndarray
    target_variance: Cut
    convolved_variance: Cut
    target_gain: float
    convolved_gain: float


def matched_tile(pair: Pair, spectrum: Spectra, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """(matched, variance) of a tile's core, float32: K (x) convolved, and the variance of target - matched.

    variance = target's sky + matched / target gain + K^2 (x) (convolved's sky + its photons): from the model,
    not from the target's own pixels, whose noise would correlate with it.
    """
    height, width = tile.shape
    size, half = tile.size, spectrum.half
    y, x = tile.centre
    u, v = float(field(x, width)), float(field(y, height))
    du, dv = gradients(u, v, spectrum.order)
    rows = np.array([terms(u, v, spectrum.order), du * 2 / width, dv * 2 / height], np.float32)
    square_terms = terms(u, v, POWER_ORDER).astype(np.float32)
    forward = scipy.fft.rfft2(tile.square(pair.convolved[tile.outer])).ravel()
    product = np.empty((4, forward.size), np.complex64)
    count = 3 if spectrum.order else 1
    np.matmul(rows[:count], spectrum.kernel.view(np.float32), out=product[:count].view(np.float32))
    np.matmul(square_terms[None], spectrum.power.view(np.float32), out=product[count : count + 1].view(np.float32))
    used = product[: count + 1]
    used *= forward
    planes = scipy.fft.irfft2(used.reshape(count + 1, size, -1), s=(size, size), overwrite_x=True)
    planes = tile.cut(planes, half)
    matched, variance = planes[0], planes[count]
    if count == 3:
        planes[1] *= (np.arange(tile.x0, tile.x1) - x).astype(np.float32)
        planes[2] *= (np.arange(tile.y0, tile.y1) - y).astype(np.float32)[:, None]
        matched += planes[1]
        matched += planes[2]
    corners = (tile.y0, tile.y1, tile.x0, tile.x1)
    np.maximum(variance, 0, out=variance)
    variance /= np.float32(pair.convolved_gain)
    variance += pair.convolved_variance(*corners) * np.float32(square_terms @ spectrum.share)
    variance += pair.target_variance(*corners)
    light = np.maximum(matched, 0)
    light /= np.float32(pair.target_gain)
    variance += light
    return matched, variance


OUTSIDE = 10
"""How much worse a kernel pixel beyond the image is than one on a bad pixel: stars there are unknown."""


def lost_tile(pair: Pair, spectrum: Spectra, tile: Tile, most: float = 0.5) -> np.ndarray:
    """(h, w) bool: core pixels where more than `most` of the kernel's |K| falls on unusable pixels."""
    lost = pair.target_bad[tile.core].copy()
    inside = tile.y0 >= tile.halo and tile.x0 >= tile.halo
    inside = inside and tile.y1 + tile.halo <= tile.shape[0] and tile.x1 + tile.halo <= tile.shape[1]
    bad = pair.convolved_bad[tile.outer]
    if inside and not bad.any():
        return lost
    weight = OUTSIDE - tile.square(OUTSIDE - bad.astype(np.float32))
    spread = scipy.fft.rfft2(weight).ravel() * spectrum.magnitude
    spread = scipy.fft.irfft2(spread.reshape(tile.size, -1), s=(tile.size, tile.size))
    return lost | (tile.cut(spread, spectrum.half) > most)


def background_tile(coefficients: np.ndarray, order: int, tile: Tile) -> np.ndarray:
    """(h, w) float32 differential background of a tile's core."""
    if len(coefficients) != len(powers(order)):
        raise ValueError(f"expected {len(powers(order))} coefficients, got {len(coefficients)}")
    u = field(np.arange(tile.x0, tile.x1), tile.shape[1])
    v = field(np.arange(tile.y0, tile.y1), tile.shape[0])
    return rectangle(coefficients, u, v, order)
