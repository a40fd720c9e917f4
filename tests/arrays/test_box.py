"""Means over small squares."""

import numpy as np
import pytest
from scipy.ndimage import maximum_filter, uniform_filter

from gpudiff.arrays.box import box_mean, box_means, grown


@pytest.mark.parametrize("shape", [(40, 57), (5, 30), (1, 9)])
@pytest.mark.parametrize("side", [1, 3, 7, 21])
def test_it_is_the_uniform_filter_with_repeated_edges(shape, side):
    image = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    # Sums of up to 441 numbers of order 1 in float32.
    np.testing.assert_allclose(box_mean(image, side), uniform_filter(image, side, mode="nearest"), atol=2e-6)


@pytest.mark.parametrize("shape", [(40, 57), (5, 30), (1, 9)])
def test_the_larger_square_is_made_of_nine_smaller_ones(shape):
    image = np.random.default_rng(2).normal(size=shape).astype(np.float32)
    for made, side in zip(box_means(image, 7), (7, 21), strict=True):
        np.testing.assert_allclose(made, box_mean(image, side), atol=1e-6)  # other sums of the same numbers


def test_the_image_itself_is_not_changed():
    image = np.arange(30, dtype=np.float32).reshape(5, 6)
    before = image.copy()
    box_mean(image, 3)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("shape", [(40, 57), (3, 5, 30), (1, 9)])
@pytest.mark.parametrize("reach", [0, 1, 4, 9, 60])
def test_grown_is_the_maximum_filter(shape, reach):
    flags = np.random.default_rng(3).random(shape) < 0.01
    size = (*(1 for _ in shape[:-2]), 2 * reach + 1, 2 * reach + 1)
    np.testing.assert_array_equal(grown(flags, reach), maximum_filter(flags, size, mode="constant"))
