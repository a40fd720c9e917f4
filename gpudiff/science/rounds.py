"""Rounds of the fit of a matching kernel: solve, allow for the noise of what is convolved, clip; hold back."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from gpudiff.arrays import normal
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.science.sample import Sample, Terms
from gpudiff.science.stars import FEWEST

FOLDS = 10
"""Parts of the stars that are held back in turn."""
PULLS = 4
"""Times that a round allows for the pull of the convolved image's noise, each by the solution of the one before:
where that image is as noisy as the target, and as sharp, one leaves most of it."""


class Design(Protocol):
    """A basis of M functions, and stamps that can be convolved with it."""

    @property
    def functions(self) -> np.ndarray:
        """(M, K, K) float64."""

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> normal.Equations:
        """As `arrays.normal.grams`, of the M convolved stamps and a constant."""

    def model(self, coefficients: np.ndarray, threads: int) -> np.ndarray:
        """(N, n) float32: each stamp convolved with the kernel of its own (N, M) float32 coefficients."""


@dataclass(frozen=True)
class State:
    """Where the iteration stands: the sample with its noise as seen, solution, model (N, n) and `Sample.variance`
    with it, chi2 (N,), stars and pixels in use, equations and what was added to them, turned, and the chi2 (N,) to
    expect from their weights."""

    sample: Sample
    solution: np.ndarray
    model: np.ndarray
    variance: np.ndarray
    chi2: np.ndarray
    used: np.ndarray
    usable: np.ndarray
    freedom: np.ndarray
    equations: normal.Equations
    penalty: normal.Penalty
    turn: np.ndarray | None


def clipped_round(
    sample: Sample,
    design: Design,
    field_terms: Terms,
    before: State | None,
    threads: int,
    penalty: normal.Penalty = None,
    groups: np.ndarray | None = None,
    turn: np.ndarray | None = None,
) -> State:
    """One weighted solve and one clipping of stars and pixels; the first is of the steady stars.

    groups : of unknowns, for which the penalty is where `arrays.normal.likeliest` starts; None: it stays as it is
    turn : `GaussianDesign.turn`, for penalty and groups are of the unknowns of the functions turned
    """
    sample = before.sample if before else sample
    used = before.used if before else sample.steady
    usable = before.usable if before else sample.usable
    model = before.model if before else np.maximum(sample.target, 0)
    variance = before.variance if before else sample.variance(model)
    trust = usable * sample.trust(model)
    weights = (trust / variance).astype(np.float32)
    equations = design.grams(sample.target, weights, threads)
    matrix, vector = normal.assemble(equations, *field_terms, used)
    terms = field_terms[0].shape[1]
    turned = normal.turned_both(matrix, turn, terms)

    def solved(right: np.ndarray) -> np.ndarray:
        back = None if turn is None else turn.T
        return normal.turned(normal.solve(turned, normal.turned(right, turn, terms), penalty), back, terms)

    right, pulled = vector, None
    if before is not None and len(before.solution) == len(vector):  # of the same terms
        pull = _least_pull(sample.pull(weights, design.functions), matrix, terms, used)
        pulled = partial(_pulled, vector, pull, field_terms, used)
        right = pulled(before.solution)
    if groups is not None:
        assert penalty is not None
        penalty = normal.likeliest(turned, normal.turned(right, turn, terms), groups, penalty)
    solution = solved(right)
    if pulled is not None:
        for _ in range(PULLS - 1):
            solution = solved(pulled(solution))
    local = normal.local(solution, *field_terms).astype(np.float32)
    model = design.model(local[:, :-1], threads)
    left = sample.target - model - local[:, -1:]
    kernel = np.tensordot(local[used, :-1].mean(0), design.functions, 1)
    sample = sample.seen(model, left, usable, kernel)
    variance, count = sample.variance(model), np.count_nonzero(usable, 1)
    chi = left / np.sqrt(variance)
    chi2 = np.where(usable, chi**2, 0).sum(1) / np.maximum(count, 1)
    return State(
        sample,
        solution,
        model,
        variance,
        chi2,
        clip(chi2, used, count / usable.shape[1], sample.side),
        sample.usable & (np.abs(chi) < 4.5),
        trust.sum(1),
        equations,
        penalty,
        turn,
    )


def _least_pull(
    pull: tuple[np.ndarray, np.ndarray], matrix: np.ndarray, terms: int, used: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`Sample.pull`, but no more than the stamps have: a gain far too small says more than there is."""
    power, overlap = pull
    size = len(overlap) * terms
    there = normal.least_ratio(matrix[:size:terms, :size:terms], overlap)  # by the kernel that is constant
    return power * min(1.0, there / max(power[used].sum(), 1e-30)), overlap


def _pulled(
    vector: np.ndarray,
    pull: tuple[np.ndarray, np.ndarray],
    field_terms: Terms,
    used: np.ndarray,
    solution: np.ndarray,
) -> np.ndarray:
    """The right side of the normal equations with what it lacks by a solution.  pull : from `_least_pull`"""
    power, overlap = pull
    lacks = power[:, None] * (normal.local(solution, *field_terms)[:, :-1] @ overlap)
    right = vector.copy()
    right[: len(overlap) * field_terms[0].shape[1]] += (lacks[used].T @ field_terms[0][used]).ravel()
    return right


def clip(chi2: np.ndarray, used: np.ndarray, usable: np.ndarray, side: int) -> np.ndarray:
    """Stars whose residual is like the others': variables and blends do not fit any kernel."""
    middle = np.median(chi2[used])
    spread = max(robust_sigma(chi2[used]), np.sqrt(2) / side, 0.05 * middle)
    again = (chi2 < middle + 4 * spread) & (usable > 0.5)
    return again if again.sum() >= FEWEST else used


def held_back(
    state: State, field_terms: Terms, penalties: Sequence[normal.Penalty], folds: int = FOLDS
) -> np.ndarray:
    """(L, N) log reduced chi2 of each star when held back, under each of L penalties; inf when too few to leave
    any out."""
    count = int(state.used.sum())
    if count < max(FEWEST, field_terms[0].shape[1] + 2):
        return np.full((len(penalties), len(state.used)), np.inf)
    fold = np.arange(len(state.used)) % min(count, folds)
    chi2 = normal.held_back(state.equations, *field_terms, state.used, fold, penalties, state.turn)
    return log_reduced(chi2, state.freedom)


def log_reduced(chi2: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Logarithm of chi2 (..., N) over what to expect (N,), at least log 1e-3; 0 for a star that is hardly seen."""
    seen = freedom > 0.3 * np.median(freedom)
    return np.log(np.maximum(np.where(seen, chi2 / np.maximum(freedom, 1e-9), 1), 1e-3))
