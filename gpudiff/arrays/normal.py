"""Normal equations of the spatially varying kernel: a Gram matrix a stamp, assembled over the field.

The polynomial is constant within a stamp, so the (M P + Q)^2 system is the Kronecker product of small ones.
Sums and the solve are float64: the condition number reaches 3e10.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over

Equations = tuple[np.ndarray, np.ndarray, np.ndarray]
"""What `grams` returns."""

Penalty = np.ndarray | None
"""Added to the matrix of the normal equations: (n,) its diagonal, one over the variance expected of each unknown
about 0, or (n, n), positive semi-definite; None for nothing."""

RIDGE = 1e-10
"""Added to the diagonal of a matrix that is scaled to ones there."""
COPIED = 1 << 23
"""Elements of Gram matrices that are copied at a time."""
ONE_AFTER_THE_OTHER = ["einsum_path", (0, 1), (0, 1)]
"""The order of a quadratic form's products, which takes longer to look for than to compute."""


def grams(design: np.ndarray, target: np.ndarray, weights: np.ndarray, threads: int = 0) -> Equations:
    """(G, b, s): G (N, F, F) = A W A^T, b (N, F) = A W t, s (N,) = t W t of each stamp, float64.

    design : (N, F, n) float32, F functions; target, weights : (N, n) float32, weights not negative
    Float32 sums moved a difference by 3e-4 sigma next to bright stars.
    """
    count, functions, pixels = design.shape
    gram = np.empty((count, functions, functions))
    right = np.empty((count, functions))
    power = np.empty(count)

    def part(rows: slice) -> None:
        scaled = np.empty((functions + 1, pixels))
        for n in range(*rows.indices(count)):
            root = np.sqrt(weights[n], dtype=np.float64)
            np.multiply(design[n], root, out=scaled[:-1])
            np.multiply(target[n], root, out=scaled[-1])
            square = scaled @ scaled.T  # a matrix and its own transpose: half the products
            gram[n], right[n], power[n] = square[:-1, :-1], square[:-1, -1], square[-1, -1]

    over(part, [slice(i, i + 50) for i in range(0, count, 50)], threads)
    return gram, right, power


def models(design: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(N, n) float32: the functions of each stamp, but the last, times its coefficients.

    design : (N, F, n) float32; coefficients : (N, F - 1) float32
    """
    return (coefficients[:, None] @ design[:, :-1])[:, 0]


def assemble(
    gram: np.ndarray,
    right: np.ndarray,
    kernel_terms: np.ndarray,
    background_terms: np.ndarray,
    used: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(H, r) of all stamps together; unknowns: M functions x P kernel terms, then Q background terms.

    gram, right : of the stamps, their last function the background's constant
    kernel_terms : (N, P); background_terms : (N, Q); used : (N,) bool, the stamps in the fit, None for all
    """
    rows = np.arange(len(right)) if used is None else np.flatnonzero(used)
    right, kernel_terms, background_terms = right[rows], kernel_terms[rows], background_terms[rows]
    last, terms, others = right.shape[1] - 1, kernel_terms.shape[1], background_terms.shape[1]
    size = last * terms
    (one, other), (row, column) = _upper(terms), _upper(last)  # the rest is the same by symmetry
    entries = row * (last + 1) + column
    kk = kernel_terms[:, one] * kernel_terms[:, other]
    kb = (kernel_terms[:, :, None] * background_terms[:, None]).reshape(len(rows), -1)
    bb = (background_terms[:, :, None] * background_terms[:, None]).reshape(len(rows), -1)
    block, side, corner = np.zeros((len(row), len(one))), np.zeros((last, terms * others)), np.zeros(others**2)
    step = max(COPIED // (last + 1) ** 2, 1)
    for some in (slice(i, i + step) for i in range(0, len(rows), step)):
        part = np.asarray(gram[rows[some]], np.float64)
        block += part.reshape(len(part), -1).take(entries, 1).T @ kk[some]
        side += part[:, :last, last].T @ kb[some]
        corner += part[:, last, last] @ bb[some]
    matrix = np.empty((size + others, size + others))
    whole = block[_both(last)][..., _both(terms)]
    matrix[:size, :size] = whole.transpose(0, 2, 1, 3).reshape(size, size)
    matrix[:size, size:] = side.reshape(size, others)
    matrix[size:, :size] = matrix[:size, size:].T
    matrix[size:, size:] = corner.reshape(others, others)
    vector = np.concatenate([(right[:, :last].T @ kernel_terms).ravel(), right[:, last] @ background_terms])
    return matrix, vector


@lru_cache(8)
def _upper(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of an upper triangle; to be read only."""
    return np.triu_indices(side)


@lru_cache(8)
def _both(side: int) -> np.ndarray:
    """(side, side) places in an upper triangle of what a symmetric matrix has there; to be read only."""
    row, column = _upper(side)
    places = np.empty((side, side), int)
    places[row, column] = places[column, row] = np.arange(len(row))
    return places


def solve(matrix: np.ndarray, vector: np.ndarray, penalty: Penalty = None, ridge: float = RIDGE) -> np.ndarray:
    """Solution of the scaled, barely regularised normal equations, float64."""
    if penalty is not None:
        matrix = matrix + (np.diag(penalty) if penalty.ndim == 1 else penalty)
    scale = np.sqrt(np.maximum(np.diag(matrix), 0)) + 1e-30
    scaled = matrix / scale[:, None] / scale
    scaled[np.diag_indices_from(scaled)] += ridge
    if penalty is not None and penalty.ndim == 2:  # large, and made positive definite: half the time
        factor = scipy.linalg.cho_factor(scaled, overwrite_a=True, check_finite=False)
        return scipy.linalg.cho_solve(factor, vector / scale, check_finite=False) / scale
    return np.linalg.solve(scaled, vector / scale) / scale


def likeliest(
    matrix: np.ndarray, vector: np.ndarray, groups: np.ndarray, penalty: np.ndarray, rounds: int = 5
) -> np.ndarray:
    """(n,) a penalty, nearer than the given one to that which makes the data likeliest: for each group one over
    the mean square of its unknowns, the noise in them allowed for (MacKay 1992, Neural Computation 4, 415).

    matrix, vector : from `assemble`, weights one over the variance
    groups : (n,) int, unknowns that are expected to be of one size; negative for those that are free
    penalty : (n,) to start from, 0 where free; a group that is all noise ends with a large one
    """
    held = groups >= 0
    of, count = groups[held], int(groups.max(initial=-1)) + 1
    penalty = penalty.copy()
    for _ in range(rounds):
        scale = np.sqrt(np.diag(matrix) + penalty) + 1e-30
        scaled = matrix / scale[:, None] / scale
        scaled[np.diag_indices_from(scaled)] = 1 + RIDGE
        root = scipy.linalg.lapack.dtrtri(np.linalg.cholesky(scaled), lower=1)[0]
        variance = (root**2).sum(0) / scale**2
        solution = root.T @ (root @ (vector / scale)) / scale
        told = np.bincount(of, (1 - penalty * variance)[held], count)
        power = np.bincount(of, solution[held] ** 2, count)
        penalty[held] = (np.maximum(told, 1e-6) / np.maximum(power, 1e-30))[of]
    return penalty


def turned(rows: np.ndarray, turn: np.ndarray | None, terms: int) -> np.ndarray:
    """(n, ...) the same for the unknowns of functions turned by `turn` (M, M), None: as they are; the background's
    stay.

    rows : (n, ...), one for each unknown, as in `assemble`; terms : of the kernel, P
    """
    if turn is None:
        return rows
    size = len(turn) * terms
    first = turn @ rows[:size].reshape(len(turn), -1)
    return np.concatenate([first.reshape(rows[:size].shape), rows[size:]])


def turned_both(matrix: np.ndarray, turn: np.ndarray | None, terms: int) -> np.ndarray:
    """(n, n) the same of a symmetric matrix, its rows and its columns turned."""
    return turned(turned(matrix, turn, terms).T, turn, terms)


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
    penalties: Sequence[Penalty] = (None,),
    turn: np.ndarray | None = None,
) -> np.ndarray:
    """(L, N) chi2 of each stamp under the fit to the used stamps of the other folds (k-fold cross-validation).

    fold : (N,) int, which one each stamp belongs to; penalties : L of them, each tried on the same equations
    turn : orthogonal, as `turned` takes it: the penalties are of the unknowns of the functions turned
    """
    gram, right, power = equations
    terms, back = kernel_terms.shape[1], None if turn is None else turn.T
    total, vector = assemble(gram, right, kernel_terms, background_terms, used)
    chi2 = np.empty((len(penalties), len(gram)))
    for k in np.unique(fold):
        out = fold == k
        drop = out & used
        rest, rest_vector = total, vector
        if drop.any():
            part, part_vector = assemble(gram, right, kernel_terms, background_terms, drop)
            rest, rest_vector = total - part, vector - part_vector
        rest, rest_vector = turned_both(rest, turn, terms), turned(rest_vector, turn, terms)
        mine = np.asarray(gram[out], np.float64)
        for n, penalty in enumerate(penalties):
            solution = turned(solve(rest, rest_vector, penalty), back, terms)
            c = local(solution, kernel_terms[out], background_terms[out])
            quadratic = np.einsum("nf,nfg,ng->n", c, mine, c, optimize=ONE_AFTER_THE_OTHER)
            chi2[n, out] = power[out] - 2 * (c * right[out]).sum(1) + quadratic
    return chi2


# ---------------------------------------------------------------- on a GPU
BLOCK, CHUNK = 256, 32
"""Threads of a block in the CUDA bodies, and pixels that one holds at a time."""


def grams_cuda(launcher: Launcher, design: Any, target: np.ndarray, weights: np.ndarray) -> Equations:
    """`grams` on a GPU.  design : (N, F, n) float32 on the device; what comes back is on the host."""
    count, functions, pixels = design.shape
    rows = functions + 1
    sums = launcher.empty((count, rows * (rows + 1) // 2), np.float64)
    arrays = [design, launcher.upload(target, np.float32), launcher.upload(weights, np.float32), sums]
    arguments = [*arrays, np.int32(functions), np.int32(pixels)]
    grid = (-(-rows * rows // BLOCK), count, 1)
    launcher.launch("normal", "grams", grid, (BLOCK, 1, 1), arguments, shared_bytes(functions))
    square = launcher.download(sums).take(_both(rows), 1)
    return square[:, :-1, :-1], square[:, :-1, -1], square[:, -1, -1]


def models_cuda(launcher: Launcher, design: Any, coefficients: np.ndarray) -> np.ndarray:
    """`models` on a GPU.  design : (N, F, n) float32 on the device; what comes back is on the host."""
    count, functions, pixels = design.shape
    out = launcher.empty((count, pixels), np.float32)
    arguments = [design, launcher.upload(coefficients, np.float32), out, np.int32(functions), np.int32(pixels)]
    launcher.launch("normal", "models", (-(-pixels // BLOCK), count, 1), (BLOCK, 1, 1), arguments)
    return launcher.download(out)


def shared_bytes(functions: int) -> int:
    """Shared memory of one block of `grams`."""
    return 8 * CHUNK * (functions + 1)
