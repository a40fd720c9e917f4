"""Many small systems are solved as one call of LAPACK for each solves them."""

import numpy as np

from gpudiff.arrays.positive import solve_positive


def test_each_system_is_solved():
    random = np.random.default_rng(1)
    half = random.normal(size=(50, 6, 9))
    matrices, rights = half @ half.transpose(0, 2, 1), random.normal(size=(50, 6, 2))
    found = solve_positive(matrices.transpose(1, 2, 0), rights.transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(matrices @ found, rights, atol=1e-9)  # condition numbers up to 1e5
