"""Where a difference shows sky alone, and what is left there."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from gpudiff.arrays.box import box_mean, box_means
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.residual_sky import CELLS, cell_sums
from gpudiff.arrays.subtract_tiles import borders
from gpudiff.arrays.tiles import Tile

MEAN = 7
"""Side of the square, pixels, over which an image is averaged to see whether it shows sky."""
BRIGHT = 6.0
"""Sigmas of such a mean, over those round it, from which on there is something; its wings are no sky either."""
OUTLIER = 3
"""Sigmas of a pixel that is left out."""


def quiet_sky(
    image: np.ndarray, variance: np.ndarray, model: np.ndarray, lost: np.ndarray, limit: float, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """((h, w) bool: `sky_only`; (2, CELLS, CELLS) float32: `cell_sums` of it, away from what changed) of a tile.

    image, variance, model : (h, w) float32, lost : (h, w) bool, of the tile's core
    """
    blank = sky_only(model, variance, lost, limit)
    quiet = blank & (image**2 < OUTLIER**2 * variance) & ~light(image, variance, blank, reach)
    return blank, cell_sums(image, quiet)


def sky_only(model: np.ndarray, variance: np.ndarray, lost: np.ndarray, limit: float) -> np.ndarray:
    """Bool: pixels where the convolved image shows sky alone: its 7 x 7 mean is below `limit` sigma."""
    mean = box_mean(model, MEAN)
    return ~lost & (mean**2 < np.float32(limit**2) * variance)


def light(image: np.ndarray, variance: np.ndarray, blank: np.ndarray, reach: int) -> np.ndarray:
    """(h, w) bool: pixels within reach of what changed so much that its wings would pass for sky.

    Seen against its surroundings: a sky with structure is no change.
    """
    ratio = np.where(blank, image / np.sqrt(variance), np.float32(0))
    near, around = box_means(ratio, MEAN)
    bright = np.abs(near - around) * MEAN > BRIGHT
    return ndimage.maximum_filter(bright, 2 * reach + 1) if bright.any() else bright


# ---------------------------------------------------------------- on a GPU
PATCH, THREADS = 32, 256
"""Pixels along the side of what a block of the CUDA bodies fills; its threads."""


def quiet_sky_cuda(
    launcher: Launcher,
    planes: tuple[Any, Any, Any, Any],
    pieces: Sequence[Tile],
    limits: Sequence[float],
    reaches: Sequence[int],
) -> tuple[Any, np.ndarray]:
    """`quiet_sky` of all tiles of a batch on a GPU: ((B, H, W) uint8 on the device, (B, T, 2, CELLS, CELLS)).

    planes : image, variance, model, lost (uint8), all (B, H, W) on the device.  Exact, but for the float32 sums.
    """
    batch, height, width = planes[0].shape
    image, variance, model, lost = planes
    rows, columns = borders(pieces)
    wide, tall = len(columns) - 1, len(rows) - 1
    strips, layers = (-(-int(np.diff(edges).max()) // PATCH) for edges in (columns, rows))
    edges = [launcher.upload(one, np.int32) for one in (rows, columns)]
    blank, bright, spread = (launcher.empty(image.shape, np.uint8) for _ in range(3))
    ratio = launcher.empty(image.shape, np.float32)
    sums = launcher.empty((batch, len(pieces), 2, CELLS, CELLS), np.float32)
    squares = [launcher.upload([np.float32(one**2) for one in limits], np.float32)]
    reach = [launcher.upload(np.asarray(reaches), np.int32)]

    def launch(kernel: str, arrays: Sequence[Any], down: int = layers, across: int = strips) -> None:
        sizes = map(np.int32, (width, height, down, across))
        grid = (wide * across, tall * down, batch)
        launcher.launch("quiet_sky", kernel, grid, (THREADS, 1, 1), [*arrays, *edges, *sizes])

    launch("blank", [image, variance, model, lost, *squares, blank, ratio])
    launch("bright", [ratio, bright])
    launch("spread", [bright, *reach, spread])
    launch("cell_sums", [image, variance, blank, spread, *reach, sums], CELLS, CELLS)
    return blank, launcher.download(sums)
