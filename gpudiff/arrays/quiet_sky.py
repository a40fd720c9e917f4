"""Where a difference shows sky alone, and what is left there."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.box import box_mean, box_means, grown
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.residual_sky import CELLS, cell_sums
from gpudiff.arrays.retouch import take_sky_cuda
from gpudiff.arrays.subtract_tiles import borders
from gpudiff.arrays.tiles import Tile

MEAN = 7
"""Side of the square, pixels, over which an image is averaged to see whether it shows sky."""
BRIGHT = 6.0
"""Sigmas of such a mean, over those round it, from which on there is something; its wings are no sky either."""
OUTLIER = 3
"""Sigmas of a pixel that is left out."""
SEEN = 4.0
"""Sigmas of such a mean from which there is something in a difference whose sky is out of it."""

Known = tuple[tuple[np.ndarray, np.ndarray], np.ndarray]
"""From an earlier pass: the factors (H, G) and (G, W) of the sky that was left, and where it was `changed`."""


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
    image, variance : (h, w) float32; blank : (h, w) bool, sky alone; reach : px
    """
    ratio = np.where(blank, image / np.sqrt(variance), np.float32(0))
    near, around = box_means(ratio, MEAN)
    bright = np.abs(near - around) * MEAN > BRIGHT
    return grown(bright, reach) if bright.any() else bright


def quiet_sky_again(
    image: np.ndarray,
    variance: np.ndarray,
    model: np.ndarray,
    lost: np.ndarray,
    limit: float,
    level: np.ndarray,
    changed: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`quiet_sky` where the sky is known from an earlier pass: outliers are told from it, since about 0 they would
    be its heights and its depths.

    level : (h, w) float32 that sky; changed : (h, w) bool, no sky
    """
    blank = sky_only(model, variance, lost, limit)
    return blank, cell_sums(image, blank & ((image - level) ** 2 < OUTLIER**2 * variance) & ~changed)


def changed(image: np.ndarray, variance: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """(H, W) bool: near what is seen in a difference; a fine mesh would take some of its light for sky.

    image, variance : (H, W) float32, the sky taken out; lost : bool.  On the device where they lie there
    """
    if isinstance(image, Afar):
        there = image.there, variance.there, lost.there
        return Afar(image.device, image.on_device(lambda launcher, _: changed_cuda(launcher, *there)), bool)
    ratio = np.where(lost, np.float32(0), image / np.sqrt(variance))
    seen = np.abs(box_mean(ratio, MEAN)) * MEAN > SEEN
    return grown(seen, MEAN)


def sigmas(image: np.ndarray, variance: np.ndarray, blank: np.ndarray, most: float) -> np.ndarray:
    """(H, W) float32 difference over its noise where it shows sky alone; NaN elsewhere, and from `most` sigmas on.

    image, variance : (H, W) float32; blank : bool.  On the device where they lie there
    """
    if isinstance(image, Afar):
        there = image.there, variance.there, blank.there
        return Afar(image.device, image.on_device(lambda launcher, _: sigmas_cuda(launcher, *there, most)))
    use = blank & (image**2 < np.float32(most**2) * variance)
    return np.where(use, image / np.sqrt(variance), np.float32(np.nan))


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
    image, variance, _, _ = planes
    grid = _Grid(launcher, image.shape, *borders(pieces))
    blank, ratio = _blank(launcher, grid, planes, limits)
    bright, spread = (launcher.empty(image.shape, np.uint8) for _ in range(2))
    reach = launcher.upload(np.asarray(reaches), np.int32)
    grid.launch("bright", [ratio, bright])
    grid.launch("spread", [bright, reach, spread])
    return blank, _cell_sums(launcher, grid, [image, image, variance, blank, spread, reach])


def quiet_sky_again_cuda(
    launcher: Launcher,
    planes: tuple[Any, Any, Any, Any],
    pieces: Sequence[Tile],
    limits: Sequence[float],
    levels: tuple[np.ndarray, np.ndarray],
    changed: Any,
) -> tuple[Any, np.ndarray]:
    """`quiet_sky_again` likewise.

    levels : (B, H, G) and (B, G, W), whose products the known skies are; changed : (B, H, W) uint8, on the device
    """
    image, variance, _, _ = planes
    grid = _Grid(launcher, image.shape, *borders(pieces))
    blank, _ = _blank(launcher, grid, planes, limits)
    level = launcher.copy(image)
    take_sky_cuda(launcher, level, *levels)
    none = launcher.zeros((len(limits),), np.int32)
    return blank, _cell_sums(launcher, grid, [image, level, variance, blank, changed, none])


def changed_cuda(launcher: Launcher, image: Any, variance: Any, lost: Any) -> Any:
    """`changed` of a batch on a GPU, exactly: (B, H, W) uint8 on the device, as `lost` is."""
    _, height, width = image.shape
    found = launcher.empty(image.shape, np.uint8)
    grid = _Grid(launcher, image.shape, np.array([0, height]), np.array([0, width]))
    grid.launch("changed", [image, variance, lost, found])
    return found


def sigmas_cuda(launcher: Launcher, image: Any, variance: Any, blank: Any, most: float) -> Any:
    """`sigmas` of a batch on a GPU, exactly: (B, H, W) on the device, as `blank` is, uint8."""
    _, height, width = image.shape
    found = launcher.empty(image.shape, np.float32)
    grid = _Grid(launcher, image.shape, np.array([0, height]), np.array([0, width]))
    grid.launch("sigmas", [image, variance, blank, np.float32(most**2), found])
    return found


class _Grid:
    """Tiles by their borders, and the blocks that fill them."""

    def __init__(
        self, launcher: Launcher, shape: tuple[int, int, int], rows: np.ndarray, columns: np.ndarray
    ) -> None:
        self.launcher, self.shape = launcher, shape
        self.wide, self.tall = len(columns) - 1, len(rows) - 1
        self.strips, self.layers = (-(-int(np.diff(edges).max()) // PATCH) for edges in (columns, rows))
        self.edges = [launcher.upload(one, np.int32) for one in (rows, columns)]

    def launch(self, kernel: str, arrays: Sequence[Any], cells: int = 0) -> None:
        """A block a patch of each tile; or `cells` along its sides."""
        down, across = (cells, cells) if cells else (self.layers, self.strips)
        batch, height, width = self.shape
        sizes = map(np.int32, (width, height, down, across))
        blocks = self.wide * across, self.tall * down, batch
        self.launcher.launch("quiet_sky", kernel, blocks, (THREADS, 1, 1), [*arrays, *self.edges, *sizes])


def _blank(
    launcher: Launcher, grid: _Grid, planes: tuple[Any, Any, Any, Any], limits: Sequence[float]
) -> tuple[Any, Any]:
    """(`sky_only` as uint8, the difference over its noise there), on the device."""
    blank, ratio = launcher.empty(grid.shape, np.uint8), launcher.empty(grid.shape, np.float32)
    squares = launcher.upload([np.float32(one**2) for one in limits], np.float32)
    grid.launch("blank", [*planes, squares, blank, ratio])
    return blank, ratio


def _cell_sums(launcher: Launcher, grid: _Grid, arrays: Sequence[Any]) -> np.ndarray:
    """(B, T, 2, CELLS, CELLS) on the host."""
    sums = launcher.empty((grid.shape[0], grid.tall * grid.wide, 2, CELLS, CELLS), np.float32)
    grid.launch("cell_sums", [*arrays, sums], CELLS)
    return launcher.download(sums)
