"""The pixel pass: spatially varying convolution, subtraction, variance and mask, tile by tile in cache.

Within a tile the kernel is linear in position (one kernel a tile steps at the borders and leaks flux): three
inverse FFTs of one forward FFT.  Checked against `arrays.convolve`, which evaluates it at every pixel.
On a GPU the same tiles, summed directly (`subtract_tiles_cuda`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import scipy.fft

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over
from gpudiff.arrays.polynomial import field, gradients, powers, rectangle, terms
from gpudiff.arrays.tiles import Tile, centres
from gpudiff.model.errors import WrongShape

Cut = Callable[[int, int, int, int], np.ndarray]


@dataclass(frozen=True)
class Spectra:
    """FFTs of the kernel's coefficient images for one tile size, made once.

    kernel : (P, size * (size // 2 + 1)) complex64; power : the same of K^2 over the field, order 2
    half : half width of the kernel; order : of its polynomial; share : sum of K^2's coefficients, (6,)
    magnitude : (size * ...) complex64 of |K| / sum |K| at the field's centre
    """

    kernel: np.ndarray
    power: np.ndarray
    magnitude: np.ndarray
    share: np.ndarray
    half: int
    order: int


POWER_ORDER = 2


def spectra(coefficients: np.ndarray, order: int, size: int) -> Spectra:
    """The spectra of a kernel field.  coefficients : (P, K, K) as `model.kernel.FieldImage` has them."""

    def transform(images: np.ndarray) -> np.ndarray:
        spectrum = scipy.fft.rfft2(images.astype(np.float64), s=(size, size))
        return spectrum.astype(np.complex64).reshape(-1, size * (size // 2 + 1))

    squares = squared(coefficients, order)
    return Spectra(
        transform(coefficients),
        transform(squares),
        transform(magnitude(coefficients)[None])[0],
        squares.sum((1, 2)),
        coefficients.shape[1] // 2,
        order,
    )


def squared(coefficients: np.ndarray, order: int) -> np.ndarray:
    """(6, K, K) coefficients of K^2 over the field, order 2."""
    return polynomial_fit(lambda u, v: np.tensordot(terms(u, v, order), coefficients, 1) ** 2, POWER_ORDER)


def magnitude(coefficients: np.ndarray) -> np.ndarray:
    """(K, K) |K| / sum |K| at the field's centre."""
    centre = np.abs(coefficients[0])
    return centre / centre.sum()


PLACES = [(0.49 * i, 0.49 * j) for j in range(-2, 3) for i in range(-2, 3)]
"""(u, v) of the 5 x 5 places that tell how something varies over the field."""


def polynomial_fit(function: Callable[[float, float], np.ndarray], order: int, threads: int = 1) -> np.ndarray:
    """(P, ...) coefficients of the polynomial over the field closest to `function(u, v)` at PLACES."""
    values = np.array(over(lambda at: function(*at), PLACES, threads))
    u, v = np.array(PLACES).T
    fitted = np.linalg.pinv(terms(u, v, order)) @ values.reshape(len(values), -1)  # lstsq takes 20 times as long
    return fitted.reshape(-1, *values.shape[1:])


@dataclass(frozen=True)
class Pair:
    """The two images of a subtraction, as bare arrays.

    target, convolved : (H, W) float32, sky-subtracted, unusable pixels 0
    target_bad, convolved_bad : (H, W) bool
    target_variance, convolved_variance : rectangles of the sky variance
    target_gain, convolved_gain : electrons a unit, inf for none
    target_name, convolved_name : under which a device may hold the images, but for their bad pixels; '' for none
    target_flaws, convolved_flaws : (N,) numbers of the bad pixels, row by row; None: whoever needs them looks
    """

    target: np.ndarray
    convolved: np.ndarray
    target_bad: np.ndarray
    convolved_bad: np.ndarray
    target_variance: Cut
    convolved_variance: Cut
    target_gain: float
    convolved_gain: float
    target_name: str = ""
    convolved_name: str = ""
    target_flaws: np.ndarray | None = None
    convolved_flaws: np.ndarray | None = None


def matched_tile(pair: Pair, spectrum: Spectra, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """(matched, variance) of a tile's core, float32: K (x) convolved, and the variance of target - matched.

    variance = target's sky + matched / target gain + K^2 (x) (convolved's sky + its photons), or LEAST of the
    sky's: from the model, not from the target's own pixels, whose noise would correlate with it.
    """
    height, width = tile.shape
    y, x = tile.centre
    u, v = float(field(x, width)), float(field(y, height))
    du, dv = gradients(u, v, spectrum.order)
    rows = np.array([terms(u, v, spectrum.order), du * 2 / width, dv * 2 / height], np.float32)
    square_terms = terms(u, v, POWER_ORDER).astype(np.float32)
    corners = (tile.y0, tile.y1, tile.x0, tile.x1)
    sky = pair.convolved_variance(*corners) * np.float32(square_terms @ spectrum.share)
    sky = sky + pair.target_variance(*corners)
    pixels = tile.square(pair.convolved[tile.outer])
    brightest = np.abs(pixels).max()
    if brightest**2 > BRIGHT**2 * sky.min():
        pixels = pixels.astype(np.float64)
    planes = _filtered(pixels, rows if spectrum.order else rows[:1], square_terms[None], spectrum, tile)
    matched, variance = planes[0], planes[-1]
    if spectrum.order:
        matched += planes[1] * (np.arange(tile.x0, tile.x1) - x).astype(np.float32)
        matched += planes[2] * (np.arange(tile.y0, tile.y1) - y).astype(np.float32)[:, None]
    variance /= np.float32(pair.convolved_gain)
    variance += matched / np.float32(pair.target_gain)
    variance += sky
    np.maximum(variance, np.float32(LEAST) * sky, out=variance)
    return matched, variance


LEAST = 0.5
"""Of the sky's variance, that a pixel's is at least.  Light is not cut at 0: half of all noise would be light, 2 %
of the variance where both images are as noisy and as sharp."""
BRIGHT = 400.0
"""Sigmas of a pixel from which a tile's brightest one is too bright for float32 FFTs: their rounding, 1e-7 of it
over the whole tile, would be 4e-5 sigma of its sky."""


def _filtered(
    pixels: np.ndarray, rows: np.ndarray, squares: np.ndarray, spectrum: Spectra, tile: Tile
) -> list[np.ndarray]:
    """(h, w) float32 planes of a tile's core: its kernel, what changes of it with x and y, and its square, each
    (x) pixels.  The first is computed in the pixels' own precision."""
    size = tile.size
    forward = scipy.fft.rfft2(pixels).ravel()
    product = np.empty((len(rows) + 1, forward.size), np.complex64)
    np.matmul(rows, spectrum.kernel.view(np.float32), out=product[:-1].view(np.float32))
    np.matmul(squares, spectrum.power.view(np.float32), out=product[-1:].view(np.float32))
    first = 0 if forward.dtype == product.dtype else 1
    exact = product[:first] * forward
    product[first:] *= forward

    def back(spectra: np.ndarray) -> np.ndarray:
        planes = scipy.fft.irfft2(spectra.reshape(len(spectra), size, -1), s=(size, size), overwrite_x=True)
        return tile.cut(planes, spectrum.half)

    return [*(back(exact).astype(np.float32) if first else ()), *back(product[first:])]


OUTSIDE = 10
"""How much worse a kernel pixel beyond the image is than one on a bad pixel: stars there are unknown."""


def lost_tile(pair: Pair, spectrum: Spectra, tile: Tile) -> np.ndarray:
    """(h, w) bool: core pixels where more than half of the kernel's |K| falls on unusable pixels."""
    lost = pair.target_bad[tile.core].copy()
    inside = tile.y0 >= tile.halo and tile.x0 >= tile.halo
    inside = inside and tile.y1 + tile.halo <= tile.shape[0] and tile.x1 + tile.halo <= tile.shape[1]
    bad = pair.convolved_bad[tile.outer]
    if inside and not bad.any():
        return lost
    return lost | mostly_unusable(bad, spectrum.magnitude, spectrum.half, tile)


def mostly_unusable(bad: np.ndarray, magnitude: np.ndarray, half: int, tile: Tile) -> np.ndarray:
    """(h, w) bool: core pixels where more than half of a filter's |K| falls on unusable pixels.

    bad : bool, of `tile.outer`; magnitude : (n,) spectrum of |K|, whose half width is `half`
    """
    weight = OUTSIDE - tile.square(OUTSIDE - bad.astype(np.float32))
    spread = scipy.fft.rfft2(weight).ravel() * magnitude
    spread = scipy.fft.irfft2(spread.reshape(tile.size, -1), s=(tile.size, tile.size))
    return tile.cut(spread, half) > 0.5


def background_tile(coefficients: np.ndarray, order: int, tile: Tile) -> np.ndarray:
    """(h, w) float32 differential background of a tile's core; coefficients : (T,), of polynomial.terms."""
    if len(coefficients) != len(powers(order)):
        raise ValueError(f"expected {len(powers(order))} coefficients, got {len(coefficients)}")
    u = field(np.arange(tile.x0, tile.x1), tile.shape[1])
    v = field(np.arange(tile.y0, tile.y1), tile.shape[0])
    return rectangle(coefficients, u, v, order)


@dataclass(frozen=True)
class Found:
    """What a fit found, as bare arrays.

    coefficients : (P, K, K) of the kernel; order : of its polynomial
    background : coefficients of target minus matched; background_order : of its polynomial
    convolves_science : the result is to be science minus template though the target is the template
    """

    coefficients: np.ndarray
    order: int
    background: np.ndarray
    background_order: int
    convolves_science: bool = False

    @property
    def sums(self) -> np.ndarray:
        """(P,) polynomial coefficients of the kernel sum."""
        return self.coefficients.sum((1, 2))


Planes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def subtracted_tile(pair: Pair, found: Found, spectrum: Spectra, tile: Tile) -> Planes:
    """(difference, its variance, what was subtracted, lost) of a tile's core, three float32 and a bool.

    Science minus template in the science image's unit, whichever was convolved: where it is the science image
    all are divided by the kernel sum of their place, and the difference changes its sign.
    """
    model, variance = matched_tile(pair, spectrum, tile)
    lost = lost_tile(pair, spectrum, tile)
    image = pair.target[tile.core] - model
    image -= background_tile(found.background, found.background_order, tile)
    if found.convolves_science:
        scale = 1 / kernel_sum(found.sums, found.order, tile)
        image *= -scale
        model = model * scale
        variance = variance * scale**2
    return image, variance, model, lost


def subtracter(pair: Pair, found: Found, pieces: Sequence[Tile]) -> Callable[[Tile], Planes]:
    """`subtracted_tile` of each tile, the kernel's spectra made once."""
    spectrum = spectra(found.coefficients, found.order, pieces[0].size)
    return lambda tile: subtracted_tile(pair, found, spectrum, tile)


def kernel_sum(sums: np.ndarray, order: int, tile: Tile) -> np.ndarray:
    """(h, w) float32 photometric scale of a tile's core.  sums : (P,) coefficients of the kernel sum"""
    u = field(np.arange(tile.x0, tile.x1), tile.shape[1])
    v = field(np.arange(tile.y0, tile.y1), tile.shape[0])
    return rectangle(sums, u, v, order)


# ---------------------------------------------------------------- on a GPU
ROWS, COLUMNS = 8, 32
"""Rows of one column, a lane's share, and columns, a warp's, in the CUDA body."""
KERNELS = 4
"""Of a tile: value, change with x, with y, square."""
LARGEST_KERNEL = 63
SHARED_BUDGET = 96 << 10  # bytes a block: what sm_120 offers, the least of the architectures we compile for

Factors = tuple[np.ndarray, np.ndarray]
"""A smooth plane as (H, G) and (G, W) float32, whose product it is; or the (H, W) plane itself and (0, W)."""


class OnDevice(NamedTuple):
    """Planes of a batch that are on the device already, (B, H, W), and the factors of both sky variances."""

    target: Any
    convolved: Any
    target_bad: Any
    convolved_bad: Any
    factors: tuple[Any, Any, Any, Any]


def subtract_tiles_cuda(
    launcher: Launcher,
    pairs: Sequence[Pair],
    variances: Sequence[tuple[Factors, Factors]],
    found: Sequence[Found],
    pieces: Sequence[Tile],
    there: OnDevice | None = None,
) -> tuple[Any, Any, Any, Any]:
    """The same for a batch on a GPU: `subtracted_tile` of all the tiles that cover the images.

    pairs, found : one each for B images, all of one shape, kernel size and orders, converted alike
    variances : the sky variances of target and convolved; of one number of cells each (pairs' own are not used)
    Returns (B, H, W) on the device: difference, variance, model, float32, and lost, uint8.
    The sums of K^2 products in float32 err by a few 1e-6 of sum |kernel| |image|.  Raises WrongShape.
    """
    height, width = pieces[0].shape
    size, order, background_order = _alike(found, [pair.target.shape for pair in pairs], (height, width))
    rows, columns = borders(pieces)
    warps = warps_for(size)
    numbers = [(1 / one.target_gain, 1 / one.convolved_gain, 0.5) for one in pairs]
    weights, shares = zip(*(tile_kernels(one, pieces) for one in found), strict=True)
    there = there or _sent(launcher, pairs, variances)
    inputs = [
        (there.target, np.float32),
        (there.convolved, np.float32),
        (there.target_bad, np.uint8),
        (there.convolved_bad, np.uint8),
        (np.stack(weights), np.float32),
        (np.stack([by_column(magnitude(one.coefficients)) for one in found]), np.float32),
        (np.stack(shares), np.float32),
        (rows, np.int32),
        (columns, np.int32),
        *((factor, np.float32) for factor in there.factors),
        (np.array(numbers), np.float32),
        (np.stack([one.background for one in found]), np.float32),
        (np.stack([one.sums for one in found]), np.float32),
    ]
    outputs = [launcher.empty((len(pairs), height, width), np.dtype(kind)) for kind in ("f4", "f4", "f4", "u1")]
    strips = -(-int(np.diff(columns).max()) // COLUMNS)
    layers = -(-int(np.diff(rows).max()) // (ROWS * warps))
    wide, tall = len(columns) - 1, len(rows) - 1
    cells = [factors[1].shape[0] for factors in variances[0]]
    scalars = [width, height, wide, tall, strips, layers, *cells, background_order, order]
    launcher.launch(
        "subtract_tiles",
        "subtract_tiles",
        (wide * strips, tall * layers, len(pairs)),
        (32 * warps, 1, 1),
        [
            *(launcher.upload(array, kind) for array, kind in inputs),
            *outputs,
            *map(np.int32, [*scalars, found[0].convolves_science]),
        ],
        shared=shared_bytes(size, warps),
        defines=(f"K={size}", f"WARPS={warps}"),
    )
    return outputs[0], outputs[1], outputs[2], outputs[3]


def _sent(launcher: Launcher, pairs: Sequence[Pair], variances: Sequence[tuple[Factors, Factors]]) -> OnDevice:
    """All that a batch has on the host, sent to the device."""

    def sent(planes: Sequence[np.ndarray], dtype: Any = np.float32) -> Any:
        return launcher.upload(np.stack(planes), dtype)

    target, convolved = zip(*variances, strict=True)
    factors = (sent(factor) for side in (target, convolved) for factor in zip(*side, strict=True))
    rows, columns, sky_rows, sky_columns = factors
    return OnDevice(
        sent([one.target for one in pairs]),
        sent([one.convolved for one in pairs]),
        sent([one.target_bad for one in pairs], np.uint8),
        sent([one.convolved_bad for one in pairs], np.uint8),
        (rows, columns, sky_rows, sky_columns),
    )


def _alike(
    found: Sequence[Found], shapes: Sequence[tuple[int, ...]], expected: tuple[int, int]
) -> tuple[int, int, int]:
    """(kernel size, order, background order) that all images of a batch share."""
    kinds = {(one.coefficients.shape, one.order, one.background_order, one.convolves_science) for one in found}
    if len(kinds) != 1 or len(found) != len(shapes) or set(shapes) != {expected}:
        raise WrongShape(
            f"subtract: expected {len(found)} images of {expected} px with kernels alike, got {shapes}"
        )
    coefficients, order, background_order, _ = kinds.pop()
    if coefficients[-1] > LARGEST_KERNEL:
        raise WrongShape(f"subtract: expected a kernel of at most {LARGEST_KERNEL} px, got {coefficients[-1]}")
    return coefficients[-1], order, background_order


def borders(pieces: Sequence[Tile]) -> tuple[np.ndarray, np.ndarray]:
    """The rows and the columns at which tiles begin, and where the last ones end."""
    rows = [*sorted({tile.y0 for tile in pieces}), pieces[0].shape[0]]
    columns = [*sorted({tile.x0 for tile in pieces}), pieces[0].shape[1]]
    return np.array(rows), np.array(columns)


def tile_kernels(found: Found, pieces: Sequence[Tile]) -> tuple[np.ndarray, np.ndarray]:
    """(T, 4, K, PADDED) the kernels of each tile as the CUDA body reads them, and (T,) the sum of the square."""
    height, width = pieces[0].shape
    y, x = centres(pieces)
    u, v = field(x, width), field(y, height)
    du, dv = gradients(u, v, found.order)
    rows = np.stack([terms(u, v, found.order), du * 2 / width, dv * 2 / height], 1)
    linear = np.tensordot(rows, found.coefficients, 1)
    square = np.tensordot(terms(u, v, POWER_ORDER), squared(found.coefficients, found.order), 1)
    return by_column(np.concatenate([linear, square[:, None]], 1)), square.sum((1, 2))


def by_column(kernels: np.ndarray) -> np.ndarray:
    """(..., K, padded) float32: flipped, so that convolution becomes correlation; columns lead, padded."""
    size = kernels.shape[-1]
    out = np.zeros((*kernels.shape[:-1], size + -size % 4), np.float32)
    out[..., :size] = kernels[..., ::-1, ::-1].swapaxes(-1, -2)
    return out


def warps_for(size: int) -> int:
    """Warps a block: as many as fit into shared memory."""
    return next(warps for warps in (8, 4, 2) if shared_bytes(size, warps) <= SHARED_BUDGET)


def shared_bytes(size: int, warps: int) -> int:
    """Shared memory of one block: a tile's kernels, columns padded to 16 bytes, and the pixels with their halo."""
    padded = -(-size // 4) * 4
    return 4 * (KERNELS * size * padded + (ROWS * warps + size - 1) * (COLUMNS + size - 1))
