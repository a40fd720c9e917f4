"""Convolution with a kernel that varies over the image as a polynomial of the position."""

from collections.abc import Iterator

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.signal import oaconvolve

from gpudiff.model.errors import WrongShape


def convolve(image: np.ndarray, kernels: np.ndarray, order: int) -> np.ndarray:
    """The image convolved with sum_p poly_p(u, v) kernels[p]; zero beyond its edges.

    image : (H, W) float32; a pixel that is not finite makes every pixel whose kernel reaches it NaN
    kernels : (P, K, K) float32, K odd, centre at K // 2, one for each term of `polynomials(order)`
    order : of the polynomial, P = (order + 1) (order + 2) / 2
    Returns (H, W) float32, summed in float64, out(y, x) = sum_ji kernel(j, i) image(y + r - j, x + r - i)
    with r = K // 2 and the kernel of the output pixel's position, u = 2 x / W - 1 and v = 2 y / H - 1.
    Raises WrongShape for arrays of other shapes.

    Alard 2000, A&AS 144, 363, eq. 2, which takes the kernel at the output pixel, as here.
    """
    check(image.shape, kernels.shape, order)
    finite = np.isfinite(image)
    pixels = np.where(finite, image, 0).astype(np.float64)
    result = np.zeros(image.shape)
    for weight, kernel in zip(polynomials(image.shape, order), kernels.astype(np.float64), strict=True):
        result += weight * oaconvolve(pixels, kernel, mode="same")
    reached = maximum_filter(~finite, size=kernels.shape[1], mode="constant", cval=False)
    return np.where(reached, np.nan, result).astype(np.float32)


def polynomials(shape: tuple[int, ...], order: int) -> Iterator[np.ndarray]:
    """The terms u^i v^j as (H, W) planes, `for j in range(order + 1) for i in range(order + 1 - j)`."""
    v, u = (2 * np.arange(n) / n - 1 for n in shape)
    for j in range(order + 1):
        for i in range(order + 1 - j):
            yield np.outer(v**j, u**i)


def check(image: tuple[int, ...], kernels: tuple[int, ...], order: int) -> None:
    """Raises WrongShape unless the shapes are those of an image and of its kernels."""
    terms = (order + 1) * (order + 2) // 2
    if len(image) != 2 or 0 in image:
        raise WrongShape(f"convolve: expected an image of shape (H, W), got {image}")
    if len(kernels) != 3 or kernels[0] != terms or kernels[1] != kernels[2] or kernels[1] % 2 == 0:
        raise WrongShape(f"convolve: expected kernels of shape ({terms}, K, K) with K odd, got {kernels}")
