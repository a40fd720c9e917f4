"""Steps of the sky between readout channels."""

import numpy as np
import pytest
from scipy import ndimage

from gpudiff.arrays.channels import channel_levels

SIDE = 1024
NOISE = 2.0


def sky(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, NOISE, (SIDE, SIDE)).astype(np.float32)


def levels_of(image: np.ndarray) -> np.ndarray | None:
    return channel_levels(image.astype(np.float32), np.zeros(image.shape, bool), NOISE)


def pedestals(seed: int = 2) -> np.ndarray:
    """(SIDE,) of 16 channels, one sigma of a pixel or so; mean 0."""
    values = np.repeat(np.random.default_rng(seed).normal(0, NOISE, 16), SIDE // 16)
    return values - values.mean()


@pytest.mark.parametrize("seed", range(3))
def test_pedestals_of_stripes_are_known(seed):
    found = levels_of(sky(seed) + pedestals(seed))
    assert found is not None
    # a step's error is 1.25 sqrt(2) / sqrt(8 x 1024 px) = 0.02 sigma, 15 add up to 0.08, of which 5
    assert np.abs(found - pedestals(seed)).max() < 0.4 * NOISE


def test_pedestals_of_rows_are_those_of_the_transposed_image():
    image = sky() + pedestals()[:, None]
    assert levels_of(image) is None
    assert levels_of(image.T) is not None


def test_stripes_of_one_half_are_levelled_there_alone():
    image = sky()
    image[: SIDE // 2] += pedestals()
    upper, lower = levels_of(image)
    assert np.abs(upper - pedestals()).max() < 0.3 * NOISE  # 5 errors of what 15 steps of 0.02 sigma add up to
    assert np.abs(lower).max() < 0.3 * NOISE  # faint ones are alike in both, as far as is known


def test_a_pedestal_lies_on_a_sky_that_is_not_flat():
    x = np.linspace(-1, 1, SIDE)
    image = sky() + 10 * NOISE * x[:, None] * x + pedestals()
    off = levels_of(image) - pedestals()
    assert np.abs(np.diff(off)).max() < 5 * 0.03 * NOISE  # errors of a step


def test_stars_and_unusable_pixels_do_not_hide_steps():
    rng, image = np.random.default_rng(3), sky()
    points = np.zeros_like(image)
    points[tuple(rng.integers(0, SIDE, (2, 2000)))] = 10 ** rng.uniform(1, 4, 2000) * NOISE
    image += ndimage.gaussian_filter(points, 1.5) + pedestals()
    unusable = np.zeros(image.shape, bool)
    unusable[:, 500:503] = unusable[200:260, 700:760] = True
    image[unusable] = 0
    found = channel_levels(image.astype(np.float32), unusable, NOISE)
    assert np.abs(np.diff(found - pedestals())).max() < 0.3 * NOISE  # 10 errors of a step without stars


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_channels(seed):
    image = sky(seed)
    assert levels_of(image) is None
    assert levels_of(NOISE / 0.6 * ndimage.gaussian_filter(image, 0.6) / NOISE) is None


y, x = np.mgrid[:SIDE, :SIDE]
SHAPES = {
    "nebula": ndimage.gaussian_filter(np.random.default_rng(4).normal(0, 500 * NOISE, (SIDE, SIDE)), 40),
    "galaxy": 50 * NOISE * np.exp(-np.hypot(x - 500, 3 * (y - 400)) / 80),
    "edge of a disc": 5.0 * NOISE * (np.hypot(x - 500, y - 500) < 300),
    "dust lane": 5.0 * NOISE * ((abs(x - 500) < 20) & (abs(y - 500) < 200)),
    "edge as wide as the PSF": ndimage.gaussian_filter(5.0 * NOISE * (x > 500), 1.0),
    "oblique edge": 5.0 * NOISE * (x > 500 + 0.02 * y),
    "trail along a column": 50 * NOISE * np.exp(-0.5 * ((x - 500) / 1.5) ** 2),
    "trail out of focus": 5 * NOISE * ndimage.gaussian_filter(1.0 * (abs(x - 500) < 12), 1.2),
    "bleeding": 800.0 * NOISE * ((abs(x - 500) < 3) & (y > 300)),
    "warm column": 3.0 * NOISE * (x == 500),
    "two warm columns": 3.0 * NOISE * ((x == 500) | (x == 501)),
    "edge of the frame": 3.0 * NOISE * (x < 9),
}


@pytest.mark.parametrize("name", SHAPES)
def test_light_and_flaws_are_no_channels(name):
    image = sky() + SHAPES[name]
    assert levels_of(image) is None
    assert levels_of(image.T) is None


@pytest.mark.parametrize("shape", [(300, 2000), (2000, 60), (64, 64)])
def test_a_small_image_has_none(shape):
    image = sky()[:1, :1] * np.ones(shape, np.float32)
    assert channel_levels(image, np.zeros(shape, bool), NOISE) is None
