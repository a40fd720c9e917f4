"""Many small systems of equations at once, each as large as a polynomial has terms.

Matrices are symmetric and positive definite, so that elimination needs no pivots: vectors along the systems take a
sixth of the time of a call of LAPACK for each.
"""

import numpy as np


def solve_positive(matrices: np.ndarray, rights: np.ndarray) -> np.ndarray:
    """(n, k, ...) solutions: matrices (n, n, ...) times them are rights (n, k, ...), a system at each of "..."."""
    count = len(matrices)
    rows = np.concatenate([matrices, rights], 1)
    for n in range(count):
        rows[n, n + 1 :] /= rows[n, n]
        rows[n + 1 :, n + 1 :] -= rows[n + 1 :, n, None] * rows[n, n + 1 :]
    for n in range(count - 1, 0, -1):
        rows[:n, count:] -= rows[:n, n, None] * rows[n, count:]
    return rows[:, count:]


def solve_last(rows: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(the last unknown, the last number on the diagonal of the matrix's inverse), both (...).

    rows : of the matrices from the diagonal on, then the right sides, (n + 1, ...), (n, ...) to (2, ...); used up
    """
    for n, pivots in enumerate(rows[:-1]):
        shares = pivots[1:-1] / pivots[0]
        for m, share in enumerate(shares, 1):
            rows[n + m] -= share * pivots[m:]
    diagonal, right = rows[-1]
    return right / diagonal, 1 / diagonal
