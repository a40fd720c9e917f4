"""Planes that stay on a device: of them the host has what it looks at."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.retouch import lift_cuda, mark_cuda, put_cuda, rescale_cuda, take_sky_cuda
from gpudiff.arrays.tiles import Tile

THREADS = 256

Made = TypeVar("Made")


class Room(Protocol):
    """The device that a plane lies on."""

    launcher: Launcher

    def with_room(self, work: Callable[[], Made]) -> Made:
        """What `work` makes, where memory is short room being made for it."""
        ...


class Afar(NDArrayOperatorsMixin):
    """A plane (H, W) on a device, float32 or bool, that is read as an array is.

    What is read by whole numbers or by slices comes down alone, whenever it is read.  For anything else all of the
    plane comes down, once.  What was read by slices is read-only.
    Written to by [y, x] = values, each pixel once, and times or over a factor: on the device, and in what the host
    has of it.  Not for several threads at once.
    there : (1, H, W) on the device, float32 or uint8, which is its own from now on
    holes : plane of bool, where it is NaN, and nowhere else
    """

    def __init__(self, device: Room, there: Any, dtype: Any = np.float32, holes: "Afar | None" = None) -> None:
        self.device, self.there, self.dtype, self.holes = device, there, np.dtype(dtype), holes
        self.shape: tuple[int, int] = there.shape[1:]
        self.ndim, self.size = 2, self.shape[0] * self.shape[1]
        self._here: np.ndarray | None = None
        """All of it, once it came down."""
        self._numbers: np.ndarray | None = None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        key = (key, slice(None)) if isinstance(key, slice) else key
        if self._here is not None or not (isinstance(key, tuple) and len(key) == 2):
            return np.asarray(self)[key]
        if all(isinstance(one, slice) for one in key):
            every = (range(*one.indices(side)) for one, side in zip(key, self.shape, strict=True))
            return _read_only(self.lattice(*every))
        if all(_whole_numbers(one) for one in key):
            y, x = (_from_first(one, side) for one, side in zip(key, self.shape, strict=True))
            numbers = np.asarray(y * self.shape[1] + x)
            return self._down(pixels_cuda, numbers.ravel()).reshape(numbers.shape)[()]
        return np.asarray(self)[key]

    def __setitem__(self, key: Any, values: Any) -> None:
        if not (isinstance(key, tuple) and len(key) == 2 and all(_whole_numbers(one) for one in key)):
            raise TypeError(f"a plane on a device is written to by [y, x], not by {key!r}")
        y, x = np.broadcast_arrays(*map(_from_first, key, self.shape))
        values = np.broadcast_to(np.asarray(values, self.dtype), y.shape)
        pixels, flat = np.ravel(y * self.shape[1] + x), np.ravel(values)
        if self.dtype == bool:
            self._numbers = None
            self.on_device(lambda launcher, there: mark_cuda(launcher, there, pixels[flat], True))
            self.on_device(lambda launcher, there: mark_cuda(launcher, there, pixels[~flat], False))
        else:
            self.on_device(lambda launcher, there: put_cuda(launcher, there, pixels, flat))
        if self._here is not None:
            self._here[y, x] = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if self._here is None:
            self._here = self.device.launcher.download(self.there)[0].view(self.dtype)
        return _read_only(self._here).astype(dtype or self.dtype, copy=bool(copy))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if any(isinstance(one, Afar) for one in options.get("out", ())):
            return NotImplemented
        return getattr(ufunc, method)(*map(np.asarray, inputs), **options)

    def __getattr__(self, name: str) -> Any:
        """All else that an array can do, of the whole plane."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)

    def __imul__(self, factor: Any) -> "Afar":
        return self._rescaled(factor, False)

    def __itruediv__(self, factor: Any) -> "Afar":
        return self._rescaled(factor, True)

    def take_sky(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Subtract a smooth sky, (H, G) times (G, W)."""
        self.on_device(lambda launcher, there: take_sky_cuda(launcher, there, rows[None], columns[None]))
        self._here = None

    def lift(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Multiply by a smooth plane, (H, G) times (G, W)."""
        self.on_device(lambda launcher, there: lift_cuda(launcher, there, rows[None], columns[None]))
        self._here = None

    def on_device(self, work: Callable[[Launcher, Any], Made]) -> Made:
        """What a CUDA body makes of it."""
        return self.device.with_room(lambda: work(self.device.launcher, self.there))

    def numbers(self) -> np.ndarray:
        """Of a plane of bool those where it is True, row by row; looked for once."""
        if self._numbers is None:
            here = self._here
            self._numbers = self.on_device(flagged_cuda) if here is None else np.flatnonzero(here)
        return self._numbers

    def lattice(self, rows: Any, columns: Any) -> np.ndarray:
        """(R, C) the values at all of these rows in all of these columns, integers."""
        return self._down(lattice_cuda, rows, columns)

    def stamps(self, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
        """As `arrays.stamps.stamps`."""
        return self._down(stamps_cuda, y, x, half)

    def _down(self, cuda_body: Callable[..., np.ndarray], *where: Any) -> np.ndarray:
        """Of the plane what a CUDA body brings down."""
        return self.on_device(lambda launcher, there: cuda_body(launcher, there, *where)).view(self.dtype)

    def _rescaled(self, factor: Any, divides: bool) -> "Afar":
        one = np.array([factor], np.float32)
        self.on_device(lambda launcher, there: rescale_cuda(launcher, there, one, divides))
        self._here = None
        return self


def _whole_numbers(one: Any) -> bool:
    return isinstance(one, int | np.integer) or (isinstance(one, np.ndarray) and one.dtype.kind in "iu")


def _from_first(one: Any, side: int) -> np.ndarray:
    """Places along an axis counted from its first pixel.  Raises IndexError for one that is not there."""
    at = np.asarray(one)
    if at.size == 0:
        return at
    first, last = at.min(), at.max()
    if not -side <= first <= last < side:
        raise IndexError(f"expected places of {side} pixels, got {first} to {last}")
    return at if first >= 0 else at % side  # which takes ten times as long


def _read_only(view: np.ndarray) -> np.ndarray:
    view = view.view()
    view.flags.writeable = False
    return view


def holes(plane: Any) -> Any:
    """(H, W) bool, where a plane is not finite; on the device where the plane lies there."""
    known = plane.holes if isinstance(plane, Afar) else None
    return ~np.isfinite(plane) if known is None else known


def numbers(plane: Any) -> np.ndarray:
    """(N,) numbers, row by row, of the pixels at which a plane of bool is True."""
    return plane.numbers() if isinstance(plane, Afar) else np.flatnonzero(plane)


def sampled(plane: Any, pieces: Sequence[Tile], step: int) -> list[np.ndarray]:
    """Every `step`-th row and column of each tile's core, of a plane wherever it is."""
    if not isinstance(plane, Afar):
        return [plane[tile.core][::step, ::step] for tile in pieces]
    rows = {tile.y0: range(tile.y0, tile.y1, step) for tile in pieces}
    columns = {tile.x0: range(tile.x0, tile.x1, step) for tile in pieces}
    values = plane.lattice(*(np.concatenate([*each.values()]) for each in (rows, columns)))
    down, across = _in_turn(rows), _in_turn(columns)
    return [values[down[tile.y0], across[tile.x0]] for tile in pieces]


def cores(plane: Any, pieces: Sequence[Tile]) -> list[np.ndarray]:
    """The core of each tile, of a plane wherever it is; from a device they come down together."""
    if not isinstance(plane, Afar):
        return [plane[tile.core] for tile in pieces]
    sides = [(tile.y1 - tile.y0, tile.x1 - tile.x0) for tile in pieces]
    half = max(map(max, sides)) // 2
    y, x = (np.array([getattr(tile, first) + half for tile in pieces]) for first in ("y0", "x0"))
    squares = plane.stamps(y, x, half)
    return [square[:height, :width] for square, (height, width) in zip(squares, sides, strict=True)]


def _in_turn(ranges: dict[int, range]) -> dict[int, slice]:
    """Where each range lies when they follow one another."""
    ends = np.cumsum([len(one) for one in ranges.values()]).tolist()
    return {name: slice(start, end) for name, start, end in zip(ranges, [0, *ends], ends, strict=False)}


# ---------------------------------------------------------------- what comes down
def pixels(plane: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """(N,) values of single pixels.  plane : (H, W) float32 or uint8; numbers : (N,) int, row by row"""
    return plane.reshape(-1)[numbers]


def lattice(plane: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
    """(R, C) values at all of these rows in all of these columns.  plane : (H, W) float32 or uint8"""
    return plane[np.ix_(np.asarray(rows), np.asarray(columns))]


def pixels_cuda(launcher: Launcher, plane: Any, numbers: np.ndarray) -> np.ndarray:
    """`pixels` on a GPU, exactly; on the host.  plane : (1, H, W) on the device"""
    return _launched(launcher, "pixels", plane, [numbers], numbers.shape)


def lattice_cuda(launcher: Launcher, plane: Any, rows: Any, columns: Any) -> np.ndarray:
    """`lattice` on a GPU, exactly; on the host.  plane : (1, H, W) on the device"""
    return _launched(launcher, "lattice", plane, [rows, columns], (len(rows), len(columns)))


def stamps_cuda(launcher: Launcher, plane: Any, y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """`arrays.stamps.stamps` on a GPU, exactly; on the host.  plane : (1, H, W) on the device"""
    return launcher.download(stamps_there(launcher, plane, y, x, half))


def stamps_there(launcher: Launcher, plane: Any, y: np.ndarray, x: np.ndarray, half: int) -> Any:
    """The same, left on the device."""
    side = 2 * half + 1
    return _made(launcher, "stamps", plane, [y, x], (len(y), side, side))


def flagged_cuda(launcher: Launcher, plane: Any) -> np.ndarray:
    """(N,) int64 numbers, row by row, of the pixels of a plane of flags that are not 0; on the host.

    An eighth of a byte a pixel comes down.  plane : (1, H, W) uint8 on the device
    """
    count = math.prod(plane.shape)
    words = launcher.empty((-(-count // 32),), np.uint32)
    if count:
        blocks, define = (-(-count // THREADS), 1, 1), ("VALUE=unsigned char",)
        launcher.launch("afar", "packed", blocks, (THREADS, 1, 1), [plane, words, np.int32(count)], defines=define)
    found = launcher.download(words)
    some = np.flatnonzero(found != 0)  # of flags, as below: of numbers it takes three to ten times as long
    flags = np.unpackbits(found[some].astype("<u4").view(np.uint8), bitorder="little").view(bool)
    place = np.flatnonzero(flags)
    return 32 * some[place >> 5] + (place & 31)


def _launched(
    launcher: Launcher, kernel: str, plane: Any, places: Sequence[Any], shape: tuple[int, ...]
) -> np.ndarray:
    """What a kernel with a thread for each of `shape` values finds, on the host."""
    return launcher.download(_made(launcher, kernel, plane, places, shape))


def _made(launcher: Launcher, kernel: str, plane: Any, places: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The same, on the device."""
    made = launcher.empty(shape, plane.dtype)
    count = math.prod(shape)
    if count:
        numbers = [launcher.upload(np.asarray(one), np.int32) for one in places]
        sizes = map(np.int32, (*plane.shape[:0:-1], count, shape[-1]))
        defines = (f"VALUE={'float' if plane.dtype == np.float32 else 'unsigned char'}",)
        blocks = (-(-count // THREADS), 1, 1)
        launcher.launch("afar", kernel, blocks, (THREADS, 1, 1), [plane, *numbers, made, *sizes], defines=defines)
    return made
