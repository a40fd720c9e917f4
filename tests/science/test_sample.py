"""Stamps of the stars: which of them are steady."""

import numpy as np

from gpudiff.science.sample import steady_of


def test_a_star_whose_flux_changed_does_not_start_in_the_fit():
    ratio = np.array([1.0, 1.02, 0.98, 1.01, 1.4, 0.99, 1.0, 1.0, 1.01, 0.6])
    steady = steady_of(ratio, np.full(10, 0.01), np.zeros((10, 2)))
    assert list(np.flatnonzero(~steady)) == [4, 9]


def test_a_gradient_of_transparency_makes_no_star_variable():
    u = np.linspace(-1, 1, 30)
    steady = steady_of(1 + 0.2 * u, np.full(30, 0.005), np.stack([u, np.zeros(30)], 1))
    assert steady.all()
