"""Saturated stars."""

import time

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse.csgraph import connected_components

from gpudiff.arrays import saturated as saturated_stars
from gpudiff.arrays.saturated import WING, SaturatedStar, core_of, fit_wings, groups, spoilt
from gpudiff.arrays.stamps import inside, square, stamps

PSF_HALF = 22


def star(shape, y, x, flux, sigma=2.2):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return flux * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) / (2 * np.pi * sigma**2)


def psf(sigma=2.2):
    return star((2 * PSF_HALF + 1,) * 2, PSF_HALF, PSF_HALF, 1.0, sigma)


def clipped(y=40.3, x=50.6, flux=5e6, level=4e4, seed=1):
    """(noisy image, saturated pixels, unusable image pixels set to 0) of one star cut at `level`."""
    image = star((90, 100), y, x, flux)
    saturated = image > level
    noisy = image + np.random.default_rng(seed).normal(0, 10 + np.sqrt(image))
    return np.where(saturated, 0, noisy).astype(np.float32), saturated, image


def fitted(image, saturated, core, noise2=100.0):
    """(star, its model on the stamp round it, the stamp's rows and columns that lie on the image) of one core."""
    y, x = (np.rint(core[n : n + 1]).astype(int) for n in range(2))
    usable = inside(image.shape, y, x, WING) & ~stamps(saturated, y, x, WING)
    start = np.array([core[:2]]) - np.stack([y, x], 1)
    data = stamps(image, y, x, WING)
    flux, place, models = fit_wings(data, usable, np.array([noise2]), 1.0, start, np.array(core[2:]), psf()[None])
    rows, columns = square(y, x, np.arange(-WING, WING + 1))
    star = SaturatedStar(y[0] + place[0, 0], x[0] + place[0, 1], flux[0], core[2])
    return star, models[0], (rows[0], columns[0])


def test_pixels_within_the_link_are_one_group():
    saturated = np.zeros((60, 60), bool)
    saturated[10:14, 10:14] = saturated[10, 17] = saturated[40:45, 40] = True
    found = groups(*np.nonzero(saturated))
    assert sorted(len(y) for y, _ in found) == [5, 17]
    assert sum(len(y) for y, _ in found) == saturated.sum()


def test_no_saturated_pixels_are_no_groups():
    assert groups(*np.nonzero(np.zeros((20, 20)))) == []


def test_a_large_bleeding_star_is_grouped_in_a_moment():
    saturated = np.zeros((1000, 1000), bool)
    saturated[:, 480:520] = saturated[400:600, 300:700] = True
    began = time.perf_counter()
    assert len(groups(*np.nonzero(saturated))) == 1
    assert time.perf_counter() - began < 2.0  # linear work on 112,000 pixels takes 0.1 s


def test_the_core_is_the_widest_blob_whichever_way_the_charge_bled():
    saturated = np.hypot(*np.mgrid[-30:31, -30:31]) < 7
    saturated[:, 30:32] = True
    y, x, radius = core_of(*np.nonzero(saturated))
    assert (y, x) == pytest.approx((30, 30), abs=1)
    assert radius == pytest.approx(7, abs=1)


def test_flux_and_position_come_from_the_wings():
    image, saturated, _ = clipped()
    found, _, _ = fitted(image, saturated, core_of(*np.nonzero(saturated)))
    # The fit allows the PSF to be 3 % wrong.
    assert found.flux == pytest.approx(5e6, rel=0.05)
    assert (found.y, found.x) == pytest.approx((40.3, 50.6), abs=0.1)


def test_the_model_is_what_the_core_would_have_been():
    image, saturated, truth = clipped()
    _, model, box = fitted(image, saturated, core_of(*np.nonzero(saturated)))
    inside = saturated[box]
    np.testing.assert_allclose(model[inside], truth[box][inside], rtol=0.15)  # 0.1 px on the steep side


def test_a_star_at_the_edge_of_the_image_is_fitted_too():
    image, saturated, _ = clipped(y=3.0, x=97.0)
    found, _, _ = fitted(image, saturated, core_of(*np.nonzero(saturated)))
    assert found.flux == pytest.approx(5e6, rel=0.1)


def test_without_usable_wings_there_is_no_model():
    image = np.zeros((60, 60), np.float32)
    found, model, _ = fitted(image, np.ones((60, 60), bool), (30.0, 30.0, 4.0))
    assert found.flux == 0
    assert not model.any()


def test_light_that_is_not_there_gives_no_model():
    image = np.full((60, 60), -50, np.float32)
    found, _, _ = fitted(image, np.zeros((60, 60), bool), (30.0, 30.0, 2.0))
    assert found.flux == 0


def test_a_psf_is_moved_as_a_cubic_spline_is():
    spline = ndimage.spline_filter(psf())
    rows, columns = np.mgrid[-WING : WING + 1, -WING : WING + 1] + PSF_HALF
    expected = ndimage.map_coordinates(spline, [rows - 0.3, columns + 3.7], mode="constant", prefilter=False)
    moved = saturated_stars._moved(np.pad(spline, 12)[None], WING, np.array([[0.3, -3.7]]))
    np.testing.assert_allclose(moved[0], expected, atol=1e-13)  # beyond its edge the spline itself goes on


def test_the_spoilt_area_is_round_the_star_and_nowhere_else():
    matched = star((120, 120), 60, 60, 5e6).astype(np.float32) + star((120, 120), 20, 100, 5e6).astype(np.float32)
    found = spoilt(matched, np.full((120, 120), 100, np.float32), [SaturatedStar(60.0, 60.0, 5e6, 6.0)], 5.2)
    area = np.isin(np.arange(120 * 120), found).reshape(120, 120)
    assert area[60, 60]
    assert area[60, 67]
    assert not area[:30].any()
    assert not area[:, 95:].any()


def test_without_saturated_stars_nothing_is_spoilt():
    assert len(spoilt(np.full((50, 50), 1e6, np.float32), np.ones((50, 50), np.float32), [], 5.2)) == 0


def test_groups_are_those_of_all_pairs_of_pixels():
    saturated = np.random.default_rng(3).random((120, 120)) < 0.02
    saturated[40:60, 40:44] = True
    y, x = np.nonzero(saturated)
    near = np.hypot(y[:, None] - y, x[:, None] - x) <= 5.0
    count, label = connected_components(near, directed=False)
    expected = {frozenset(zip(y[label == n].tolist(), x[label == n].tolist(), strict=True)) for n in range(count)}
    found = {frozenset(zip(j.tolist(), i.tolist(), strict=True)) for j, i in groups(*np.nonzero(saturated))}
    assert found == expected
