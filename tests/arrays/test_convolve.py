"""Spatially varying convolution."""

import numpy as np
import pytest

from gpudiff.arrays.convolve import check, convolve, polynomials
from gpudiff.model.errors import WrongShape


def field(rng, shape, size, order, batch=None):
    """A random image and a random kernel field."""
    lead = () if batch is None else (batch,)
    terms = (order + 1) * (order + 2) // 2
    image = rng.normal(10, 5, (*lead, *shape)).astype(np.float32)
    return image, rng.normal(0, 1 / size, (*lead, terms, size, size)).astype(np.float32)


def term_by_term(image, kernels, order, y, x):
    """One output pixel, straight from the docstring."""
    (height, width), size = image.shape, kernels.shape[1]
    u, v = 2 * x / width - 1, 2 * y / height - 1
    powers = [u**i * v**j for j in range(order + 1) for i in range(order + 1 - j)]
    kernel = np.tensordot(powers, kernels.astype(float), 1)
    total = 0.0
    for j in range(size):
        for i in range(size):
            row, column = y + size // 2 - j, x + size // 2 - i
            if 0 <= row < height and 0 <= column < width:
                total += kernel[j, i] * image[row, column]
    return total


@pytest.mark.parametrize(("shape", "size", "order"), [((9, 11), 5, 2), ((7, 6), 3, 0), ((4, 5), 9, 1)])
def test_every_pixel_is_the_sum_of_its_definition(shape, size, order):
    image, kernels = field(np.random.default_rng(1), shape, size, order)
    expected = [[term_by_term(image, kernels, order, y, x) for x in range(shape[1])] for y in range(shape[0])]
    # The result is rounded to float32; the values are of order 10.
    np.testing.assert_allclose(convolve(image, kernels, order), expected, rtol=1e-6, atol=1e-5)


def test_a_star_gives_the_kernel_not_its_mirror_image():
    image = np.zeros((7, 7), np.float32)
    image[3, 3] = 1
    kernel = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    np.testing.assert_allclose(convolve(image, kernel, 0)[2:5, 2:5], kernel[0], atol=1e-6)  # FFT rounding


def test_a_pixel_that_is_not_finite_spoils_what_the_kernel_reaches():
    image, kernels = field(np.random.default_rng(2), (20, 30), 5, 1)
    clean = convolve(image, kernels, 1)
    image[10, 12], image[0, 29] = np.nan, np.inf
    spoiled = np.isnan(convolve(image, kernels, 1))
    expected = np.zeros_like(spoiled)
    expected[8:13, 10:15] = expected[:3, 27:] = True
    np.testing.assert_array_equal(spoiled, expected)
    # The two agree elsewhere but for FFT rounding.
    np.testing.assert_allclose(convolve(image, kernels, 1)[~spoiled], clean[~spoiled], atol=1e-5)


def test_terms_come_in_the_order_of_the_definition():
    u, v = 2 * 3 / 8 - 1, 2 * 1 / 4 - 1
    terms = [plane[1, 3] for plane in polynomials((4, 8), 2)]
    np.testing.assert_allclose(terms, [1, u, u * u, v, u * v, v * v])


@pytest.mark.parametrize(
    ("image", "kernels"), [((5,), (1, 3, 3)), ((0, 5), (1, 3, 3)), ((5, 5), (2, 3, 3)), ((5, 5), (1, 4, 4))]
)
def test_wrong_shapes_are_refused(image, kernels):
    with pytest.raises(WrongShape, match="convolve: expected"):
        check(image, kernels, 0)
