"""Square cutouts of an image around given positions."""

from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.stamps import inside, stamps
from gpudiff.model.errors import WrongShape

THREADS = 256


def cutouts(image: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """The `size` x `size` pixels around each position; NaN where they lie outside the image.

    image : (H, W) float32, any unit, also on a device; NaN pixels stay NaN
    x, y : (N,) float, pixels, the first pixel's centre at (0, 0); N may be 0
    size : odd, pixels
    Returns (N, size, size) float32, a new array indexed [n, y, x]. Its centre is the pixel that holds the
    position, (floor(x + 1/2), floor(y + 1/2)). A position that is not finite lies outside every image.
    Raises WrongShape for an image that is not two-dimensional, an even size, or x and y of different lengths.
    """
    x, y = check(image, x, y, size)
    if isinstance(image, Afar):
        none = np.zeros(x.size, int)
        return image.on_device(lambda launcher, there: cutouts_cuda(launcher, there, none, x, y, size))
    return pixels_around(image, x, y, size, np.float32(np.nan))


def pixels_around(image: np.ndarray, x: np.ndarray, y: np.ndarray, size: int, beyond: Any) -> np.ndarray:
    """`cutouts` of the type of `beyond`, which is what lies outside the image.  image : (H, W), on the host"""
    (height, width), half = image.shape, size // 2
    row, column = nearest(y, size, height), nearest(x, size, width)
    pixels = stamps(image, row, column, half).astype(beyond.dtype, copy=False)
    rim = np.flatnonzero(np.minimum.reduce([row, column, height - 1 - row, width - 1 - column]) < half)
    pixels[rim] = np.where(inside(image.shape, row[rim], column[rim], half), pixels[rim], beyond)
    return pixels


def cutouts_cuda(
    launcher: Launcher, images: Any, frames: np.ndarray, x: np.ndarray, y: np.ndarray, size: int
) -> np.ndarray:
    """The same for a batch of images on a GPU, exactly; the cutouts are on the host.

    images : (B, H, W) float32, on the device or the host
    frames : (N,) int, the image that each position lies in
    Raises WrongShape, also for a frame number that is none.
    """
    x, y = check(images[0], x, y, size)
    frames = np.asarray(frames)
    if frames.shape != x.shape or not np.all((frames >= 0) & (frames < len(images))):
        raise WrongShape(f"cutouts: expected {x.size} frame numbers below {len(images)}, got {frames}")
    made = launcher.empty((x.size, size, size), np.float32)
    if x.size:
        places = [
            launcher.upload(frames, np.int32),
            launcher.upload(x, np.float64),
            launcher.upload(y, np.float64),
        ]
        sizes = [np.int32(images.shape[2]), np.int32(images.shape[1]), np.int32(size)]
        arguments = [launcher.upload(images, np.float32), *places, made, *sizes]
        launcher.launch("cutouts", "cutouts", (x.size, 1, 1), (THREADS, 1, 1), arguments)
    return launcher.download(made)


def nearest(position: np.ndarray, size: int, length: int) -> np.ndarray:
    """(N,) int64 the pixel along one axis that holds each position; far outside for what is not finite."""
    with np.errstate(invalid="ignore"):
        pixel = np.floor(position + 0.5)
    outside = length + size
    return np.clip(np.nan_to_num(pixel, nan=outside), -outside, outside).astype(np.int64)


def check(image: np.ndarray, x: np.ndarray, y: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y as float64 vectors, or WrongShape."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if image.ndim != 2 or 0 in image.shape:
        raise WrongShape(f"cutouts: expected an image of shape (H, W), got {image.shape}")
    if size < 1 or size % 2 == 0:
        raise WrongShape(f"cutouts: expected an odd size, got {size}")
    if x.ndim != 1 or x.shape != y.shape:
        raise WrongShape(f"cutouts: expected x and y of one length, got {x.shape} and {y.shape}")
    return x, y
