"""Polynomials over the field."""

import numpy as np
import pytest

from gpudiff.arrays.convolve import polynomials
from gpudiff.arrays.polynomial import field, gradients, powers, rectangle, terms


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_terms_are_those_of_the_exact_convolution(order):
    planes = list(polynomials((6, 9), order))
    u, v = np.meshgrid(field(np.arange(9), 9), field(np.arange(6), 6))
    np.testing.assert_allclose(np.moveaxis(terms(u, v, order), -1, 0), planes, atol=1e-15)
    assert len(powers(order)) == len(planes)


def test_gradients_are_the_slopes_of_the_terms():
    u, v, step = 0.3, -0.7, 1e-6
    du, dv = gradients(u, v, 3)
    # Central differences err by step^2 and by rounding over step.
    np.testing.assert_allclose(du, (terms(u + step, v, 3) - terms(u - step, v, 3)) / (2 * step), atol=1e-8)
    np.testing.assert_allclose(dv, (terms(u, v + step, 3) - terms(u, v - step, 3)) / (2 * step), atol=1e-8)


def test_gradients_exist_at_the_centre_of_the_field():
    du, dv = gradients(0.0, 0.0, 2)
    assert du.tolist() == [0, 1, 0, 0, 0, 0]
    assert dv.tolist() == [0, 0, 0, 1, 0, 0]


def test_a_rectangle_is_the_polynomial_at_each_of_its_pixels():
    coefficients = np.random.default_rng(1).normal(size=6)
    u, v = field(np.arange(30, 41), 100), field(np.arange(5, 12), 50)
    expected = terms(*np.meshgrid(u, v), 2) @ coefficients
    np.testing.assert_allclose(rectangle(coefficients, u, v, 2), expected, atol=2e-6)  # float32
