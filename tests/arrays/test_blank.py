"""Areas of an image without noise."""

import numpy as np
import pytest

from gpudiff.arrays.blank import blank

RNG = np.random.default_rng(1)
SKY = RNG.normal(400, 20, (203, 190)).astype(np.float32)
ROWS, COLUMNS = np.mgrid[:203, :190]


@pytest.mark.parametrize(
    "image",
    [
        SKY,
        RNG.poisson(1.0, SKY.shape).astype(np.uint16),
        np.full(SKY.shape, np.nan, np.float32),
        np.maximum(SKY, 500),
    ],
    ids=["sky", "a few photons a pixel", "NaN", "the brightest value"],
)
def test_noise_nan_and_saturation_are_not_blank(image):
    assert blank(image) is None


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<i2", "<f8"])
def test_borders_gaps_and_corners_are_found_to_the_pixel(dtype):
    empty = (ROWS < 21) | (np.abs(COLUMNS - 100) < 8) | (ROWS + COLUMNS > 340)
    np.testing.assert_array_equal(blank(np.where(empty, 0, SKY).astype(dtype)), empty)


def test_areas_of_several_values_are_found():
    image = SKY.copy()
    image[:30], image[-30:] = 0, -32768
    np.testing.assert_array_equal(blank(image), (image == 0) | (image == -32768))


def test_pixels_of_that_value_in_the_sky_are_kept():
    image = np.rint(SKY)
    image[:30] = 400
    assert not blank(image)[30 + 3 * 8 :].any()
