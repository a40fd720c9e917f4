"""The gain of an image whose stars are noisier than its sky."""

import numpy as np
import pytest
from scipy.ndimage import shift

from gpudiff.arrays.photon_transfer import least_gain, photon_transfer

SIDE, READ = 512, 3.0
NONE = np.zeros((SIDE, SIDE), bool)


def light(seed, sigma=2.0, stars=80):
    """(H, W) electrons of stars that are up to some hundred times the read noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    out = np.zeros((SIDE, SIDE))
    for y, x, peak in zip(*rng.uniform(0, SIDE, (2, stars)), np.geomspace(10, 1000, stars), strict=True):
        out += peak * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2))
    return out


def image(electrons, gain, seed):
    rng = np.random.default_rng(seed)
    return ((rng.poisson(electrons) + rng.normal(0, READ, electrons.shape)) / gain).astype(np.float32)


@pytest.mark.parametrize("gain", [0.3, 1.0, 50.0])
def test_the_noise_of_stars_says_the_gain(gain):
    found = photon_transfer(image(light(7), gain, 8), NONE, READ / gain)
    assert found == pytest.approx(gain, rel=0.3)  # 60 to some thousand pixels a class, their scatter to 3 %


def test_stars_without_photon_noise_say_nothing():
    noise = np.random.default_rng(9).normal(0, READ, (SIDE, SIDE))
    assert photon_transfer((light(7) + noise).astype(np.float32), NONE, READ) == np.inf


def test_stars_too_narrow_for_their_shape_to_cancel_say_nothing():
    assert photon_transfer(image(light(7, sigma=0.6), 1.0, 8), NONE, READ) == np.inf


def test_a_sky_without_stars_says_nothing():
    assert photon_transfer(image(np.zeros((SIDE, SIDE)), 1.0, 8), NONE, READ) == np.inf


def test_unusable_pixels_and_those_beside_them_are_left_out():
    given, unusable = image(light(7), 1.0, 8), NONE.copy()
    unusable[::9, ::9] = True
    spoilt = np.where(unusable, np.float32(1e6), given)
    assert photon_transfer(spoilt, unusable, READ) == photon_transfer(given, unusable, READ)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_no_gain_is_ruled_out_that_is_right(sigma):
    # Of twelve such skies 0.80 to 1.04: light is that of noisy pixels, more often too high.
    assert least_gain(image(light(7, sigma), 1.0, 8), NONE, READ) < 1.1


def test_stars_are_too_quiet_for_half_their_gain():
    assert least_gain(image(light(7), 1.0, 8), NONE, READ) > 0.5


def test_noise_that_resampling_took_away_rules_out_no_gain():
    given = shift(image(light(7), 1.0, 8), (0.4, 0.4), order=3)
    assert least_gain(given, NONE, float(given[:40].std())) == 0
