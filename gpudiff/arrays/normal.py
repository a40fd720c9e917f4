"""Normal equations of the spatially varying kernel: a Gram matrix a stamp, assembled over the field.

The polynomial is constant within a stamp, so the (M P + Q)^2 system is the Kronecker product of small ones.
Sums and the solve are float64: the condition number reaches 3e10.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.parallel import over

Equations = np.ndarray
"""(N, E) from `grams`: of the sums of each stamp, which are symmetric, the upper triangle."""

Penalty = np.ndarray | None
"""Added to the matrix of the normal equations: (n,) its diagonal, one over the variance expected of each unknown
about 0, or (n, n), positive semi-definite; None for nothing."""

RIDGE = 1e-10
"""Added to the diagonal of a matrix that is scaled to ones there."""
COPIED = 1 << 23
"""Elements of Gram matrices that are copied at a time."""


def grams(design: np.ndarray, target: np.ndarray, weights: np.ndarray, threads: int = 0) -> Equations:
    """(N, E) float64 upper triangle, row by row, of B W B^T of each stamp, the rows of B its F functions and last
    its target; E is (F + 1) (F + 2) / 2.

    design : (N, F, n) float32, F functions; target, weights : (N, n) float32, weights not negative
    Float32 sums moved a difference by 3e-4 sigma next to bright stars.
    """
    count, functions, pixels = design.shape
    row, column = _upper(functions + 1)
    places = row * (functions + 1) + column
    sums = np.empty((count, entries(functions)))

    def part(rows: slice) -> None:
        scaled = np.empty((functions + 1, pixels))
        for n in range(*rows.indices(count)):
            root = np.sqrt(weights[n], dtype=np.float64)
            np.multiply(design[n], root, out=scaled[:-1])
            np.multiply(target[n], root, out=scaled[-1])
            square = scaled @ scaled.T  # a matrix and its own transpose: half the products
            square.take(places, out=sums[n])

    over(part, [slice(i, i + 50) for i in range(0, count, 50)], threads)
    return sums


def entries(functions: int) -> int:
    """E of `grams`, for F functions."""
    return (functions + 1) * (functions + 2) // 2


def unpacked(sums: np.ndarray) -> np.ndarray:
    """(..., R, R) the symmetric matrices of which (..., E) has the upper triangle."""
    return sums.take(_both(_rows(sums)), -1)


def _rows(sums: np.ndarray) -> int:
    """Of the square whose upper triangle has so many entries, (..., E)."""
    return math.isqrt(2 * sums.shape[-1])


def models(design: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(N, n) float32: the functions of each stamp, but the last, times its coefficients.

    design : (N, F, n) float32; coefficients : (N, F - 1) float32
    """
    return (coefficients[:, None] @ design[:, :-1])[:, 0]


def assemble(
    equations: Equations,
    kernel_terms: np.ndarray,
    background_terms: np.ndarray,
    used: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """(H, r) of all stamps together; unknowns: M functions x P kernel terms, then Q background terms.

    equations : of the stamps, their last function the background's constant
    kernel_terms : (N, P); background_terms : (N, Q); used : (N,) bool, the stamps in the fit, None for all
    """
    rows = np.arange(len(equations)) if used is None else np.flatnonzero(used)
    kernel_terms, background_terms = kernel_terms[rows], background_terms[rows]
    places, terms, others = _both(_rows(equations)), kernel_terms.shape[1], background_terms.shape[1]
    last = len(places) - 2  # behind the M functions the constant, and the target
    one, other = _upper(terms)  # the rest is the same by symmetry
    kk = kernel_terms[:, one] * kernel_terms[:, other]
    kb = (kernel_terms[:, :, None] * background_terms[:, None]).reshape(len(rows), terms * others)
    bb = (background_terms[:, :, None] * background_terms[:, None]).reshape(len(rows), others**2)
    block = np.zeros((equations.shape[1], len(one)))
    constant, target = np.empty((2, len(rows), last + 1))
    step = max(COPIED // equations.shape[1], 1)
    for some in (slice(i, i + step) for i in range(0, len(rows), step)):
        part = equations[rows[some]]
        block += part.T @ kk[some]
        constant[some], target[some] = part[:, places[:-1, last]], part[:, places[:-1, -1]]
    size = last * terms
    matrix = np.empty((size + others, size + others))
    whole = block[places[:last, :last]].take(_both(terms), 2)
    matrix[:size, :size].reshape(last, terms, last, terms)[:] = whole.transpose(0, 2, 1, 3)
    matrix[:size, size:] = (constant[:, :last].T @ kb).reshape(size, others)
    matrix[size:, :size] = matrix[:size, size:].T
    matrix[size:, size:] = (constant[:, last] @ bb).reshape(others, others)
    vector = np.concatenate([(target[:, :last].T @ kernel_terms).ravel(), target[:, last] @ background_terms])
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


def solve(matrix: np.ndarray, vector: np.ndarray, penalty: Penalty = None) -> np.ndarray:
    """Solution of the scaled, barely regularised normal equations, float64."""
    if penalty is not None:
        matrix = matrix + (np.diag(penalty) if penalty.ndim == 1 else penalty)
    scale = np.sqrt(np.maximum(np.diag(matrix), 0)) + 1e-30
    scaled = matrix / scale[:, None] / scale
    scaled[np.diag_indices_from(scaled)] += RIDGE
    if penalty is not None:  # made positive definite: half the time
        factor = scipy.linalg.cho_factor(scaled.T, overwrite_a=True, check_finite=False)
        return scipy.linalg.cho_solve(factor, vector / scale, check_finite=False) / scale
    return np.linalg.solve(scaled, vector / scale) / scale


def least_ratio(matrix: np.ndarray, other: np.ndarray) -> float:
    """The least of c' matrix c / c' other c, of all c but those to which `other` gives less than a thousandth of
    its largest eigenvalue: there sums in float32 say nothing.

    matrix, other : (M, M) symmetric, `other` positive semidefinite and not 0
    """
    value, axes = np.linalg.eigh(other)
    kept = value > 1e-3 * value[-1]
    axes = axes[:, kept] / np.sqrt(value[kept])
    return float(np.linalg.eigvalsh(axes.T @ matrix @ axes)[0])


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
        lower = scipy.linalg.cholesky(scaled.T, lower=True, overwrite_a=True, check_finite=False)
        root = scipy.linalg.lapack.dtrtri(lower, lower=1)[0]
        variance = np.einsum("ij,ij->j", root, root) / scale**2
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
    terms, back = kernel_terms.shape[1], None if turn is None else turn.T
    folds = np.unique(fold)
    parts = [assemble(equations, kernel_terms, background_terms, used & (fold == k)) for k in folds]
    parts = [(turned_both(matrix, turn, terms), turned(vector, turn, terms)) for matrix, vector in parts]
    matrices, vectors = zip(*parts, strict=True)
    chi2 = np.empty((len(penalties), len(equations)))
    for k, name in enumerate(folds):
        out = fold == name
        # the sum of all less the part would keep the rounding of a bright star in it, and may be indefinite
        rest, rest_vector = (sum(every[:k] + every[k + 1 :]) for every in (matrices, vectors))
        mine = unpacked(equations[out])
        for n, penalty in enumerate(penalties):
            solution = turned(solve(rest, rest_vector, penalty), back, terms)
            c = local(solution, kernel_terms[out], background_terms[out])
            left = np.concatenate([c, np.full((len(c), 1), -1.0)], 1)  # of the functions what makes the target
            chi2[n, out] = ((left[:, None] @ mine)[:, 0] * left).sum(1)
    return chi2


# ---------------------------------------------------------------- on a GPU
BLOCK, CHUNK = 256, 32
"""Threads of a block in the CUDA bodies, and pixels that one holds at a time."""


def grams_cuda(launcher: Launcher, design: Any, target: np.ndarray, weights: np.ndarray) -> Equations:
    """`grams` on a GPU.  design : (N, F, n) float32 on the device; what comes back is on the host."""
    count, functions, pixels = design.shape
    rows = functions + 1
    sums = launcher.empty((count, entries(functions)), np.float64)
    arrays = [design, launcher.upload(target, np.float32), launcher.upload(weights, np.float32), sums]
    arguments = [*arrays, np.int32(functions), np.int32(pixels)]
    grid = (-(-rows * rows // BLOCK), count, 1)
    launcher.launch("normal", "grams", grid, (BLOCK, 1, 1), arguments, shared_bytes(functions))
    return launcher.download(sums)


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
