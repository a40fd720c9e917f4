"""What the host does to planes that lie on a device.

All change planes in place.  (B, ...) : a batch of images; pixels are numbered through the whole batch.
"""

from typing import Any

import numpy as np

from gpudiff.arrays.device import Launcher

BLOCK = 256
"""Threads of a block in the CUDA bodies."""


def put(planes: np.ndarray, pixels: np.ndarray, values: np.ndarray) -> None:
    """Give single pixels a value each.  planes : float32 in C order; pixels, values : (N,), each pixel once"""
    planes.reshape(-1)[pixels] = values


def mark(planes: np.ndarray, pixels: np.ndarray, value: bool = True) -> None:
    """Mark single pixels, or clear them.  planes : bool or uint8 in C order; pixels : (N,)"""
    planes.reshape(-1)[pixels] = value


def take_sky(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Subtract smooth planes.  planes : (B, H, W) float32; rows @ columns : (B, H, G) @ (B, G, W)"""
    planes -= rows @ columns


def lift(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> None:
    """Multiply by smooth planes.  planes : (B, H, W) float32; rows @ columns : (B, H, G) @ (B, G, W)"""
    planes *= rows @ columns


def rescale(planes: np.ndarray, factors: np.ndarray, divides: bool = False) -> None:
    """Multiply each image by its factor, or divide it.  planes : (B, H, W) float32; factors : (B,) float32"""
    if divides:
        planes /= factors[:, None, None]
    else:
        planes *= factors[:, None, None]


# ---------------------------------------------------------------- on a GPU
def put_cuda(launcher: Launcher, planes: Any, pixels: np.ndarray, values: np.ndarray) -> None:
    """`put` on a GPU."""
    if len(pixels):
        arrays = [planes, launcher.upload(pixels, np.int32), launcher.upload(values, np.float32)]
        launcher.launch("retouch", "put", _blocks(len(pixels)), (BLOCK, 1, 1), [*arrays, np.int32(len(pixels))])


def mark_cuda(launcher: Launcher, planes: Any, pixels: np.ndarray, value: bool = True) -> None:
    """`mark` on a GPU.  planes : uint8"""
    if len(pixels):
        arguments = [planes, launcher.upload(pixels, np.int32), np.int32(len(pixels)), np.int32(value)]
        launcher.launch("retouch", "mark", _blocks(len(pixels)), (BLOCK, 1, 1), arguments)


def take_sky_cuda(launcher: Launcher, planes: Any, rows: np.ndarray, columns: np.ndarray) -> None:
    """`take_sky` on a GPU."""
    _by_smooth("take_sky", launcher, planes, rows, columns)


def lift_cuda(launcher: Launcher, planes: Any, rows: np.ndarray, columns: np.ndarray) -> None:
    """`lift` on a GPU."""
    _by_smooth("lift", launcher, planes, rows, columns)


def _by_smooth(kernel: str, launcher: Launcher, planes: Any, rows: np.ndarray, columns: np.ndarray) -> None:
    batch, height, width = planes.shape
    arrays = [planes, launcher.upload(rows, np.float32), launcher.upload(columns, np.float32)]
    sizes = map(np.int32, (width, height, rows.shape[-1]))
    launcher.launch("retouch", kernel, _blocks(height * width, batch), (BLOCK, 1, 1), [*arrays, *sizes])


def rescale_cuda(launcher: Launcher, planes: Any, factors: np.ndarray, divides: bool = False) -> None:
    """`rescale` on a GPU."""
    batch, height, width = planes.shape
    arguments = [planes, launcher.upload(factors, np.float32), np.int32(height * width), np.int32(divides)]
    launcher.launch("retouch", "rescale", _blocks(height * width, batch), (BLOCK, 1, 1), arguments)


def _blocks(count: int, batch: int = 1) -> tuple[int, int, int]:
    return -(-count // BLOCK), 1, batch
