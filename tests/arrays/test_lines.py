"""Columns and rows that are off from those beside them."""

import numpy as np
import pytest

from gpudiff.arrays.lines import find_lines


def sky(seed: int = 1, shape: tuple[int, int] = (640, 512)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, shape).astype(np.float32)


def none(image: np.ndarray) -> np.ndarray:
    return np.zeros(image.shape, bool)


def star(image: np.ndarray, y: float, x: float, peak: float, width: float) -> None:
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    image += peak * np.exp(-0.5 * ((rows - y) ** 2 + (columns - x) ** 2) / width**2)


@pytest.mark.parametrize("is_row", [False, True])
@pytest.mark.parametrize("level", [6.0, 40.0, -6.0])
def test_a_line_is_found_from_where_it_begins_to_where_it_ends(is_row, level):
    image = sky()
    pixels = image.T if is_row else image
    pixels[130:460, 200] += level
    [line] = find_lines(image, none(image), 2.0)
    across, along = (line.y, line.x) if is_row else (line.x, line.y)
    assert line.is_row == is_row
    assert (across == 200).all()
    np.testing.assert_allclose(along[[0, -1]], [130, 459], atol=4)  # 3 sigma: an end is known to a few pixels
    assert abs(line.level - level) < 0.7  # 5 errors of the median of 330 pixels
    assert not line.noisy


@pytest.mark.parametrize("first", [0, 40, 90, 200])
def test_a_line_of_140_pixels_is_found_wherever_it_lies(first):
    image = sky(7)
    image[first : first + 140, 200] += 8.0
    assert [line.x[0] for line in find_lines(image, none(image), 2.0)] == [200]


def test_noise_alone_has_no_line():
    assert not any(find_lines(sky(seed), none(sky()), 2.0) for seed in range(10))


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.3])
def test_single_photons_have_no_line(rate):
    """Most steps between neighbours are 0, and so was the error by which the others were judged."""
    image = np.random.default_rng(5).poisson(rate, (1024, 1024)).astype(np.float32) - np.float32(rate)
    assert not find_lines(image, none(image), rate**0.5)


def test_a_line_is_found_where_most_of_an_image_is_empty():
    image = sky()
    unusable = none(image)
    unusable[:, 180:] = True
    image[unusable] = 0
    image[130:460, 100] += 6
    assert [line.x[0] for line in find_lines(image, unusable, 2.0)] == [100]


def test_a_long_line_is_found_below_the_noise_of_a_pixel():
    image = sky(shape=(2048, 256))
    image[:, 100] += 2.0
    assert [line.x[0] for line in find_lines(image, none(image), 2.0)] == [100]


def test_a_step_that_stays_is_no_line():
    image = sky()
    image[:, 200:] += 30
    image[300:] += 30
    assert not find_lines(image, none(image), 2.0)


def test_light_as_wide_as_a_sharp_star_is_no_line():
    image, width = sky(), 1.8 / 2.355
    for centre in (100.0, 200.5, 300.3):
        image += 20 * np.exp(-0.5 * (np.arange(512) - centre) ** 2 / width**2).astype(np.float32)
    assert not find_lines(image, none(image), 2.0)


def test_a_crowd_of_stars_has_no_line_and_hides_none():
    image, rng = sky(), np.random.default_rng(3)
    for y, x, peak in zip(*rng.uniform(0, [[640], [512]], (2, 300)), 10 ** rng.uniform(1, 3.5, 300), strict=True):
        star(image, y, x, peak, 1.5)
    assert not find_lines(image, none(image), 2.0)
    image[:, 200] += 10
    assert [line.x[0] for line in find_lines(image, none(image), 2.0)] == [200]


def test_what_is_unusable_is_not_of_a_line_nor_makes_one():
    image, unusable = sky() + 50, none(sky())
    unusable[:, 100] = unusable[300:340, 200] = True
    image[unusable] = 0
    image[:, 200] += 20 * ~unusable[:, 200]
    [line] = find_lines(image, unusable, 2.0)
    assert (line.x == 200).all()
    assert not unusable[line.y, line.x].any()
    assert len(line.y) == 600


def test_a_line_that_scatters_more_than_those_beside_it_is_noisy():
    image = sky()
    image[:, 200] += np.random.default_rng(5).normal(20, 3, 640)
    [line] = find_lines(image, none(image), 2.0)
    assert line.noisy


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (130, 5), (5, 5)])
def test_an_image_that_is_too_small_has_none(shape):
    assert find_lines(sky(shape=shape), np.zeros(shape, bool), 2.0) == []
