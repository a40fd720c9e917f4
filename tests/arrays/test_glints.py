"""Points at even distances on a line."""

import numpy as np

from gpudiff.arrays.glints import rows_of_points

AREA = 1024.0**2


def test_four_flashes_at_even_distances_are_a_row_and_others_are_not():
    rng = np.random.default_rng(1)
    row = np.array([200.0, 150.0]) + np.arange(5)[:, None] * [40.0, 90.0] + rng.normal(0, 0.3, (5, 2))
    points = np.concatenate([rng.uniform(0, 1024, (40, 2)), row])
    member = rows_of_points(points, 1.8, AREA)
    assert member[40:].all()
    assert not member[:40].any()


def test_three_that_are_long_themselves_along_their_line_are_a_row():
    points = np.array([[100.0, 100], [150, 200], [200, 300], [400, 410], [700, 20]])
    angle = np.array([26.6, 30.0, 22.0, 80.0, -40.0])
    np.testing.assert_array_equal(rows_of_points(points, 1.8, AREA, angle), [True] * 3 + [False] * 2)
    assert not rows_of_points(points, 1.8, AREA, angle + 60).any()


def test_fifty_random_detections_make_a_row_in_less_than_one_frame_of_a_hundred():
    rng = np.random.default_rng(2)
    frames = [rows_of_points(rng.uniform(0, 1024, (50, 2)), 1.8, AREA).any() for _ in range(400)]
    assert sum(frames) <= 3  # 1 in 1000 expected at most


def test_two_points_are_no_row():
    assert not rows_of_points(np.array([[1.0, 2.0], [30.0, 40.0]]), 1.0, AREA).any()
