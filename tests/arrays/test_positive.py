"""Many small systems are solved as one call of LAPACK for each solves them, or for their last unknown alone."""

import numpy as np

from gpudiff.arrays.positive import solve_last, solve_positive


def test_each_system_is_solved():
    random = np.random.default_rng(1)
    half = random.normal(size=(50, 6, 9))
    matrices, rights = half @ half.transpose(0, 2, 1), random.normal(size=(50, 6, 2))
    found = solve_positive(matrices.transpose(1, 2, 0), rights.transpose(1, 2, 0)).transpose(2, 0, 1)
    np.testing.assert_allclose(matrices @ found, rights, atol=1e-9)  # condition numbers up to 1e5


def test_the_last_unknown_and_its_place_in_the_inverse_are_those_of_the_whole_system():
    random = np.random.default_rng(2)
    half = random.normal(size=(50, 6, 9))
    matrices, rights = half @ half.transpose(0, 2, 1), random.normal(size=(50, 6))
    rows = [np.concatenate([matrices[:, n, n:], rights[:, n, None]], 1).T for n in range(6)]
    last, own = solve_last(rows)
    inverse = np.linalg.inv(matrices)
    # Condition numbers up to 1e5.
    np.testing.assert_allclose(last, (inverse @ rights[..., None])[:, -1, 0], atol=1e-9)
    np.testing.assert_allclose(own, inverse[:, -1, -1], rtol=1e-9)
