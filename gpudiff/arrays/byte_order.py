"""Pixels whose bytes lie in the wrong order, as files have them that were written without a FITS library."""

import numpy as np

from gpudiff.arrays.mesh import robust_sigma

CLEAR = 10.0
"""Times less noise between neighbours that the other order has to show: 22,000 is the noise in the wrong one."""
WIDE, LEAST = 10.0, -30.0
"""Decades between the quartiles of values, and the decade of their median, that no light has."""


def swapped(image: np.ndarray) -> bool:
    """Whether some rows of an image say that its bytes are in the wrong order.

    Of whole numbers of 16 bits the noise is then in the high byte; float32 have their exponents in the mantissa's
    last bits, which are anything, or 0.  Numbers of 8 bits, times 256, plus a constant, are good in either order.

    image : (H, W) uint16, or float32, which may hold numbers that were int16
    """
    some = np.ascontiguousarray(image[:: max(1, len(image) // 16)])
    some = some.astype(some.dtype.newbyteorder("="), copy=False)
    if some.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = bool((np.abs(some) <= 1 << 15).all() and (some == np.rint(some)).all())
        if not whole:
            return some.itemsize == 4 and _scattered(some) and not _scattered(some.byteswap())
    some = _int16(some)
    return some.itemsize == 2 and _noise(some) > CLEAR * _noise(some.byteswap()) > 0 and not _of_8_bits(image)


def _int16(image: np.ndarray) -> np.ndarray:
    """Integers as they are, float32 as int16, clipped, NaN as 0."""
    if image.dtype.kind != "f":
        return image
    return np.clip(np.nan_to_num(image), -(1 << 15), (1 << 15) - 1).astype(np.int16)


def _of_8_bits(image: np.ndarray) -> bool:
    """Whether the low byte is the same everywhere, stars and all."""
    low = _int16(image) & 255
    return bool((low == low[0, 0]).all())


def _noise(values: np.ndarray) -> float:
    return robust_sigma(np.diff(values.astype(float)))


def _scattered(values: np.ndarray) -> bool:
    """Whether no camera gives such numbers: of any size, or next to nothing."""
    size = np.abs(values[np.isfinite(values) & (values != 0)].astype(float))
    if size.size < values.size / 2:
        return True
    low, middle, high = np.log10(np.percentile(size, (25, 50, 75)))
    return bool(high - low > WIDE or middle < LEAST)
