"""Light on lines through stars."""

import numpy as np
import pytest

from gpudiff.arrays.rays import blobs, median_of_known, nearest, pairs_near, ray_light, unrest_beside_others

FWHM = 4.0


def light_at(score, y, x, star=(100.0, 100.0), core=3.0):
    light, error = ray_light(
        score,
        (np.array([float(y)]), np.array([float(x)])),
        (np.array([star[0]]), np.array([star[1]])),
        np.array([core]),
        np.array([1.5 * FWHM]),
        FWHM,
    )
    return float(light[0]), float(error[0])


def cross(value, arm=80, star=100):
    score = np.full((201, 201), 1e-6, np.float32)
    score[star - 2 : star + 3, star - arm : star + arm] = value
    return score


def test_a_spike_is_as_bright_as_it_is():
    light, error = light_at(cross(4.0), 100, 140)
    assert light == pytest.approx(4)
    assert 0.2 < error < 0.6  # some 100 px of line, an independent value each 5


def test_a_spike_counts_for_the_sign_of_the_detection():
    assert light_at(cross(-3.0), 100, 140)[0] == pytest.approx(3)
    score = cross(-3.0)
    score[98:103, 135:146] = 6
    assert light_at(score, 100, 140)[0] == pytest.approx(-3)


def test_a_source_by_itself_has_no_ray():
    score = np.full((201, 201), 1e-6, np.float32)
    score[97:104, 137:144] = 20
    assert light_at(score, 100, 140)[0] == pytest.approx(0, abs=1e-5)


def test_close_to_the_star_the_other_side_speaks():
    score = cross(0.0, arm=1)
    score[98:103, 70:130] = 5  # ends where the detection's own light ends
    assert light_at(score, 100, 114)[0] == pytest.approx(5)


def test_beside_the_spike_there_is_no_light():
    assert light_at(cross(4.0), 120, 140)[0] == pytest.approx(0, abs=1e-5)


def test_where_too_little_has_a_value_nothing_is_said():
    assert light_at(np.zeros((201, 201), np.float32), 100, 140)[0] == 0


def test_beyond_the_image_is_no_value():
    image = np.arange(6.0).reshape(2, 3)
    assert nearest(image, np.array([0.4, -0.6, 1.0]), np.array([1.2, 0.0, 3.0])).tolist() == [1, 0, 0]


def test_the_median_is_that_of_the_values_that_are_not_zero():
    count, median = median_of_known(np.array([[0, 3.0, 1.0], [2.0, 4.0, 9.0], [0, 0, 0]]))
    assert count.tolist() == [2, 3, 0]
    assert median.tolist() == [2, 4, 0]


def test_blobs_are_pixels_that_touch_by_their_sides():
    image = np.array([[1, 1, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]])  # the last of a row does not touch the next
    y, x = np.nonzero(image)
    label = blobs(y, x, 4)
    assert len(set(label)) == 4
    assert label[0] == label[1] == label[3]


@pytest.mark.parametrize(("lobe", "excess"), [(0.0, 0.0), (3.0, 9.0)])
def test_unrest_beside_others_is_what_the_score_has_there_beyond_noise(lobe, excess):
    rng = np.random.default_rng(3)
    y, x = (plane.ravel() for plane in np.mgrid[20:580:40, 20:580:40])
    score = rng.standard_normal((600, 600)).astype(np.float32)
    score[y, x + 8] += lobe * rng.choice([-1, 1], len(y))
    bright = np.full(len(y), 100.0)
    own, offset = np.array([7]), (np.array([0]), np.array([8]))
    found, error = unrest_beside_others(score, offset, own, (y, x), bright)
    # 195 places with a lobe and as many without: half of it.
    assert found[0] == pytest.approx(excess / 2, abs=4 * error[0])
    assert unrest_beside_others(score, offset, own - 7, (y[:6], x[:6]), bright[:6])[0][0] == 0  # too few


def test_pairs_are_those_within_the_reach_of_each_star():
    rng = np.random.default_rng(3)
    places, stars, reach = rng.uniform(0, 100, (2, 40)), rng.uniform(0, 100, (2, 30)), rng.uniform(0, 30, 30)
    near = np.hypot(*(places[:, :, None] - stars[:, None])) <= reach
    n, s = pairs_near((places[0], places[1]), (stars[0], stars[1]), reach)
    assert sorted(zip(n, s, strict=True)) == sorted(zip(*np.nonzero(near), strict=True))


def test_without_stars_there_are_no_pairs():
    none, one = (np.empty(0), np.empty(0)), (np.ones(1), np.ones(1))
    for given in ((none, one), (one, none)):
        assert [len(found) for found in pairs_near(*given, 5.0)] == [0, 0]
