"""Unusable pixels that leave a gap, and those that lie alone."""

import numpy as np
import pytest

from gpudiff.arrays.gaps import BLOCK, MANY, alone, gaps, maybe_near
from gpudiff.arrays.stamps import stamps

SHAPES = {
    "one": ((0,), (0,), True),
    "a pair": ((0, 0), (0, 1), True),
    "a square of four": ((0, 0, 1, 1), (0, 1, 0, 1), True),
    "a column": (tuple(range(-9, 10)), (0,) * 19, False),
    "a square of nine": ((-1, -1, -1, 0, 0, 0, 1, 1, 1), (-1, 0, 1) * 3, False),
}


def plane(rows, columns):
    out = np.zeros((40, 50), bool)
    out[20 + np.array(rows), 30 + np.array(columns)] = True
    return out


@pytest.mark.parametrize(("rows", "columns", "lies_alone"), SHAPES.values(), ids=SHAPES)
def test_a_few_pixels_together_lie_alone_and_columns_and_patches_do_not(rows, columns, lies_alone):
    unusable = plane(rows, columns)
    flaws = np.flatnonzero(unusable)
    found = alone(unusable, flaws)
    middle = 20 * 50 + 30  # the end of a column, and the corner of a patch, have fewer round them
    assert (middle in found) == lies_alone
    assert not lies_alone or found.tolist() == flaws.tolist()


def test_stamps_have_the_gaps_of_their_plane():
    unusable = plane(*SHAPES["a column"][:2]) | plane((5,), (5,))
    expected = unusable.copy()
    expected.reshape(-1)[alone(unusable, np.flatnonzero(unusable))] = False
    assert expected.sum() == 15  # the column without its ends
    np.testing.assert_array_equal(gaps(unusable[None, 15:34, 20:45])[0], expected[17:32, 22:43])
    assert not gaps(np.zeros((3, 9, 9), bool)).any()


def test_no_flaw_is_left_out_however_many_there_are():
    unusable = np.ones((600, 500), bool)
    unusable[::3, ::3] = False
    flaws = np.flatnonzero(unusable)
    assert len(flaws) > MANY // 2
    assert alone(unusable, flaws).size == 0
    assert alone(np.zeros((8, 8), bool), flaws[:0]).size == 0


@pytest.mark.parametrize("half", [0, 5, 40])
def test_squares_that_touch_no_block_with_a_pixel_have_none_in_them(half):
    rng = np.random.default_rng(half)
    plane = np.zeros((3 * BLOCK + 5, 5 * BLOCK), bool)
    plane.reshape(-1)[rng.choice(plane.size, 6, replace=False)] = True
    y, x = (rng.integers(0, side, 500) for side in plane.shape)
    near = maybe_near(np.flatnonzero(plane), plane.shape, y, x, half)
    assert not stamps(plane, y, x, half)[~near].any()
    blocks = np.pad(plane, ((0, BLOCK - 5), (0, 0))).reshape(4, BLOCK, 5, BLOCK).any((1, 3)).repeat(BLOCK, 0)
    assert stamps(blocks.repeat(BLOCK, 1), y, x, half)[near].any((1, 2)).all()
    assert not maybe_near(np.empty(0, int), plane.shape, y, x, half).any()
    assert maybe_near(np.arange(plane.size), plane.shape, y, x, half).all()
