"""Cosmic rays and hot pixels in one image."""

import numpy as np
import pytest

from gpudiff.arrays.cosmic_rays import cosmic_rays, fill, sharpest, suspects, suspects_cuda
from gpudiff.arrays.stamps import positions


def psf(sigma=1.7):
    axis = np.arange(-8, 9)
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return image / image.sum()


def sky(shape=(200, 200), sigma=10.0, seed=1):
    return np.random.default_rng(seed).normal(0, sigma, shape).astype(np.float32)


def with_stars(count=60, seed=2, sigma=1.7, flux=(2e3, 3e5)):
    """Stars between pixels, with their photons' noise (gain 1), on sky of 10."""
    rng = np.random.default_rng(seed)
    image = np.zeros((300, 300))
    rows, columns = np.mgrid[:300, :300]
    for y, x, logarithm in rng.uniform((12, 12, np.log(flux[0])), (288, 288, np.log(flux[1])), (count, 3)):
        image += np.exp(logarithm - ((rows - y) ** 2 + (columns - x) ** 2) / (2 * sigma**2)) / (
            2 * np.pi * sigma**2
        )
    return (rng.poisson(image) + rng.normal(0, 10, image.shape)).astype(np.float32)


def find(image, unusable=None, sigma=1.7):
    unusable = np.zeros(image.shape, bool) if unusable is None else unusable
    found = np.zeros(image.shape, bool)
    found[cosmic_rays(image, unusable, 10.0, 1.0, psf(sigma))] = True
    return found


def test_a_hot_pixel_is_found_alone():
    image = sky()
    image[50, 60] = 400
    found = find(image)
    assert found[50, 60]
    assert found.sum() == 1


@pytest.mark.parametrize("sigma", [1.3, 1.7, 2.5])
def test_stars_are_not_cosmic_rays(sigma):
    assert find(with_stars(sigma=sigma), sigma=sigma).sum() == 0


def test_blank_sky_has_none():
    # 6 sigma: one pixel in 1e9.
    assert find(sky((1000, 1000))).sum() == 0


def test_a_track_is_found_along_its_length():
    image = sky()
    for n in range(25):
        image[80 + n // 2, 60 + n] += 500
    found = find(image)
    assert sum(found[80 + n // 2, 60 + n] for n in range(25)) >= 23
    assert found.sum() <= 27


def test_a_cosmic_ray_on_a_star_is_found_and_the_star_stays():
    image = with_stars(count=0)
    rows, columns = np.mgrid[:300, :300]
    image += 3000 * np.exp(-((rows - 150) ** 2 + (columns - 150) ** 2) / (2 * 1.7**2)).astype(np.float32)
    image[152, 153] += 6000
    found = find(image)
    assert found[152, 153]
    assert not found[149:152, 149:152].any()
    assert found.sum() <= 6  # a found pixel counts as dark, so its neighbours on the star's flank may go with it


def test_a_cosmic_ray_at_the_border_does_not_break_it():
    image = sky()
    image[0, 0] = image[199, 100] = image[100, 1] = 500
    found = find(image)
    assert found[100, 1]
    assert found.shape == image.shape


def test_unusable_pixels_are_not_reported():
    image, bad = sky(), np.zeros((200, 200), bool)
    image[50, 60], bad[50, 60] = 1e5, True
    assert not find(image, bad).any()


def test_unknown_gain_is_no_photon_noise():
    image = sky()
    image[50, 60] = 400
    y, x = cosmic_rays(image, np.zeros(image.shape, bool), 10.0, np.inf, psf())
    assert (y, x) == (50, 60)


def test_holes_are_filled_from_round_them():
    rows, columns = np.mgrid[:40, :40]
    image = (100 + 2.0 * rows - columns).astype(np.float32)
    truth, holes = image.copy(), np.zeros((40, 40), bool)
    holes[10:13, 20:22] = holes[30, 5] = True
    image[holes] = -1e6
    fill(image, *positions(holes))
    np.testing.assert_allclose(image, truth, atol=2)  # a slope of 2 a pixel
    np.testing.assert_array_equal(image[~holes], truth[~holes])


def test_a_pixel_that_lies_alone_is_filled_with_the_light_of_its_star():
    rows, columns = np.mgrid[:40, :40]
    image = (1000 * np.exp(-((rows - 20) ** 2 + (columns - 20) ** 2) / (2 * 1.5**2))).astype(np.float32)
    truth = image.copy()
    image[20, 20] = image[18, 21] = image[30, 8] = -1e6
    fill(image, np.array([18, 20, 30]), np.array([21, 20, 8]))
    # the light's fourth derivative: 3 / 4 of its 4 beside, 1 / 4 of the corners; the mean would be off by 277
    np.testing.assert_allclose(image, truth, atol=50)


def test_holes_at_the_corner_are_filled_from_inside():
    image, holes = np.full((20, 20), 7, np.float32), np.zeros((20, 20), bool)
    image[:2, :2], holes[:2, :2] = 1e9, True
    fill(image, *positions(holes))
    np.testing.assert_array_equal(image, 7)


def test_an_image_of_holes_alone_ends():
    image = np.ones((12, 12), np.float32)
    fill(image, *positions(np.ones((12, 12), bool)))
    np.testing.assert_array_equal(image, 1)


def test_a_psf_is_sharpest_in_its_middle_and_a_ring_on_its_ridge():
    star = psf()
    assert sharpest(star)[0] == pytest.approx(star[8, 9] / star[8, 8])
    axis = np.arange(-12, 13)
    ring = np.exp(-0.5 * (np.hypot(axis, axis[:, None]) - 5) ** 2 / 1.2**2)
    # Across the ridge the neighbours are exp(-0.5 / 1.44) of it; in the hole they are brighter than the pixel.
    assert sharpest(ring)[0] == pytest.approx(np.exp(-0.5 / 1.44), abs=0.05)


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize("gain", [1.0, np.inf])
def test_cuda_body_lists_all_that_are_sharp_and_few_others(launcher, gain):
    image = with_stars()[:150, :170].copy()
    rng = np.random.default_rng(3)
    image[rng.integers(0, 150, 40), rng.integers(0, 170, 40)] += 500
    none = np.zeros(image.shape, bool)
    at = suspects_cuda(launcher, launcher.upload(image[None], np.float32), 10.0, gain, sharpest(psf()))
    bright = suspects(image, 10.0)
    assert np.isin(at, bright).all()
    np.testing.assert_array_equal(
        cosmic_rays(image, none, 10.0, gain, psf(), at), cosmic_rays(image, none, 10.0, gain, psf())
    )
    assert len(at) < 60 < len(bright) / 10


def test_cuda_body_lists_more_than_it_has_room_for_at_first(launcher):
    image = np.zeros((40, 50), np.float32)
    image[1:-1, 1:-1:2] = 900
    at = suspects_cuda(launcher, launcher.upload(image[None], np.float32), 10.0, 1.0, [0.5] * 4)
    np.testing.assert_array_equal(at, np.flatnonzero(image > 0))


def test_each_pixel_is_judged_by_the_noise_there():
    image = sky()
    image[:, 100:] *= 4
    image[50, 60] = image[50, 160] = 400
    noisy = cosmic_rays(
        image, np.zeros(image.shape, bool), 10.0, 1.0, psf(), sigma_at=lambda at: np.where(at % 200 < 100, 10, 40)
    )
    assert [(y, x) for y, x in zip(*noisy, strict=True) if x < 100] == [(50, 60)]
    assert all(x < 100 or (y, x) == (50, 160) for y, x in zip(*noisy, strict=True))
