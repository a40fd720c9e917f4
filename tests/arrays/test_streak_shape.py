"""One streak in full resolution; what is found by it is tested with `find_streaks`."""

import numpy as np

from gpudiff.arrays.streak_shape import line_pixels, looked_at


def test_line_pixels_are_those_within_reach():
    rows, columns = line_pixels((40, 60), 50.0, 30.0, 5.0, 10.0, 2.0)
    near = np.zeros((40, 60), bool)
    near[rows, columns] = True
    y, x = np.mgrid[:40, :60]
    unit = np.array([45.0, 20.0]) / np.hypot(45, 20)
    across = np.abs((y - 10) * unit[0] - (x - 5) * unit[1])
    inner = (x > 8) & (x < 47)
    np.testing.assert_array_equal(near[inner], (across <= 2.0)[inner])


def test_along_a_line_without_a_value_there_is_no_streak():
    assert looked_at(np.zeros((31, 31)), np.array([2.0, 3.0, 28.0, 20.0]), 4.0, 6.0) is None
