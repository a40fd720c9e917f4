"""Normal equations of the spatially varying kernel: a Gram matrix a stamp, assembled over the field.

The polynomial is constant within a stamp, so the (M P + Q)^2 system is the Kronecker product of small ones.
Sums and the solve are float64: the condition number reaches 3e10.
"""

from collections.abc import Sequence

import numpy as np
import scipy.linalg

from gpudiff.arrays.parallel import over

Equations = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What `grams` returns."""

CHUNK = 64
"""Stamps whose Gram matrices are copied at a time."""


def grams(design: np.ndarray, target: np.ndarray, weights: np.ndarray, threads: int = 0) -> Equations:
    """(G, b, s): G (N, F, F) = A W A^T, b (N, F) = A W t, s (N,) = t W t of each stamp, float64.

    design : (N, F, n) float32, F functions; target, weights : (N, n) float32
    """
    count, functions = design.shape[:2]
    gram = np.empty((count, functions, functions))
    right = np.empty((count, functions))
    power = np.empty(count)

    def part(rows: slice) -> None:
        root = np.sqrt(weights[rows])
        weighted = design[rows] * root[:, None]
        gram[rows] = weighted @ weighted.transpose(0, 2, 1)  # half the work: BLAS sees that it is symmetric
        right[rows] = (weighted @ (root * target[rows])[..., None])[..., 0]
        power[rows] = (weights[rows] * target[rows].astype(np.float64) ** 2).sum(1)

    over(part, [slice(i, i + 50) for i in range(0, count, 50)], threads)
    return gram, right, power


def assemble(
    gram: np.ndarray, right: np.ndarray, kernel_terms: np.ndarray, background_terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(H, r) of all stamps together; unknowns: M functions x P kernel terms, then Q background terms.

    gram, right : of the stamps, their last function the background's constant
    kernel_terms : (N, P); background_terms : (N, Q); both 0 for a stamp that is not in the fit
    """
    count, functions = right.shape
    last = functions - 1
    terms, others = kernel_terms.shape[1], background_terms.shape[1]
    size = last * terms
    matrix = np.zeros((size + others, size + others))
    kk = kernel_terms[:, :, None] * kernel_terms[:, None]
    kb = kernel_terms[:, :, None] * background_terms[:, None]
    bb = background_terms[:, :, None] * background_terms[:, None]
    block = np.zeros((last * last, terms * terms))
    for rows in (slice(i, i + CHUNK) for i in range(0, count, CHUNK)):
        part = np.asarray(gram[rows, :last, :last], np.float64).reshape(-1, last * last)
        block += part.T @ kk[rows].reshape(-1, terms * terms)
    matrix[:size, :size] = block.reshape(last, last, terms, terms).transpose(0, 2, 1, 3).reshape(size, size)
    side = (gram[:, :last, last].T @ kb.reshape(count, -1)).reshape(size, others)
    matrix[:size, size:], matrix[size:, :size] = side, side.T
    matrix[size:, size:] = (gram[:, last, last] @ bb.reshape(count, -1)).reshape(others, others)
    vector = np.concatenate([(right[:, :last].T @ kernel_terms).ravel(), right[:, last] @ background_terms])
    return matrix, vector


def solve(matrix: np.ndarray, vector: np.ndarray, ridge: float = 1e-10) -> np.ndarray:
    """Solution of the scaled, barely regularised normal equations, float64."""
    scale = np.sqrt(np.maximum(np.diag(matrix), 0)) + 1e-30
    scaled = matrix / scale[:, None] / scale
    scaled[np.diag_indices_from(scaled)] += ridge
    return scipy.linalg.solve(scaled, vector / scale, assume_a="pos", overwrite_a=True, check_finite=False) / scale


def local(solution: np.ndarray, kernel_terms: np.ndarray, background_terms: np.ndarray) -> np.ndarray:
    """(N, M + 1) coefficients at each stamp: of the M functions and of the background's constant."""
    terms, others = kernel_terms.shape[1], background_terms.shape[1]
    functions = solution[: len(solution) - others].reshape(-1, terms)
    background = background_terms @ solution[len(solution) - others :]
    return np.concatenate([kernel_terms @ functions.T, background[:, None]], 1)


def held_back(
    equations: Equations,
    kernel_terms: np.ndarray,
    background_terms: np.ndarray,
    used: np.ndarray,
    fold: np.ndarray,
    penalties: Sequence[np.ndarray | float] = (0.0,),
) -> np.ndarray:
    """(L, N) chi2 of each stamp under the fit to the used stamps of the other folds (k-fold cross-validation).

    fold : (N,) int, which one each stamp belongs to
    penalties : L of them; each is added to the normal equations before they are solved
    """
    gram, right, power = equations
    mine = used[:, None]
    total, vector = assemble(gram, right, kernel_terms * mine, background_terms * mine)
    chi2 = np.empty((len(penalties), len(gram)))
    for k in np.unique(fold):
        out = fold == k
        drop = out & used
        if not out.any():
            continue
        rest, rest_vector = total, vector
        if drop.any():
            part, part_vector = assemble(gram[drop], right[drop], kernel_terms[drop], background_terms[drop])
            rest, rest_vector = total - part, vector - part_vector
        for n, penalty in enumerate(penalties):
            c = local(solve(rest + penalty, rest_vector), kernel_terms[out], background_terms[out])
            quadratic = ((c[:, None] @ gram[out])[:, 0] * c).sum(1)
            chi2[n, out] = power[out] - 2 * (c * right[out]).sum(1) + quadratic
    return chi2
