"""The residual sky of a difference, the noise that it takes with it, and the difference's mask."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gpudiff.arrays.artefacts import rough_surface
from gpudiff.arrays.residual_sky import cell_sums
from gpudiff.arrays.tiles import tiles
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.plane import constant
from gpudiff.science.planes import ResidualSky, mask_of, raised, subtract_sky

SHAPE, WIDTH = (1024, 1024), 2.0


def psf():
    stamp = np.zeros((25, 25))
    stamp[12, 12] = 1
    return gaussian_filter(stamp, WIDTH)


def scores(roughness):
    """(score of noise alone, of noise and a sky that was taken out again, what that is to be multiplied by)."""
    rng = np.random.default_rng(3)
    noise = rng.standard_normal(SHAPE).astype(np.float32)
    image = noise + roughness * rough_surface(SHAPE, 60.0, rng)
    pieces = tiles(SHAPE, 256, 0)
    cells = ResidualSky(pieces, 2.355 * WIDTH)
    for tile in pieces:
        cells.add(tile, cell_sums(image[tile.core], np.ones(image[tile.core].shape, bool)))
    sky, weight = cells.smooth()
    subtract_sky(image, sky, pieces, 1)
    alone, left = (gaussian_filter(one, WIDTH) / np.sqrt((psf() ** 2).sum()) for one in (noise, image))
    return alone, left, raised(weight, psf())


def test_the_score_has_its_scatter_back_where_a_fine_sky_took_noise_with_it():
    alone, left, lift = scores(0.5)
    # The noise is the same: what differs is the sky's error, 0.1 of a score.
    assert left.std() / alone.std() < 0.995
    assert (left * lift.cut(0, SHAPE[0], 0, SHAPE[1])).std() / alone.std() == pytest.approx(1, abs=0.004)


def test_a_smooth_sky_takes_no_noise():
    alone, left, lift = scores(0.0)
    assert lift is None
    assert left.std() / alone.std() == pytest.approx(1, abs=0.002)


def test_the_score_stays_where_no_pixel_made_the_sky():
    assert raised(constant(0.0, SHAPE), psf()) is None


def test_sources_much_wider_than_a_cell_are_not_taken_for_sky():
    rng = np.random.default_rng(5)
    image = rng.standard_normal(SHAPE).astype(np.float32)
    places = rng.integers(60, min(SHAPE) - 60, (100, 2))
    light = np.zeros(SHAPE)
    light[tuple(places.T)] = 400.0
    light = gaussian_filter(light, 8.5)  # 20 px FWHM
    pieces = tiles(SHAPE, 256, 0)
    left = {}
    for fwhm in (4.0, 20.0):
        cells = ResidualSky(pieces, fwhm)
        for tile in pieces:
            one = (image + light)[tile.core].astype(np.float32)
            cells.add(tile, cell_sums(one, np.ones(one.shape, bool)))
        sky, _ = cells.smooth()
        left[fwhm] = 1 - (sky.cut(0, SHAPE[0], 0, SHAPE[1]) * light).sum() / (light**2).sum()
    assert left[20.0] > 0.85 > 0.75 > left[4.0]  # 0.91 and 0.66


def masked(**planes):
    """What of an exposure of 40 x 50 the mask is made of, one plane set at each number of a pixel."""
    mask = np.zeros((40, 50), np.uint16)
    for name, pixels in planes.items():
        mask.reshape(-1)[pixels] |= bit(name)
    return SimpleNamespace(mask=mask, shape=mask.shape, flaws=np.flatnonzero(mask & bit(*UNUSABLE)))


def test_the_mask_says_why_there_is_no_value():
    middle, filled, rim = 20 * 50 + 25, 20 * 50 + 30, 3
    science, template = masked(NO_DATA=[middle, filled], CR=[7]), masked(SAT=[middle], INTRP=[900], CR=[901])
    made = mask_of(science, template, np.array([rim, middle, 1020])).reshape(-1)
    assert made[middle] == bit("NO_DATA", "SAT_TEMPLATE")
    assert made[filled] == bit("INTRP")
    assert made[rim] == bit("NO_DATA", "EDGE")
    assert made[1020] == bit("NO_DATA", "SUSPECT")
    assert (made[7], made[900], made[901]) == (bit("CR"), bit("INTRP"), 0)
    assert np.count_nonzero(made) == 6
