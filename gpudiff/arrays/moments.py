"""Adaptive Gaussian-weighted moments of stars (Bernstein & Jarvis 2002, section 3, circular weight)."""

from typing import Any

import numpy as np

from gpudiff.arrays.device import Launcher

FWHM = 2.0 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a Gaussian over its standard deviation."""


def moments(stamps: np.ndarray, start: float = 2.0) -> tuple[np.ndarray, ...]:
    """(dy, dx, sigma) of each star: offset from the stamp's centre and Gaussian width, pixels.

    stamps : (N, S, S), sky-subtracted, the star within 2 px of the centre.  The weight follows the star; the
    width is corrected for it, and kept within 0.5 and 16 px.
    """
    half = stamps.shape[1] // 2
    axis, stamps = np.arange(-half, half + 1), stamps.astype(float)
    count = len(stamps)
    dy, dx, sigma = np.zeros(count), np.zeros(count), np.full(count, float(start))
    for _ in range(10):
        down, across = (_powers(axis - at[:, None], sigma[:, None]) for at in (dy, dx))
        sums = down @ stamps @ across.transpose(0, 2, 1)  # the weight is a product, one factor along each axis
        flux = np.maximum(sums[:, 0, 0], 1e-9)
        width2 = np.clip((sums[:, 2, 0] + sums[:, 0, 2]) / flux / 2, 0.1, None)
        dx = np.clip(dx + 2 * sums[:, 0, 1] / flux, -2, 2)
        dy = np.clip(dy + 2 * sums[:, 1, 0] / flux, -2, 2)
        sigma = np.sqrt(np.clip(1 / np.maximum(1 / width2 - 1 / sigma**2, 1e-2), 0.25, 256))
    return dy, dx, sigma


def _powers(distance: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(N, 3, S) powers 0, 1 and 2 of a distance (N, S) times its Gaussian weight; sigma : (N, 1)"""
    weight = np.exp(-0.5 * (distance / sigma) ** 2)
    return np.stack([weight, weight * distance, weight * distance**2], 1)


def second_moments(stamps: np.ndarray, sigma: float) -> np.ndarray:
    """(N, 3) ixx, iyy, ixy, pixel^2, of centred stamps under a Gaussian weight of width `sigma`, weight undone.

    1/I = 1/M - 1/sigma^2 as matrices, M the weighted moments; exact for Gaussians.  NaN where that fails.
    """
    xx, yy, xy = _weighted(stamps, sigma)
    with np.errstate(divide="ignore", invalid="ignore"):
        det = xx * yy - xy**2
        ixx, iyy, ixy = yy / det - sigma**-2, xx / det - sigma**-2, -xy / det
        det = ixx * iyy - ixy**2
        out = np.stack([iyy / det, ixx / det, -ixy / det], 1)
    good = (det > 0) & (out[:, 0] > 0) & (out[:, 1] > 0)
    return np.where(good[:, None], out, np.nan)


def axes(stamps: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(major, minor, angle) (N,) of the same: moments along the axes, pixel^2, and degrees from +x to the major.

    The weighted moments have the same axes, so that a direction is known where the weight cannot be undone: inf
    is longer than the weight tells.  NaN where the light is not positive.
    """
    xx, yy, xy = _weighted(stamps, sigma)
    middle, spread = 0.5 * (xx + yy), np.hypot(0.5 * (xx - yy), xy)
    with np.errstate(divide="ignore", invalid="ignore"):
        major, minor = (
            np.where(one < sigma**2, 1 / (1 / one - sigma**-2), np.where(np.isnan(one), np.nan, np.inf))
            for one in (middle + spread, middle - spread)
        )
    return major, minor, 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))


def _weighted(stamps: np.ndarray, sigma: float) -> np.ndarray:
    """(3, N) xx, yy, xy of centred stamps under a Gaussian weight, NaN where the light is not positive."""
    half = stamps.shape[1] // 2
    axis = np.arange(-half, half + 1)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    weight = np.exp(-0.5 * (rows**2 + columns**2) / sigma**2)
    parts = np.stack([weight, weight * columns**2, weight * rows**2, weight * columns * rows])
    flux, *second = parts.reshape(4, -1) @ stamps.reshape(len(stamps), -1).T.astype(float)
    return np.array(second) / np.where(flux > 0, flux, np.nan)


# ---------------------------------------------------------------- on a GPU
THREADS = 128
"""Of a block in the CUDA body; a block measures one star."""


def moments_cuda(launcher: Launcher, stamps: Any, start: float) -> np.ndarray:
    """(3, N) what `moments` returns, on the host.  stamps : float32, on the device or the host"""
    count, side, _ = stamps.shape
    table = launcher.empty((3, count), np.float64)
    if count:
        arguments = [launcher.upload(stamps, np.float32), table, np.int32(side), np.float64(start)]
        launcher.launch("moments", "moments", (count, 1, 1), (THREADS, 1, 1), arguments, 16 * side)
    return launcher.download(table)
