"""Smooth planes: the spline that turns a coarse grid into pixels."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from gpudiff.model.plane import DensePlane, SmoothPlane, constant, spline_matrix

ROUNDING = 2e-6  # float32 weights of order 1


@pytest.mark.parametrize(("pixels", "cells"), [(100, 4), (96, 5), (257, 9), (64, 64)])
def test_a_straight_line_stays_a_straight_line_to_the_edges(pixels, cells):
    centres = (np.arange(cells) + 0.5) * pixels / cells - 0.5
    made = spline_matrix(pixels, cells) @ (3.0 - 0.25 * centres / pixels)
    np.testing.assert_allclose(made, 3.0 - 0.25 * np.arange(pixels) / pixels, atol=3 * ROUNDING)


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 7])
def test_weights_of_every_pixel_add_up_to_one(cells):
    np.testing.assert_allclose(spline_matrix(50, cells).sum(1), 1, atol=ROUNDING)


def test_the_spline_goes_through_its_grid():
    cells, cell = 6, 9  # an odd cell has a pixel in its centre
    grid = np.random.default_rng(1).normal(size=cells)
    made = spline_matrix(cells * cell, cells) @ grid
    np.testing.assert_allclose(made[cell // 2 :: cell], grid, atol=3 * ROUNDING)


def test_between_the_centres_it_is_the_natural_cubic_spline():
    cells, pixels = 8, 160
    grid = np.random.default_rng(2).normal(size=cells)
    position = (np.arange(pixels) + 0.5) * cells / pixels - 0.5
    inside = (position >= 0) & (position <= cells - 1)
    expected = CubicSpline(np.arange(cells), grid, bc_type="natural")(position)
    made = spline_matrix(pixels, cells) @ grid
    np.testing.assert_allclose(made[inside], expected[inside], atol=5 * ROUNDING)


def test_fewer_than_four_cells_are_joined_by_straight_lines_and_level_off():
    made = spline_matrix(8, 2) @ np.array([0.0, 4.0])
    np.testing.assert_allclose(made, [0, 0, 0.5, 1.5, 2.5, 3.5, 4, 4], atol=4 * ROUNDING)


def test_a_cut_is_the_same_rectangle_of_the_whole_plane():
    plane = SmoothPlane(np.random.default_rng(3).normal(size=(5, 4)), (40, 52))
    whole = plane.cut(0, 40, 0, 52)
    assert whole.shape == (40, 52)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(plane.cut(7, 19, 30, 41), whole[7:19, 30:41], atol=3 * ROUNDING)


def test_values_at_positions_are_those_of_the_whole_plane():
    plane = SmoothPlane(np.random.default_rng(4).normal(size=(5, 6)), (40, 52))
    y, x = np.array([0, 11, 39]), np.array([51, 20, 0])
    np.testing.assert_allclose(plane.at(y, x), plane.cut(0, 40, 0, 52)[y, x], atol=3 * ROUNDING)


def test_a_constant_plane_has_one_value_everywhere():
    np.testing.assert_array_equal(constant(7.5, (6, 9)).cut(1, 6, 0, 9), np.full((5, 9), 7.5, np.float32))


def test_a_dense_plane_is_its_array():
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    plane = DensePlane(array)
    assert plane.shape == (3, 4)
    np.testing.assert_array_equal(plane.cut(1, 3, 2, 4), array[1:3, 2:4])
    np.testing.assert_array_equal(plane.at(np.array([2, 0]), np.array([3, 1])), [11, 1])


@pytest.mark.parametrize("kind", ["smooth", "pixel by pixel"])
def test_squares_of_a_plane_are_its_rectangles(kind):
    smooth = SmoothPlane(np.random.default_rng(4).normal(size=(5, 6)), (60, 70))
    plane = smooth if kind == "smooth" else DensePlane(smooth.cut(0, 60, 0, 70))
    rows, columns = np.array([[3, 4, 5], [57, 58, 59]]), np.array([[0, 1], [20, 21]])
    squares = plane.squares(rows, columns)
    np.testing.assert_allclose(squares[0], plane.cut(3, 6, 0, 2), atol=3 * ROUNDING)
    np.testing.assert_allclose(squares[1], plane.cut(57, 60, 20, 22), atol=3 * ROUNDING)
