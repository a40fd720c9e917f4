"""Squares cut out of an image."""

import numpy as np
from scipy.signal import convolve2d

from gpudiff.arrays.stamps import convolved, distinct, positions, stamps


def test_a_stamp_is_the_square_round_its_position():
    image = np.arange(200.0).reshape(10, 20)
    np.testing.assert_array_equal(stamps(image, np.array([4]), np.array([7]), 2)[0], image[2:7, 5:10])


def test_beyond_the_image_the_edge_is_repeated():
    image = np.arange(12.0).reshape(3, 4)
    corner = stamps(image, np.array([0]), np.array([3]), 1)[0]
    np.testing.assert_array_equal(corner, [[2, 3, 3], [2, 3, 3], [6, 7, 7]])


def test_stamps_that_lie_on_the_image_and_some_that_do_not_are_cut_as_from_a_wider_one():
    image = np.random.default_rng(2).normal(size=(20, 30))
    y, x = np.array([5, 0, 10, 19, 14]), np.array([5, 3, 15, 29, 24])
    wider = np.pad(image, 5, mode="edge")
    expected = [wider[j : j + 11, i : i + 11] for j, i in zip(y, x, strict=True)]
    np.testing.assert_array_equal(stamps(image, y, x, 5), expected)


def test_no_positions_give_no_stamps():
    assert stamps(np.zeros((5, 5)), np.empty(0, int), np.empty(0, int), 2).shape == (0, 5, 5)


def test_positions_are_those_of_nonzero():
    flags = np.random.default_rng(1).random((7, 11)) < 0.3
    np.testing.assert_array_equal(positions(flags), np.nonzero(flags))


def test_each_stamp_is_convolved_with_its_own_kernel():
    rng = np.random.default_rng(3)
    cut, kernels = rng.normal(size=(3, 26, 26)).astype(np.float32), rng.normal(size=(3, 6 + 1, 6 + 1))
    expected = [convolve2d(a, b, mode="valid").ravel() for a, b in zip(cut, kernels, strict=True)]
    np.testing.assert_allclose(convolved(cut, kernels, 20), expected, atol=1e-4)  # float32 FFTs


def test_distinct_numbers_come_in_order_each_once():
    np.testing.assert_array_equal(distinct(np.array([7, 3, 7, 3, 3, 9])), [3, 7, 9])
    assert distinct(np.empty(0, int)).shape == (0,)
