"""Mask planes: one named bit each, in an integer image; the names are those Rubin publishes."""

import numpy as np

PLANES: tuple[tuple[int, str, str], ...] = (
    (0, "BAD", "bad pixel in science or template"),
    (1, "SAT", "saturated in the science image"),
    (2, "INTRP", "value was interpolated"),
    (3, "CR", "cosmic ray"),
    (4, "EDGE", "too little of the kernel falls on the image"),
    (5, "DETECTED", "positive footprint"),
    (6, "DETECTED_NEGATIVE", "negative footprint"),
    (7, "SUSPECT", "near a saturated or very bright star"),
    (8, "NO_DATA", "no value"),
    (9, "SAT_TEMPLATE", "saturated in the template"),
    (10, "HIGH_VARIANCE", "variance far above the sky's"),
    (11, "STREAK", "satellite streak"),
)
"""Bit, name and meaning of each."""
BITS = {name: number for number, name, _ in PLANES}
DESCRIPTIONS = {name: meaning for _, name, meaning in PLANES}
UNUSABLE = ("BAD", "SAT", "CR", "NO_DATA", "SAT_TEMPLATE", "EDGE")
"""Planes whose pixels carry no information about the sky."""


def bit(*names: str) -> np.uint16:
    """The bits of the named planes, or-ed: of a type that masks of uint16 and of int32 take in place."""
    value = 0
    for name in names:
        value |= 1 << BITS[name]
    return np.uint16(value)


ROWS = 64
"""Rows of a mask that are looked at together, so that what is made on the way stays in cache."""


def marked(mask: np.ndarray, *names: str) -> np.ndarray:
    """Bool: pixels with any of the named planes set.  mask : (H, W) or (N, H, W) integer"""
    out = np.empty(mask.shape, bool)
    bits = bit(*names)
    for row in range(0, len(mask), ROWS):
        rows = slice(row, row + ROWS)
        np.not_equal(mask[rows] & bits, 0, out=out[rows])
    return out


def cards() -> dict[str, int]:
    """The header keywords MP_* and the bit number of each, as FITS readers of the field expect them."""
    return {f"MP_{name}": number for name, number in BITS.items()}


def translate(mask: np.ndarray, header_bits: dict[str, int]) -> np.ndarray:
    """A mask in our bits from one in a file's bits.

    mask : (H, W) integer
    header_bits : plane name -> bit number, from the file's MP_* keywords; empty when the file names none,
        then any non-zero pixel is BAD.  Planes we do not know are ignored: they say nothing about usability.
    """
    if not header_bits:
        out = np.empty(mask.shape, np.int32)
        for row in range(0, len(mask), ROWS):
            np.multiply(mask[row : row + ROWS] != 0, np.int32(bit("BAD")), out=out[row : row + ROWS])
        return out
    same = [name for name, number in header_bits.items() if BITS.get(name) == number]
    kept = mask.dtype.type(int(bit(*same)) & int(np.iinfo(mask.dtype).max))
    out = (mask & kept).astype(np.int32, copy=False)  # one pass over a mask of our own
    for name, number in header_bits.items():
        if name in BITS and name not in same:
            out |= ((mask >> number) & 1).astype(np.int32) << np.int32(BITS[name])
    return out
