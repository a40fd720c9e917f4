"""Planes that stay on a device: of them the host has what it looks at."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.retouch import lift_cuda, mark_cuda, put_cuda, rescale_cuda, take_sky_cuda
from gpudiff.arrays.tiles import Tile

BLOCK = 16
"""Pixels along the side of the squares in which a plane comes down."""
THREADS = 256
MOST = 0.75
"""Share of a plane's squares from which all of it comes down at once."""

Made = TypeVar("Made")


class Room(Protocol):
    """The device that a plane lies on."""

    launcher: Launcher

    def with_room(self, work: Callable[[], Made]) -> Made:
        """What `work` makes, where memory is short room being made for it."""
        ...


class Afar(NDArrayOperatorsMixin):
    """A plane (H, W) on a device, float32 or bool, that is read as an array is.

    What is read by whole numbers, or by slices without a step, comes down in squares, each once; every n-th row or
    column comes alone.  For anything else all of the plane comes down.  What was read by slices is read-only.
    Written to by [y, x] = values, each pixel once, and times or over a factor: on the device, and in what the host
    has of it.  Not for several threads at once.
    there : (1, H, W) on the device, float32 or uint8, which is its own from now on
    holes : plane of bool, where it is NaN, and nowhere else
    """

    _here: np.ndarray | None
    """The squares that are known, in a whole number of squares; or the whole plane."""
    _known: np.ndarray
    """(tall, wide) bool, of each square."""
    _thin: dict[tuple[range, range], np.ndarray]
    """What was read of rows and columns with a step."""

    def __init__(self, device: Room, there: Any, dtype: Any = np.float32, holes: "Afar | None" = None) -> None:
        self.device, self.there, self.dtype, self.holes = device, there, np.dtype(dtype), holes
        self.shape: tuple[int, int] = there.shape[1:]
        self.ndim, self.size = 2, self.shape[0] * self.shape[1]
        self._forget()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        key = (key, slice(None)) if isinstance(key, slice) else key
        if not (isinstance(key, tuple) and len(key) == 2):
            return np.asarray(self)[key]
        if all(isinstance(one, slice) for one in key):
            rows, columns = (range(*one.indices(side)) for one, side in zip(key, self.shape, strict=True))
            if rows.step > 1 or columns.step > 1:
                if (rows, columns) not in self._thin:
                    self._thin[rows, columns] = _read_only(self.lattice(rows, columns))
                return self._thin[rows, columns]
            return _read_only(self._with(*(_blocks(one) for one in (rows, columns)))[key])
        if all(_whole_numbers(one) for one in key):
            at = (np.asarray(one) % side // BLOCK for one, side in zip(key, self.shape, strict=True))
            return self._with(*at)[key]
        return np.asarray(self)[key]

    def __setitem__(self, key: Any, values: Any) -> None:
        if not (isinstance(key, tuple) and len(key) == 2 and all(_whole_numbers(one) for one in key)):
            raise TypeError(f"a plane on a device is written to by [y, x], not by {key!r}")
        y, x = np.broadcast_arrays(*key)
        values = np.broadcast_to(np.asarray(values, self.dtype), y.shape)
        pixels, flat = np.ravel(y * self.shape[1] + x), np.ravel(values)
        if self.dtype == bool:
            self.on_device(lambda launcher, there: mark_cuda(launcher, there, pixels[flat], True))
            self.on_device(lambda launcher, there: mark_cuda(launcher, there, pixels[~flat], False))
        else:
            self.on_device(lambda launcher, there: put_cuda(launcher, there, pixels, flat))
        self._thin.clear()
        if self._here is not None:
            self._here[y, x] = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if not self._known.all():
            self._here = self.device.launcher.download(self.there)[0].view(self.dtype)
            self._known[:] = True
        here = _read_only(self._host()[: self.shape[0], : self.shape[1]])
        return here.astype(dtype or self.dtype, copy=bool(copy))

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
        self._forget()

    def lift(self, rows: np.ndarray, columns: np.ndarray) -> None:
        """Multiply by a smooth plane, (H, G) times (G, W)."""
        self.on_device(lambda launcher, there: lift_cuda(launcher, there, rows[None], columns[None]))
        self._forget()

    def on_device(self, work: Callable[[Launcher, Any], Made]) -> Made:
        """What a CUDA body makes of it."""
        return self.device.with_room(lambda: work(self.device.launcher, self.there))

    def lattice(self, rows: Any, columns: Any) -> np.ndarray:
        """(R, C) the values at all of these rows in all of these columns, integers."""
        return self.on_device(lambda launcher, there: lattice_cuda(launcher, there, rows, columns)).view(
            self.dtype
        )

    def near(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The plane on the host, good at the pixels round (y, x) alone."""
        at = []
        for place, side in zip((y, x), self.shape, strict=True):
            around = np.floor(place)[..., None] + (0, 1)
            at.append(np.clip(around, 0, side - 1).astype(int) // BLOCK)
        return _read_only(self._with(at[0][..., :, None], at[1][..., None, :]))

    # ------------------------------------------------------------ what the host has of it
    def _forget(self) -> None:
        self._here, self._thin = None, {}
        self._known = np.zeros(tuple(-(-side // BLOCK) for side in self.shape), bool)

    def _host(self) -> np.ndarray:
        if self._here is None:
            self._here = np.empty(tuple(BLOCK * side for side in self._known.shape), self.dtype)
        return self._here

    def _with(self, *squares: Any) -> np.ndarray:
        """(H, W) the plane on the host, with the squares of these numbers along both axes."""
        wanted = np.zeros(self._known.shape, bool)
        wanted[squares] = True
        j, i = np.nonzero(wanted & ~self._known)
        if len(j) > MOST * self._known.size:
            self.__array__()
        elif len(j):
            found = self.on_device(lambda launcher, there: squares_cuda(launcher, there, j, i)).view(self.dtype)
            tall, wide = self._known.shape
            self._host().reshape(tall, BLOCK, wide, BLOCK)[j, :, i] = found
            self._known[j, i] = True
        return self._host()[: self.shape[0], : self.shape[1]]

    def _rescaled(self, factor: Any, divides: bool) -> "Afar":
        one = np.array([factor], np.float32)
        self.on_device(lambda launcher, there: rescale_cuda(launcher, there, one, divides))
        self._forget()
        return self


def _whole_numbers(one: Any) -> bool:
    return isinstance(one, int | np.integer) or (isinstance(one, np.ndarray) and one.dtype.kind in "iu")


def _blocks(one: range) -> slice:
    return slice(one.start // BLOCK, -(-one.stop // BLOCK) if one else one.start // BLOCK)


def _read_only(view: np.ndarray) -> np.ndarray:
    view = view.view()
    view.flags.writeable = False
    return view


def here(plane: Any, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A plane on the host, wherever it is, good at the pixels round (y, x)."""
    return plane.near(y, x) if isinstance(plane, Afar) else plane


def holes(plane: Any) -> Any:
    """(H, W) bool, where a plane is not finite; on the device where the plane lies there."""
    known = plane.holes if isinstance(plane, Afar) else None
    return ~np.isfinite(plane) if known is None else known


def sampled(plane: Any, pieces: Sequence[Tile], step: int) -> list[np.ndarray]:
    """Every `step`-th row and column of each tile's core, of a plane wherever it is."""
    if not isinstance(plane, Afar):
        return [plane[tile.core][::step, ::step] for tile in pieces]
    rows = {tile.y0: range(tile.y0, tile.y1, step) for tile in pieces}.values()
    columns = {tile.x0: range(tile.x0, tile.x1, step) for tile in pieces}.values()
    values = plane.lattice(np.concatenate([*rows]), np.concatenate([*columns]))
    down, across = (np.cumsum([len(one) for one in each])[:-1] for each in (rows, columns))
    return [part for band in np.split(values, down) for part in np.split(band, across, axis=1)]


# ---------------------------------------------------------------- what comes down
def squares(plane: np.ndarray, j: np.ndarray, i: np.ndarray) -> np.ndarray:
    """(N, BLOCK, BLOCK) squares of a plane, numbered from its first pixel on; 0 beyond it.

    plane : (H, W) float32 or uint8; j, i : (N,) int, numbers along y and x
    """
    height, width = plane.shape
    wider = np.pad(plane, ((0, -height % BLOCK), (0, -width % BLOCK)))
    return wider.reshape(wider.shape[0] // BLOCK, BLOCK, -1, BLOCK)[j, :, i]


def lattice(plane: np.ndarray, rows: Any, columns: Any) -> np.ndarray:
    """(R, C) values at all of these rows in all of these columns.  plane : (H, W) float32 or uint8"""
    return plane[np.ix_(np.asarray(rows), np.asarray(columns))]


def squares_cuda(launcher: Launcher, plane: Any, j: np.ndarray, i: np.ndarray) -> np.ndarray:
    """`squares` on a GPU, exactly; on the host.  plane : (1, H, W) on the device"""
    made = launcher.empty((len(j), BLOCK, BLOCK), plane.dtype)
    numbers = [launcher.upload(np.asarray(one), np.int32) for one in (j, i)]
    return _launched(launcher, "squares", len(j), plane, numbers, made, ())


def lattice_cuda(launcher: Launcher, plane: Any, rows: Any, columns: Any) -> np.ndarray:
    """`lattice` on a GPU, exactly; on the host.  plane : (1, H, W) on the device"""
    made = launcher.empty((len(rows), len(columns)), plane.dtype)
    numbers = [launcher.upload(np.asarray(one), np.int32) for one in (rows, columns)]
    blocks = -(-len(rows) * len(columns) // THREADS)
    return _launched(launcher, "lattice", blocks, plane, numbers, made, (len(rows), len(columns)))


def _launched(
    launcher: Launcher, kernel: str, blocks: int, plane: Any, numbers: list[Any], made: Any, sizes: Any
) -> np.ndarray:
    if blocks:
        whole = map(np.int32, (*plane.shape[:0:-1], *sizes))
        defines = (f"VALUE={'float' if plane.dtype == np.float32 else 'unsigned char'}",)
        arguments = [plane, *numbers, made, *whole]
        launcher.launch("afar", kernel, (blocks, 1, 1), (THREADS, 1, 1), arguments, defines=defines)
    return launcher.download(made)
