"""The delta basis: one function a kernel pixel, coarser pixels far out, and a penalty on kernels that are rough.

Bramich 2008 (MNRAS 386, L77), with mixed resolution as in Bramich et al. 2013 (MNRAS 428, 2275); the penalty on
second derivatives is that of Becker et al. 2012 (MNRAS 425, 1341).
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from gpudiff.arrays.polynomial import powers

BLOCK = 3
"""Side of a coarse pixel."""
FAINT = 4e-3
BATCH = 8
"""Stamps that are convolved at a time: what stays in cache."""


def labels(light: np.ndarray, functions: int) -> np.ndarray:
    """(K, K) int: which function a kernel pixel belongs to, -1 for none.

    A disc of 3 x 3 blocks.  The brightest blocks are split into pixels until there would be more functions than
    asked for, or the next has less than 0.4 % of the light; the rest are a function each.

    light : (K, K), K a multiple of 3 and odd, what the kernel is to make: a star of the target
    """
    blocks = len(light) // BLOCK
    axis = np.arange(blocks) - blocks // 2
    disc = np.hypot(axis, axis[:, None]) <= blocks / 2
    bright = light.reshape(blocks, BLOCK, blocks, BLOCK).sum((1, 3))
    split = max(functions - int(disc.sum()), 0) // (BLOCK**2 - 1)
    order = np.argsort(-np.where(disc, bright, -np.inf), axis=None, kind="stable")
    fine = np.zeros(disc.size, bool)
    fine[order[: min(split, int((disc & (bright > FAINT * bright[disc].sum())).sum()))]] = True
    spread = np.ones((BLOCK, BLOCK), int)
    whole = np.kron(np.arange(disc.size).reshape(disc.shape), spread)
    pixel = disc.size + np.arange(light.size).reshape(light.shape)
    names = np.where(np.kron(fine.reshape(disc.shape), spread) == 1, pixel, whole)
    inside = np.kron(disc, spread) == 1
    out = np.full(light.shape, -1)
    out[inside] = np.unique(names[inside], return_inverse=True)[1]
    return out


def images(label: np.ndarray) -> np.ndarray:
    """(F, K, K) float64 the functions, each of unit sum."""
    out = (label == np.arange(label.max() + 1)[:, None, None]).astype(np.float64)
    return out / out.sum((1, 2), keepdims=True)


def convolve_stamps(stamps: np.ndarray, label: np.ndarray, size: int) -> np.ndarray:
    """(N, F + 1, size * size) float32: every stamp shifted by every function, and a last one of ones.

    stamps : (N, S, S) float32 with S = size + K - 1
    """
    last = len(label) - 1
    blocks = np.zeros_like(stamps)
    blocks[:, 1:-1, 1:-1] = sliding_window_view(stamps, (BLOCK, BLOCK), axis=(1, 2)).mean((3, 4))
    out = np.ones((len(stamps), label.max() + 2, size, size), np.float32)
    for n in range(label.max() + 1):
        rows, columns = np.nonzero(label == n)
        source = stamps if len(rows) == 1 else blocks
        y, x = last - rows[len(rows) // 2], last - columns[len(rows) // 2]
        out[:, n] = source[:, y : y + size, x : x + size]
    return out.reshape(len(stamps), -1, size * size)


def roughness(functions: np.ndarray, width: float) -> np.ndarray:
    """(F, F) float64: the quadratic form whose value is the sum of a kernel's squared, weighted Laplacian.

    The weight is 1 + (r / width)^3: far from its middle a kernel is weak, and what little it has there is smooth.
    functions : (F, K, K); beyond them the kernel is 0, and a step down to it is as rough as any other
    width : Gaussian width of what the kernel makes, pixels
    """
    wide = np.pad(functions, ((0, 0), (2, 2), (2, 2)))
    near = sliding_window_view(wide, (3, 3), axis=(1, 2))
    laplacian = near[..., 0, 1] + near[..., 1, 0] + near[..., 1, 2] + near[..., 2, 1] - 4 * near[..., 1, 1]
    axis = np.arange(laplacian.shape[1]) - laplacian.shape[1] // 2
    flat = (laplacian * (1 + (np.hypot(axis, axis[:, None]) / width) ** 3)).reshape(len(functions), -1)
    return flat @ flat.T


def over_the_field(form: np.ndarray, order: int, variation: float = 1.0) -> np.ndarray:
    """(F P, F P): the mean over the field of a quadratic form of a kernel that is a polynomial of the position.

    form : (F, F).  Unknowns as `arrays.normal.assemble` has them: F functions x P terms.
    variation : how much more the kernel's departure from its mean over the field counts
    """
    moment = np.array([0.0 if n % 2 else 1 / (n + 1) for n in range(2 * order + 1)])  # of u^n over [-1, 1]
    i, j = np.array(powers(order)).T
    mean = moment[i] * moment[j]
    square = moment[i[:, None] + i] * moment[j[:, None] + j]
    about = square - np.outer(mean, mean)
    return np.kron(form, np.outer(mean, mean) + variation * about)
