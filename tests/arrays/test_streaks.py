"""Satellite streaks in images of significance."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gpudiff.arrays.artefacts import add_streak
from gpudiff.arrays.streaks import (
    brightest_line,
    cells,
    cells_cuda,
    find_streaks,
    radon,
    radon_cuda,
    steepest_cuda,
    steepest_lines,
)

FWHM = 4.5
WIDTH = FWHM / 2.3548


def score_of(light, seed=1):
    """Matched-filter score of light (in sigmas a pixel) in white noise, for a Gaussian PSF."""
    image = np.random.default_rng(seed).standard_normal(light.shape) + light
    return (gaussian_filter(image, WIDTH) * np.sqrt(4 * np.pi) * WIDTH).astype(np.float32)


def line(size, angle, peak, x=None, y=None):
    light = np.zeros((size, size), np.float32)
    add_streak(light, x or 0.45 * size, y or 0.55 * size, np.radians(angle), peak, 1.5 * FWHM)
    return light


def test_a_streak_beside_the_line_that_led_to_it_is_told_once():
    rng = np.random.default_rng(110)
    rows, columns = np.mgrid[:300, :300]
    score = np.zeros((300, 300))
    for _ in range(rng.integers(1, 4)):  # patches of light, which lines meet in many ways
        x, y, *sides = *rng.uniform(0, 300, 2), *rng.uniform(10, 150, 2)
        turn, light = rng.uniform(0, 3), rng.uniform(10, 100)
        along = (columns - x) * np.cos(turn) + (rows - y) * np.sin(turn)
        across = (rows - y) * np.cos(turn) - (columns - x) * np.sin(turn)
        score += light * ((abs(along) < sides[0]) & (abs(across) < sides[1])) * (1 if rng.uniform() < 0.6 else -1)
    score += rng.normal(size=score.shape)
    found = find_streaks(score.astype(np.float32), 4.0)
    assert len(found) == len(set(found)) > 0


def test_radon_sums_a_line_between_its_ends():
    image = np.zeros((8, 8), np.float32)
    image[np.arange(8) // 2 + 1, np.arange(8)] = 1  # rises 3 rows in 7 columns, from row 1
    [sums] = radon(image[None])
    assert sums.shape == (8, 16)
    assert sums[3, 8 + 1] >= 7  # the discrete line of that slope may miss one pixel of ours
    assert sums.sum(1)[0] == 8  # slope 0: every pixel in one row's sum


def test_radon_keeps_the_total_for_every_slope():
    image = np.random.default_rng(2).standard_normal((16, 16)).astype(np.float32)
    np.testing.assert_allclose(radon(image[None])[0].sum(1), image.sum(), rtol=1e-4, atol=1e-3)  # float32 sums


def test_an_image_without_values_has_no_line():
    assert brightest_line(np.zeros((32, 32), np.float32))[1] == 0


@pytest.mark.parametrize("angle", [0.0, 17.0, 44.0, 63.0, 90.0, 118.0, 135.0, 171.0])
def test_a_streak_of_one_sigma_a_pixel_is_found_at_any_angle(angle):
    (streak,) = find_streaks(score_of(line(512, angle, 1.0)), FWHM)
    turned = (streak.angle - angle + 90) % 180 - 90
    assert abs(turned) < 0.5  # half a pixel at each end of 512 would be 0.1
    across = np.cos(np.radians(angle)) * (streak.y0 - 0.55 * 512) - np.sin(np.radians(angle)) * (
        streak.x0 - 0.45 * 512
    )
    assert abs(across) < 3
    assert 6 <= streak.reach <= 14
    assert 4 < streak.light < 7  # a PSF that lies on the streak collects 5.8 sigma


def test_a_streak_of_the_template_is_negative():
    (streak,) = find_streaks(score_of(-line(512, 30, 2.0)), FWHM)
    assert streak.light < -8


def test_two_streaks_that_cross_are_two():
    found = find_streaks(score_of(line(512, 30, 8.0) + line(512, 75, 1.5)), FWHM)
    assert sorted(round(streak.angle) for streak in found) == [30, 75]


def test_a_streak_that_ends_in_the_image_ends_there():
    light = line(512, 0, 3.0, y=200)
    light[:, 300:] = 0
    (streak,) = find_streaks(score_of(light), FWHM)
    assert abs(max(streak.x0, streak.x1) - 300) < 20  # pieces of 9 px, and the PSF
    assert min(streak.x0, streak.x1) < 6


def test_noise_alone_has_no_streak():
    assert not [s for seed in range(20) for s in find_streaks(score_of(np.zeros((256, 256)), seed), FWHM)]


def test_stars_that_vary_a_galaxy_and_a_ring_are_no_streak():
    rows, columns = np.mgrid[:512, :512]
    light = np.zeros((512, 512))
    rng = np.random.default_rng(4)
    for y, x in rng.uniform(0, 512, (60, 2)):
        light += rng.normal(0, 20) * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * WIDTH**2))
    light += 2 * np.exp(-((rows - 100) ** 2) / 200 - (columns - 300) ** 2 / 1500)
    light += 3.0 * (np.abs(np.hypot(rows - 350, columns - 200) - 60) < 3)
    assert find_streaks(score_of(light), FWHM) == []


def test_a_line_that_fades_like_a_spike_is_no_streak():
    rows, columns = np.mgrid[:512, :512]
    light = 10 * np.exp(-((rows - 250) ** 2) / 8) / (1 + np.abs(columns - 256) / 20) ** 2
    assert find_streaks(score_of(light), FWHM) == []


def test_cells_hold_the_mean_of_whole_squares_clipped():
    score = np.ones((9, 13), np.float32)
    score[0, 0], score[4:8, 8:12] = 100, -100
    assert cells(score, 4).tolist() == [[np.float32(21 / 16), 1, 1], [1, 1, -2]]


# ---------------------------------------------------------------- the CUDA body
@pytest.mark.parametrize(("batch", "shape", "side"), [(1, (70, 151), 4), (9, (35, 41), 8), (2, (5, 70), 8)])
def test_cuda_body_agrees_with_the_definition(launcher, batch, shape, side):
    scores = np.random.default_rng(batch).normal(0, 4, (batch, *shape)).astype(np.float32)
    for found, score in zip(cells_cuda(launcher, scores, side), scores, strict=True):
        np.testing.assert_allclose(found, cells(score, side), atol=1e-6)  # float32 sums


@pytest.mark.parametrize("shape", [(1, 1), (13, 20), (40, 32)])
def test_cuda_body_of_the_sums_along_lines_agrees_with_the_definition(launcher, shape):
    images = np.random.default_rng(7).normal(size=(3, *shape)).astype(np.float32)
    np.testing.assert_array_equal(launcher.download(radon_cuda(launcher, images)), radon(images))


def test_the_brightest_line_is_the_same_whoever_sums(launcher):
    image = np.random.default_rng(8).normal(size=(40, 33)).astype(np.float32)
    image[20:24, 10:30] = 0  # no value
    for light in (0, 3):
        image[np.arange(30) + 3, np.arange(30)] += light
        assert brightest_line(image, lambda images: steepest_cuda(launcher, images)) == brightest_line(image)


def test_cuda_body_finds_the_steepest_lines_of_the_definition(launcher):
    images = np.random.default_rng(9).normal(size=(18, 21, 30)).astype(np.float32)
    images[1::2] = images[1::2] > -1
    images[0] = images[1] = images[3] = 0  # of one nothing is known, of one all is the same
    images[2], images[5] = 0, 1
    images[4, np.arange(21), np.arange(21)] += 9
    assert steepest_cuda(launcher, images) == list(steepest_lines(images))
