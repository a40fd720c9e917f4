"""Normal equations of the spatially varying kernel: a Gram matrix a stamp, assembled over the field.

The polynomial is constant within a stamp, so the (M P + Q)^2 system is the Kronecker product of small ones.
Sums and the solve are float64: the condition number reaches 3e10.
"""

import numpy as np

from gpudiff.arrays.parallel import over


def grams(
    design: np.ndarray, target: np.ndarray, weights: np.ndarray, threads: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(G, b, s): G (N, F, F) = A W A^T, b (N, F) = A W t, s (N,) = t W t of each stamp, float64.

    design : (N, F, n) float32, F functions; target, weights : (N, n) float32
    """
    count, functions = design.shape[:2]
    gram = np.empty((count, functions, functions))
    right = np.empty((count, functions))
    power = np.empty(count)

    def part(rows: slice) -> None:
        weighted = design[rows] * weights[rows, None]
        gram[rows] = weighted @ design[rows].transpose(0, 2, 1)
        right[rows] = (weighted @ target[rows, :, None])[..., 0]
        power[rows] = (weights[rows] * target[rows].astype(np.float64) ** 2).sum(1)

    over(part, [slice(i, i + 50) for i in range(0, count, 50)], threads)
    return gram, right, power


def assemble(
    gram: np.ndarray, right: np.ndarray, kernel_terms: np.ndarray, background_terms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(H, r) of all stamps together; unknowns: M functions x P kernel terms, then Q background terms.

    gram, right : of the stamps in the fit, their last function the background's constant
    kernel_terms : (N, P); background_terms : (N, Q)
    """
    count, functions = right.shape
    last = functions - 1
    terms, others = kernel_terms.shape[1], background_terms.shape[1]
    size = last * terms
    matrix = np.zeros((size + others, size + others))
    kk = kernel_terms[:, :, None] * kernel_terms[:, None]
    kb = kernel_terms[:, :, None] * background_terms[:, None]
    bb = background_terms[:, :, None] * background_terms[:, None]
    block = gram[:, :last, :last].reshape(count, -1).T @ kk.reshape(count, -1)
    block = block.reshape(last, last, terms, terms).transpose(0, 2, 1, 3).reshape(size, size)
    matrix[:size, :size] = block
    side = (gram[:, :last, last].T @ kb.reshape(count, -1)).reshape(size, others)
    matrix[:size, size:], matrix[size:, :size] = side, side.T
    matrix[size:, size:] = (gram[:, last, last] @ bb.reshape(count, -1)).reshape(others, others)
    vector = np.concatenate([(right[:, :last].T @ kernel_terms).ravel(), right[:, last] @ background_terms])
    return matrix, vector


def solve(
    matrix: np.ndarray, vector: np.ndarray, prior: np.ndarray | None = None, ridge: float = 1e-10
) -> np.ndarray:
    """Solution of the scaled, barely regularised normal equations, float64.

    prior : (n,) one over the variance expected of each unknown about 0; None for no expectation
    """
    if prior is not None:
        matrix = matrix + np.diag(prior)
    scale = np.sqrt(np.maximum(np.diag(matrix), 0)) + 1e-30
    scaled = matrix / scale[:, None] / scale
    scaled[np.diag_indices_from(scaled)] += ridge
    return np.linalg.solve(scaled, vector / scale) / scale


def local(solution: np.ndarray, kernel_terms: np.ndarray, background_terms: np.ndarray) -> np.ndarray:
    """(N, M + 1) coefficients at each stamp: of the M functions and of the background's constant."""
    terms, others = kernel_terms.shape[1], background_terms.shape[1]
    functions = solution[: len(solution) - others].reshape(-1, terms)
    background = background_terms @ solution[len(solution) - others :]
    return np.concatenate([kernel_terms @ functions.T, background[:, None]], 1)


def held_back(
    gram: np.ndarray,
    right: np.ndarray,
    power: np.ndarray,
    kernel_terms: np.ndarray,
    background_terms: np.ndarray,
    used: np.ndarray,
    folds: int,
    prior: np.ndarray | None = None,
) -> np.ndarray:
    """(N,) chi2 of each stamp under the fit to the used stamps of the other folds (k-fold cross-validation)."""
    fold = np.arange(len(gram)) % folds
    total, vector = assemble(gram[used], right[used], kernel_terms[used], background_terms[used])
    chi2 = np.empty(len(gram))
    for k in range(folds):
        out = fold == k
        drop = out & used
        if not out.any():
            continue
        rest, rest_vector = total, vector
        if drop.any():
            part, part_vector = assemble(gram[drop], right[drop], kernel_terms[drop], background_terms[drop])
            rest, rest_vector = total - part, vector - part_vector
        solution = solve(rest, rest_vector, prior)
        c = local(solution, kernel_terms[out], background_terms[out])
        quadratic = np.einsum("nf,nfg,ng->n", c, gram[out], c, optimize=True)
        chi2[out] = power[out] - 2 * (c * right[out]).sum(1) + quadratic
    return chi2
