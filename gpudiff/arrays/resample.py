"""An image read off another's pixel grid: interpolation that keeps flux, edges and bad pixels in mind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over
from gpudiff.model.errors import WrongShape

TAPS = 8
"""Pixels along an axis that one value is made of."""
PHASES = 2048
"""Fractions of a pixel that weights are tabled for: positions are rounded by 2.5e-4 px at most."""
SIDE = 128
"""Pixels along a rectangle that one thread works on at a time, so that it stays in cache."""
LOST = 0.15
"""Share of the |weights| on bad pixels above which a value is lost."""
FORMS = 0.02
"""Share of the |weights| from which on a bad pixel hands on its mask bits."""

Place = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""(y, x) of pixels in one image to (y, x) in another."""


@dataclass(frozen=True)
class Lattice:
    """Positions in another image for every pixel: cubic splines through those of every step-th pixel.

    rows : (H, GY), columns : (GX, W) float64, from lattice to pixels
    y, x : (GY, GX) positions; area : (GY, GX) pixels of the other image to one here
    step : pixels; error : the largest seen half-way between lattice points, pixels of the other image
    """

    rows: np.ndarray
    columns: np.ndarray
    y: np.ndarray
    x: np.ndarray
    area: np.ndarray
    step: float
    error: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.shape[0], self.columns.shape[1]

    def cut(self, y0: int, y1: int, x0: int, x1: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(y, x, area) of the rectangle [y0:y1, x0:x1], float64."""
        rows, columns = self.rows[y0:y1], self.columns[:, x0:x1]
        y, x, area = (rows @ grid @ columns for grid in (self.y, self.x, self.area))
        return y, x, area


def lattice(place: Place, shape: tuple[int, int], tolerance: float = 0.01) -> Lattice:
    """The lattice of a map over an image of `shape`, as fine as `tolerance` pixels ask for, at most every 8.

    place : called a few times with all lattice points; its positions must be finite
    """
    step = 256
    while True:
        made = _lattice(place, shape, step)
        if made.error < tolerance or step <= 8:
            return made
        step //= 2


def _lattice(place: Place, shape: tuple[int, int], step: int) -> Lattice:
    from scipy.interpolate import make_interp_spline  # slow to import, and most templates need no lattice

    nodes = [np.linspace(0, n - 1, max(4, -(-n // step) + 1)) for n in shape]
    splines = [make_interp_spline(node, np.eye(len(node)), k=3) for node in nodes]
    rows, columns = (spline(np.arange(n)) for spline, n in zip(splines, shape, strict=True))
    y, x = place(*np.meshgrid(*nodes, indexing="ij"))
    along_y, along_x = (spline.derivative()(node) for spline, node in zip(splines, nodes, strict=True))
    area = np.abs((along_y @ y) * (x @ along_x.T) - (y @ along_x.T) * (along_y @ x))
    halfway = [0.5 * (node[1:] + node[:-1]) for node in nodes]
    true = place(*np.meshgrid(*halfway, indexing="ij"))
    between = [spline(node) for spline, node in zip(splines, halfway, strict=True)]
    off = [between[0] @ grid @ between[1].T - exact for grid, exact in zip((y, x), true, strict=True)]
    return Lattice(rows, columns.T, y, x, area, float(nodes[0][1]), float(np.hypot(*off).max()))


def weights(width: float) -> np.ndarray:
    """(PHASES + 1, TAPS) float32: what pixels -3 to 4 count for a value at a fraction of a pixel after pixel 0.

    Least squares, with unit sum, over the spatial frequencies that a PSF of Gaussian width `width` px passes and
    somewhat more, as PSFs have cores (Laakso et al. 1996, IEEE Signal Processing 13, 30, section 3).  A star of
    FWHM 3.3 px errs by 9e-4 of its peak at most, where Lanczos's windows of order 3 and 4 err by 5.9e-3 and
    3.2e-3: they ripple at low frequencies, where stars have their light.
    """
    sigma = float(np.clip(0.8 * width, 0.6, 1.2))
    tap = np.arange(TAPS) - (TAPS // 2 - 1.0)
    phase = np.arange(PHASES + 1) / PHASES
    frequency = np.linspace(-0.5, 0.5, 401)
    power = np.exp(-((2 * np.pi * frequency * sigma) ** 2)) + 1e-6

    def correlation(distance: np.ndarray) -> np.ndarray:
        return np.cos(2 * np.pi * distance[..., None] * frequency) @ power

    system = np.ones((TAPS + 1, TAPS + 1))
    system[:TAPS, :TAPS] = correlation(tap[:, None] - tap)
    system[TAPS, TAPS] = 0
    right = np.ones((TAPS + 1, len(phase)))
    right[:TAPS] = correlation(tap[:, None] - phase)
    return np.linalg.solve(system, right)[:TAPS].T.astype(np.float32)


def flaw(sigma: float) -> float:
    """The greatest error of a Gaussian star of width `sigma` px under `resample`, as a share of its peak."""
    table = weights(sigma)[:: PHASES // 32].astype(float)
    phase = np.linspace(0, 1, len(table))
    tap = np.arange(TAPS) - (TAPS // 2 - 1.0)
    centre = np.linspace(-4, 4, 65)
    made = table @ np.exp(-0.5 * ((tap[:, None] - centre) / sigma) ** 2)
    return float(np.abs(made - np.exp(-0.5 * ((phase[:, None] - centre) / sigma) ** 2)).max())


def resample(
    image: np.ndarray, bad: np.ndarray, mask: np.ndarray, places: Lattice, sigma: float = 1.4, threads: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(values, lost, mask) of an image at every position of a lattice, flux kept: values times `area`.

    image : (H, W) float32, finite, its holes filled with something smooth: a hole would ring
    bad : (H, W) bool, pixels that do not count, as those beyond the edges; mask : (H, W) integer
    sigma : Gaussian width of the image's stars, pixels, at which the interpolation is best
    A value is lost where more than LOST of its |weights| falls on bad pixels: True, its number an estimate, 0 off
    the image.  A mask bit goes to the values whose nearest pixel has it, and to the lost ones that its pixel
    would have helped to form.
    Returns (h, w) float32, bool and the mask's type, of the lattice's shape.
    """
    source = _Source.of(image, bad, mask, weights(sigma))
    shape = places.shape
    out, lost, bits = np.zeros(shape, np.float32), np.ones(shape, bool), np.zeros(shape, mask.dtype)
    corners = [(y, x) for y in range(0, shape[0], SIDE) for x in range(0, shape[1], SIDE)]

    def work(corner: tuple[int, int]) -> None:
        y0, x0 = corner
        core = slice(y0, min(y0 + SIDE, shape[0])), slice(x0, min(x0 + SIDE, shape[1]))
        y, x, area = places.cut(core[0].start, core[0].stop, core[1].start, core[1].stop)
        made = source.read(y.ravel(), x.ravel())
        out[core], lost[core], bits[core] = (values.reshape(y.shape) for values in made)
        out[core] *= area

    over(work, corners, threads)
    return out, lost, bits


@dataclass(frozen=True)
class _Source:
    """The image to read from, flat, with a border of TAPS bad pixels; `touched` has a bad pixel within reach."""

    shape: tuple[int, ...]
    width: int
    image: np.ndarray
    bad: np.ndarray
    touched: np.ndarray
    mask: np.ndarray
    table: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, bad: np.ndarray, mask: np.ndarray, table: np.ndarray) -> "_Source":
        outer = np.pad(bad, TAPS, constant_values=True)
        pixels = np.pad(image, TAPS, mode="edge")
        return cls(
            image.shape,
            outer.shape[1],
            pixels.ravel(),
            outer.ravel(),
            _reaching(outer).ravel(),
            np.pad(mask, TAPS).ravel(),
            np.ascontiguousarray(table.T),
        )

    def read(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(values, lost, mask bits) at (N,) positions."""
        height, width = self.shape
        outside = (y < -1) | (y > height) | (x < -1) | (x > width)
        if outside.all():
            return np.zeros(len(y), np.float32), outside, np.zeros(len(y), self.mask.dtype)
        (row, part_y), (column, part_x) = _split(y, height), _split(x, width)
        first = (row + TAPS // 2 + 1) * self.width + column + TAPS // 2 + 1
        down, across = self.table.take(part_y, 1), self.table.take(part_x, 1)
        values = self._sum(first, down, across)
        near = (
            first + (TAPS // 2 - 1 + (part_y > PHASES // 2)) * self.width + TAPS // 2 - 1 + (part_x > PHASES // 2)
        )
        bits = self.mask.take(near)
        lost = outside.copy()
        at = np.flatnonzero(self.touched.take(first) & ~outside)
        if len(at):
            lost[at], bits[at] = self._judge(bits[at], first[at], down[:, at], across[:, at])
        values[outside] = 0
        return values, lost, bits

    def _sum(self, first: np.ndarray, down: np.ndarray, across: np.ndarray) -> np.ndarray:
        values, line, pixel = (np.empty(len(first), np.float32) for _ in range(3))
        values[:] = 0
        for j in range(TAPS):
            line[:] = 0
            for i in range(TAPS):
                self.image[j * self.width + i :].take(first, out=pixel, mode="clip")
                np.multiply(pixel, across[i], out=pixel)
                np.add(line, pixel, out=line)
            np.multiply(line, down[j], out=line)
            np.add(values, line, out=values)
        return values

    def _judge(
        self, bits: np.ndarray, first: np.ndarray, down: np.ndarray, across: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(lost, mask bits) of positions with bad pixels within reach."""
        square = (np.arange(TAPS)[:, None] * self.width + np.arange(TAPS)).ravel()
        index = first[:, None] + square
        size = np.abs(down.T[:, :, None] * across.T[:, None, :]).reshape(len(first), -1)
        size /= size.sum(1, keepdims=True)
        bad = self.bad[index]
        lost = (size * bad).sum(1) > LOST
        forms = np.where(bad & (size > FORMS), self.mask[index], 0)
        return lost, np.where(lost, bits | np.bitwise_or.reduce(forms, 1), bits)


def _split(position: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """(whole pixel, phase) of positions, those far outside moved to the border."""
    position = np.clip(position, -2, length + 1)
    whole = np.floor(position)
    return whole.astype(np.intp), np.rint((position - whole) * PHASES).astype(np.intp)


def _reaching(bad: np.ndarray) -> np.ndarray:
    """Bool: True where any of the TAPS x TAPS pixels from here right and down is bad (or not there)."""
    out = bad.copy()
    for step in (1, 2, 4):
        out[:, :-step] |= out[:, step:]
    for step in (1, 2, 4):
        out[:-step] |= out[step:]
    return out


# ---------------------------------------------------------------- on a GPU
BLOCK = (8, 32)
"""Rows and columns of a block in the CUDA body."""


def resample_cuda(
    launcher: Launcher, images: Any, bad: Any, masks: Any, places: Sequence[Lattice], sigmas: Sequence[float]
) -> tuple[Any, Any, Any]:
    """The same for a batch on a GPU: `resample` of each image onto its lattice.

    images : (B, H, W) float32; bad : (B, H, W) bool or uint8; masks : (B, H, W) integer; on the device or the host
    places, sigmas : one for each image; the lattices are of one shape
    Returns (B, h, w) on the device: values, float32; lost, uint8; mask, int32.  Raises WrongShape.
    """
    shapes = {one.shape for one in places}
    if len(shapes) != 1 or not len(images) == len(places) == len(sigmas):
        raise WrongShape(f"resample: expected {len(images)} lattices of one shape, got {sorted(shapes)}")
    (height, width), cells = shapes.pop(), max(one.columns.shape[0] for one in places)
    rows = np.zeros((len(places), 3, height, cells))
    columns = np.zeros((len(places), cells, width))
    for n, one in enumerate(places):
        columns[n, : len(one.columns)] = one.columns
        for plane, grid in enumerate((one.y, one.x, one.area)):
            rows[n, plane, :, : len(one.columns)] = one.rows @ grid
    inputs = [
        launcher.upload(images, np.float32),
        launcher.upload(bad, np.uint8),
        launcher.upload(masks, np.int32),
        launcher.upload(rows, np.float64),
        launcher.upload(columns, np.float64),
        launcher.upload(np.stack([weights(sigma) for sigma in sigmas]), np.float32),
    ]
    out = [launcher.empty((len(places), height, width), np.dtype(kind)) for kind in ("f4", "u1", "i4")]
    sizes = map(np.int32, (images.shape[2], images.shape[1], width, height, cells))
    grid_size = (-(-width // BLOCK[1]), -(-height // BLOCK[0]), len(places))
    block = (BLOCK[0] * BLOCK[1], 1, 1)
    launcher.launch("resample", "resample", grid_size, block, [*inputs, *out, *sizes])
    return out[0], out[1], out[2]
