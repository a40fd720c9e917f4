"""Areas of an image without noise: what a program wrote where it had no value."""

import numpy as np
from scipy import ndimage

SIDE = 8
"""Pixels along a square that noise never fills with one value."""
REACH = 2
"""Squares round such a one in which pixels of its value belong to it: its area's edge runs through them."""


def blank(image: np.ndarray) -> np.ndarray | None:
    """(H, W) bool: areas in which all pixels have one value (0, -999 ...); None where there are none.

    Only areas that hold a whole square of the 8 x 8 px grid are seen.  The brightest value of an image is left
    out, for that may be saturation; NaN is not equal to itself.

    image : (H, W) of any type
    """
    height, width = (n - n % SIDE for n in image.shape)
    first, last = slice(0, None, SIDE), slice(SIDE - 1, None, SIDE)
    whole = image[:height, :width]
    corner = whole[first, first]
    j, i = np.nonzero(corner == whole[first, last])  # few, of which the other corners are looked at
    for edge in (whole[last, first], whole[last, last]):
        same = corner[j, i] == edge[j, i]
        j, i = j[same], i[same]
    if j.size == 0:
        return None
    squares = whole.reshape(height // SIDE, SIDE, width // SIDE, SIDE)[j, :, i]
    constant = (squares == squares[:, :1, :1]).all((1, 2))
    values = np.unique(squares[constant, 0, 0])
    values = values[values < np.nanmax(image)] if values.size else values
    if values.size == 0:
        return None
    out = np.zeros(image.shape, bool)
    for value in values:
        found = np.zeros([-(-n // SIDE) for n in image.shape], bool)
        found[j[constant], i[constant]] = squares[constant, 0, 0] == value
        near = ndimage.binary_dilation(found, np.ones((3, 3)), REACH)
        out |= near.repeat(SIDE, 0).repeat(SIDE, 1)[: image.shape[0], : image.shape[1]] & (image == value)
    return out
