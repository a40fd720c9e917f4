"""gpudiff.science.neighbours: who lies near any of some places."""

import numpy as np

from gpudiff.science.neighbours import Neighbours


def test_each_neighbour_is_told_once_in_rising_order():
    among = Neighbours(np.array([10.0, 20.0, 10.001, 359.9999]), np.array([5.0, 5.0, 5.0, 5.0]), 10.0)
    assert among.of(np.array([10.0005, 10.0006, 0.0]), np.full(3, 5.0)).tolist() == [0, 2, 3]
    assert among.of(np.array([40.0]), np.array([5.0])).tolist() == []
