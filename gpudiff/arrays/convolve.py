"""Convolution with a kernel that varies over the image as a polynomial of the position."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.signal import oaconvolve

from gpudiff.arrays.device import Launcher
from gpudiff.model.errors import WrongShape

CELL = (16, 32)  # rows, columns that share one kernel in the CUDA body: the pixels of one warp
LARGEST_KERNEL = 63
SHARED_BUDGET = 96 << 10  # bytes a block: what sm_120 offers, the least of the architectures we compile for


def convolve(image: np.ndarray, kernels: np.ndarray, order: int, cell: tuple[int, int] = (1, 1)) -> np.ndarray:
    """The image convolved with sum_p poly_p(u, v) kernels[p]; zero beyond its edges.

    image : (H, W) float32; a pixel that is not finite makes every pixel whose kernel reaches it NaN
    kernels : (P, K, K) float32, K odd, centre at K // 2, one for each term of `polynomials(order)`
    order : of the polynomial, P = (order + 1) (order + 2) / 2
    cell : (rows, columns) of the cells that share the kernel at their centre; (1, 1) is exact, pixel by pixel
    Returns (H, W) float32, summed in float64, out(y, x) = sum_ji kernel(j, i) image(y + r - j, x + r - i)
    with r = K // 2 and the kernel of the output pixel's position, u = 2 x / W - 1 and v = 2 y / H - 1.
    Raises WrongShape for arrays of other shapes.

    Alard 2000, A&AS 144, 363, eq. 2, which takes the kernel at the output pixel, as here.
    """
    check(image.shape, kernels.shape, order)
    finite = np.isfinite(image)
    pixels = np.where(finite, image, 0).astype(np.float64)
    result = np.zeros(image.shape)
    for weight, kernel in zip(polynomials(image.shape, order, cell), kernels.astype(np.float64), strict=True):
        result += weight * oaconvolve(pixels, kernel, mode="same")
    reached = maximum_filter(~finite, size=kernels.shape[1], mode="constant", cval=False)
    return np.where(reached, np.nan, result).astype(np.float32)


def polynomials(shape: tuple[int, ...], order: int, cell: tuple[int, int] = (1, 1)) -> Iterator[np.ndarray]:
    """The terms u^i v^j as (H, W) planes, `for j in range(order + 1) for i in range(order + 1 - j)`."""
    v, u = (2 * cell_centres(n, c) / n - 1 for n, c in zip(shape, cell, strict=True))
    for j in range(order + 1):
        for i in range(order + 1 - j):
            yield np.outer(v**j, u**i)


def cell_centres(length: int, cell: int) -> np.ndarray:
    """For each pixel of an axis the centre of its cell; the last cell may reach over the edge."""
    return np.arange(length) // cell * cell + (cell - 1) / 2


def convolve_cuda(launcher: Launcher, images: Any, kernels: Any, order: int) -> Any:
    """The same for a batch on a GPU: `convolve(image, kernels, order, CELL)` in float32.

    images : (B, H, W) float32, on the device or the host
    kernels : (B, P, K, K) float32, K at most 63
    Returns (B, H, W) float32 on the device. Sums of K^2 products in float32 err by at most a few 1e-6 of
    sum |kernel| |image|. A kernel constant over CELL errs, against one exact at every pixel, by at most its
    change over 8 rows and 16 columns: 5e-3 of a star's peak where the peak changes by 40 % over 1024 columns,
    a quarter of that over 4096.
    """
    batch, height, width = images.shape
    check(images.shape[1:], kernels.shape[1:], order)
    size = kernels.shape[-1]
    if len(kernels) != batch or size > LARGEST_KERNEL:
        expected = f"{batch} sets of kernels of at most {LARGEST_KERNEL} pixels"
        raise WrongShape(f"convolve: expected {expected}, got {kernels.shape}")
    warps = warps_for(size)
    result = launcher.empty(images.shape, np.float32)
    arrays = [launcher.upload(images, np.float32), launcher.upload(kernels, np.float32), result]
    grid = (-(-width // CELL[1]), -(-height // (CELL[0] * warps)), batch)
    launcher.launch(
        "convolve",
        "convolve",
        grid,
        (32 * warps, 1, 1),
        [*arrays, np.int32(width), np.int32(height), np.int32(order)],
        shared=shared_bytes(size, warps),
        defines=(f"K={size}", f"WARPS={warps}"),
    )
    return result


def warps_for(size: int) -> int:
    """Warps a block: as many as fit into shared memory."""
    return next(warps for warps in (8, 4, 2) if shared_bytes(size, warps) <= SHARED_BUDGET)


def shared_bytes(size: int, warps: int) -> int:
    """Shared memory of one block: a kernel a warp, columns padded to 16 bytes, and the tile with its halo."""
    padded = -(-size // 4) * 4
    tile = (CELL[0] * warps + size - 1) * (CELL[1] + size - 1)
    return 4 * (warps * size * padded + tile)


def check(image: tuple[int, ...], kernels: tuple[int, ...], order: int) -> None:
    terms = (order + 1) * (order + 2) // 2
    if len(image) != 2 or 0 in image:
        raise WrongShape(f"convolve: expected an image of shape (H, W), got {image}")
    if len(kernels) != 3 or kernels[0] != terms or kernels[1] != kernels[2] or kernels[1] % 2 == 0:
        raise WrongShape(f"convolve: expected kernels of shape ({terms}, K, K) with K odd, got {kernels}")
