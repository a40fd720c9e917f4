"""Rectangles that cover an image, each with a halo, for FFTs that stay in cache."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import scipy.fft


@dataclass(frozen=True)
class Tile:
    """One rectangle [y0:y1, x0:x1] of an image and its halo.

    halo : pixels round it that its FFT needs; `size` : side of the square FFT that holds both.
    outer : the rectangle with its halo, cut at the image's border.
    """

    index: int
    y0: int
    y1: int
    x0: int
    x1: int
    halo: int
    size: int
    shape: tuple[int, int]

    @cached_property
    def core(self) -> tuple[slice, slice]:
        """The rectangle in the image."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @cached_property
    def centre(self) -> tuple[float, float]:
        """(y, x) of the middle."""
        return 0.5 * (self.y0 + self.y1 - 1), 0.5 * (self.x0 + self.x1 - 1)

    @cached_property
    def outer(self) -> tuple[slice, slice]:
        """The rectangle and its halo in the image."""
        return (
            slice(max(0, self.y0 - self.halo), min(self.shape[0], self.y1 + self.halo)),
            slice(max(0, self.x0 - self.halo), min(self.shape[1], self.x1 + self.halo)),
        )

    @cached_property
    def inner(self) -> tuple[slice, slice]:
        """Where `outer` lies in the FFT square."""
        top, left = self.halo - self.y0, self.halo - self.x0
        rows, columns = self.outer
        return slice(rows.start + top, rows.stop + top), slice(columns.start + left, columns.stop + left)

    def square(self, values: np.ndarray) -> np.ndarray:
        """(size, size) float32 with `values` (of `outer`) in place and zeros round them."""
        out = np.zeros((self.size, self.size), np.float32)
        out[self.inner] = values
        return out

    def cut(self, square: np.ndarray, extra: int = 0) -> np.ndarray:
        """The core of (..., size, size), `extra` more pixels down and right of where `square` put it."""
        start = self.halo + extra
        return square[..., start : start + self.y1 - self.y0, start : start + self.x1 - self.x0]


def tiles(shape: tuple[int, int], side: int, halo: int) -> list[Tile]:
    """Tiles of about `side` - 2 `halo` pixels that cover the image once, row by row, all with one FFT size."""
    return list(_tiles(shape, side, halo))


@lru_cache(16)
def _tiles(shape: tuple[int, int], side: int, halo: int) -> tuple[Tile, ...]:
    """The same, made once: a frame asks for a thousand."""
    step = max(side - 2 * halo, side // 4, 16)
    rows = np.linspace(0, shape[0], max(1, -(-shape[0] // step)) + 1).astype(int)
    columns = np.linspace(0, shape[1], max(1, -(-shape[1] // step)) + 1).astype(int)
    longest = int(max(np.diff(rows).max(), np.diff(columns).max()))
    size = scipy.fft.next_fast_len(longest + 2 * halo, real=True)
    corners = [(j, i) for j in range(len(rows) - 1) for i in range(len(columns) - 1)]
    return tuple(
        Tile(n, int(rows[j]), int(rows[j + 1]), int(columns[i]), int(columns[i + 1]), halo, size, shape)
        for n, (j, i) in enumerate(corners)
    )


def centres(pieces: Sequence[Tile]) -> tuple[np.ndarray, np.ndarray]:
    """((T,) y, (T,) x) of the middles of tiles."""
    y, x = np.array([tile.centre for tile in pieces]).T
    return y, x
