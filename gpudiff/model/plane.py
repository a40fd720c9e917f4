"""Planes that are smooth over the image (sky, sky variance), kept as what they are: a coarse grid."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

DENSEST = 32
"""Cells along a side, at most, of a grid whose rank is worth looking for."""
NOTHING = 1e-9
"""Of a grid's largest singular value: float32 does not tell it from nothing."""


class Plane(Protocol):
    """An (H, W) float32 plane, read a rectangle at a time."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def cut(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray: ...

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray: ...

    def squares(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """(N, S, T) at all of N times S rows in T columns, (N, S) and (N, T) int."""
        ...

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, G) and (G, W) float32 whose product it is; for a plane kept pixel by pixel itself and (0, W)."""
        ...


@dataclass(frozen=True)
class DensePlane:
    """A plane stored pixel by pixel."""

    array: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.array.shape

    def cut(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """The rectangle [y0:y1, x0:x1]; a view: do not write into it."""
        return self.array[y0:y1, x0:x1]

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at whole-pixel positions."""
        return self.array[y, x]

    def squares(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return self.array[rows[:, :, None], columns[:, None]]

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """The plane, and no columns."""
        return self.array, np.empty((0, self.array.shape[1]), np.float32)


@dataclass(frozen=True)
class SmoothPlane:
    """A natural cubic spline through a coarse grid of cell centres: any rectangle is two small products.

    grid : (GY, GX) values at the centres of GY x GX equal cells that tile the image
    shape : the image's (H, W)
    """

    grid: np.ndarray
    shape: tuple[int, int]

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        """A grid of little rank is a product itself: a quadratic surface has 3 columns, not one for each cell."""
        rows, columns = (
            spline_matrix(pixels, cells) for pixels, cells in zip(self.shape, self.grid.shape, strict=True)
        )
        if max(self.grid.shape) > DENSEST:
            return rows @ self.grid.astype(np.float32), np.ascontiguousarray(columns.T)
        left, size, right = np.linalg.svd(self.grid.astype(float), full_matrices=False)
        rank = max(1, np.count_nonzero(size > NOTHING * size[0]))
        left, right = left[:, :rank] * size[:rank], right[:rank]
        return rows @ left.astype(np.float32), np.ascontiguousarray((columns @ right.T.astype(np.float32)).T)

    def cut(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """The rectangle [y0:y1, x0:x1], (y1 - y0, x1 - x0) float32."""
        rows, columns = self._factors
        return rows[y0:y1] @ columns[:, x0:x1]

    def at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Values at whole-pixel positions."""
        rows, columns = self._factors
        return (rows[y] * columns[:, x].T).sum(-1)

    def squares(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        left, right = self._factors
        return left[rows] @ right[:, columns].swapaxes(0, 1)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """(H, G) and (G, W) whose product it is."""
        return self._factors


def constant(value: float, shape: tuple[int, int]) -> SmoothPlane:
    """A plane with one value."""
    return SmoothPlane(np.full((1, 1), value, np.float32), shape)


@lru_cache(8)
def spline_matrix(pixels: int, cells: int) -> np.ndarray:
    """(pixels, cells) float32 matrix from cell-centre values to pixel values, to be read only.

    Natural cubic spline between the centres, straight lines beyond the first and last; linear for fewer than
    four cells (de Boor, A Practical Guide to Splines, 1978).
    """
    centre = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    if cells < 4:
        inside = np.clip(centre, 0, cells - 1)
        return np.maximum(0, 1 - np.abs(inside[:, None] - np.arange(cells))).astype(np.float32)
    system = 4 * np.eye(cells) + np.eye(cells, k=1) + np.eye(cells, k=-1)
    system[0, 1] = system[-1, -2] = 0
    identity = np.eye(cells)
    right = np.zeros((cells, cells))
    right[1:-1] = 6 * (identity[:-2] - 2 * identity[1:-1] + identity[2:])
    second = np.linalg.solve(system, right)
    index = np.clip(np.floor(centre).astype(int), 0, cells - 2)
    t = centre - index
    bend = (1 - t) * t / 6
    weights = np.zeros((pixels, cells), np.float32)
    weights[np.arange(pixels), index], weights[np.arange(pixels), index + 1] = 1 - t, t
    for share, cell in ((bend * (2 - t), index), (bend * (1 + t), index + 1)):
        weights -= share.astype(np.float32)[:, None] * second.astype(np.float32)[cell]
    first_slope = identity[1] - identity[0] - second[1] / 6
    last_slope = identity[-1] - identity[-2] + second[-2] / 6
    for outside, end, slope in ((centre < 0, 0, first_slope), (centre > cells - 1, cells - 1, last_slope)):
        weights[outside] = identity[end] + (centre[outside] - end)[:, None] * slope
    return weights
