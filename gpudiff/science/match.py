"""The matching kernel: fitted to stamps round stars, weighted by the noise, clipped, checked on held-back stars.

Alard & Lupton 1998; spatial variation as in Alard 2000 (A&AS 144, 363), with the kernel sum free to vary.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from gpudiff.arrays import basis as bases
from gpudiff.arrays import normal
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.passes import CPU, Convolved, Device
from gpudiff.arrays.polynomial import powers
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.science.sample import Sample, Terms, sample_of
from gpudiff.science.stars import FEWEST, Stars

STAMP = 12, 24
"""Least and greatest half width of a stamp, pixels; between them two FWHM of the target."""
WIDEST = 31
"""Greatest half width of a kernel, pixels; below it the kernel reaches nine widths, for the wings of stars."""
ROUNDS = 3
FOLDS = 10
PULLS = 4
"""Times that a round allows for the pull of the convolved image's noise, each by the solution of the one before:
where that image is as noisy as the target, and as sharp, one leaves most of it."""
NARROWEST = 0.45
"""Width of the matching kernel over that of the convolved stars below which the basis is not scaled: narrower
functions are one and the same, convolved."""
ENOUGH = 300
"""Stars that carry the full basis at the full spatial order in an engine that learns no prior."""
MANY = 60
"""The same in `match`, which does."""
EXPECTED = 0.1, 0.01
"""Share of a star's light that a function of the basis moves, and how much that varies over the field, before the
stars were asked."""

Gaussians = tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class KernelFit:
    """A fit and what it says about itself."""

    kernel: MatchingKernel
    used: np.ndarray  # (N,) bool
    basis_functions: int
    chi2: float
    chi2_held_back: float
    held_back: np.ndarray | None = None
    """(N,) reduced chi2 of each star when held back; inf where too few were left, None where nobody knows."""
    algorithm: str = ""
    """What made the kernel, where that need not be what was chosen; '' else."""
    common: tuple[float, float] = (1.0, 0.0)
    """From `in_common`."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shape:
    """One choice of spatial orders."""

    spatial_order: int
    background_order: int


def match(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
    device: Device = CPU,
) -> KernelFit:
    """The kernel that takes `convolved` to the PSF and scale of `target`.

    psf : of `convolved`; widths : Gaussian widths of target and convolved stars, pixels.
    device : where the stamps are convolved with the basis, and the normal equations summed
    How large its coefficients are expected to be is learned from the stars (`GaussianDesign.groups`); with fewer
    than MANY its spatial order is the one that predicts held-back stars best.
    Raises NoStars when fewer than 3 stars survive.
    """
    width = matching_width(widths)
    half = half_width(width, settings, target.shape)
    sample = sample_of(target, convolved, stars, half, reach_of(widths))
    psf_image = psf.at(target.shape[0] / 2, target.shape[1] / 2)
    basis = bases.basis(bases.FULL if len(stars) >= MANY else bases.LARGE, width, half, psf_image)
    design = GaussianDesign(
        basis.functions,
        device.convolved(basis, sample.convolved, sample.side, settings.threads),
        basis.shell,
        float(np.sqrt((psf_image**2).sum())),
    )
    shapes = _shapes(len(stars), settings)
    first = _rounds(sample, design, shapes[0], settings.threads, 1)
    turn, shell = bases.turned(basis, psf_image, _mean_kernel(sample, first, shapes[0]))
    design = dataclasses.replace(design, shell=shell, turn=turn)
    losses = [_predict(sample, design, shape, settings.threads) for shape in shapes] if len(shapes) > 1 else [0.0]
    shape = shapes[int(np.argmin(losses))]
    fit = _fit(sample, design, shape, settings.threads, first if shape == shapes[0] else None)
    check_stars(fit.used, target.name)
    return fit


def matching_width(widths: tuple[float, float]) -> float:
    """Gaussian width of the matching kernel, pixels; widths : of target and convolved stars."""
    return max(float(np.sqrt(max(widths[0] ** 2 - widths[1] ** 2, 0.0))), NARROWEST * widths[1])


def half_width(width: float, settings: Match, shape: tuple[int, int]) -> int:
    """Half width of a kernel of that Gaussian width, pixels; small frames get small kernels."""
    half = int(np.clip(np.ceil(9 * width), settings.half_width, WIDEST))
    return min(half, (min(shape) - 1) // 8)


def reach_of(widths: tuple[float, float]) -> int:
    """Half width of a stamp, pixels."""
    return int(np.clip(np.ceil(4.7 * widths[0]), *STAMP))


def check_stars(used: np.ndarray, name: str) -> None:
    """Raises NoStars when fewer than 3 survived."""
    if used.sum() < FEWEST:
        raise NoStars(
            f"{name}: expected at least {FEWEST} stars that one matching kernel fits, "
            f"got {int(used.sum())} of {len(used)}"
        )


def _shapes(count: int, settings: Match) -> list[Shape]:
    order, background = settings.spatial_order, settings.background_order
    if count >= MANY:
        return [Shape(order, background)]
    return [Shape(one, min(background, 0 if count < 12 else 1)) for one in range(order + 1)]


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
class GaussianDesign:
    """Gaussians times polynomials, and the stamps convolved with them.

    functions : (M, K, K) float64; convolved : the stamps, with a last function of ones for the background
    shell : (M,) from `arrays.basis.Basis`, or, of the functions turned, from `arrays.basis.turned`
    norm : root of the summed squares of the PSF; a function's, convolved with the PSF, is 1 (the first's is about
        the PSF's own)
    """

    functions: np.ndarray
    convolved: Convolved
    shell: np.ndarray
    norm: float
    turn: np.ndarray | None = None
    """(M, M) that makes the functions that what is expected is known of; None: they are `functions`."""

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> normal.Equations:
        return self.convolved.grams(target, weights, threads)

    def model(self, coefficients: np.ndarray, threads: int) -> np.ndarray:
        return self.convolved.models(coefficients)

    def groups(self, shape: Shape) -> np.ndarray:
        """(n,) int: unknowns that are expected to be of one size, negative for the kernel sum and the background.

        The functions of a shell, whatever way they point; and apart from that, how they vary over the field.
        """
        varies = np.array([sum(power) > 0 for power in powers(shape.spatial_order)])
        groups = 2 * self.shell[:, None] + varies - 1
        return np.concatenate([groups.ravel(), np.full(len(powers(shape.background_order)), -1)])

    def prior(self, shape: Shape, scale: float) -> np.ndarray:
        """(n,) one over the variance expected of each unknown before the stars were asked, 0 where free."""
        groups = self.groups(shape)
        expected = scale * self.norm * np.where(groups % 2, *EXPECTED)
        return np.where(groups < 0, 0, expected**-2.0)


def _predict(sample: Sample, design: GaussianDesign, shape: Shape, threads: int) -> float:
    """How badly a shape predicts stars it was not fitted to: mean log of their reduced chi2.

    All steady stars and all their pixels count, so that a shape cannot win by throwing out what it does not fit;
    the logarithm keeps one bright star from deciding.
    """
    field_terms = sample.terms(shape.spatial_order, shape.background_order)
    penalty: normal.Penalty = design.prior(shape, sample.scale)
    groups, state = design.groups(shape), None
    for _ in range(2):
        state = clipped_round(sample, design, field_terms, state, threads, penalty, groups, design.turn)
        state = dataclasses.replace(state, usable=sample.usable)
        penalty = state.penalty
    assert state is not None
    return float(held_back(state, field_terms, [penalty])[0][sample.steady].mean())


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


def _fit(sample: Sample, design: GaussianDesign, shape: Shape, threads: int, first: State | None) -> KernelFit:
    """first : after one round of this shape; one of another shape clips what this one would not."""
    state = _rounds(sample, design, shape, threads, ROUNDS - (first is not None), first)
    kernel = kernel_of(state.solution, design.functions, shape.spatial_order, shape.background_order, sample.shape)
    field_terms = sample.terms(shape.spatial_order, shape.background_order)
    held = held_back(state, field_terms, [state.penalty])[0]
    fit = fit_of(kernel, len(design.functions), state, held)
    return dataclasses.replace(fit, common=in_common(sample, state, field_terms))


def in_common(sample: Sample, state: State, field_terms: Terms) -> tuple[float, float]:
    """(squared significance of a pixel, share of the light) of the residual that the stars in use share.

    Each star leaves its own noise and its own neighbours; what all of them leave alike the basis does not
    describe.  Noise alone gives 1 and about 0.
    """
    light = np.maximum(state.model, 0)
    weights = state.usable * state.used[:, None] / state.variance
    flux = light.sum(1, keepdims=True)
    power = (weights * flux**2).sum(0, dtype=float)
    seen = power > 0
    if not seen.any():
        return 1.0, 0.0
    left = sample.target - state.model - normal.local(state.solution, *field_terms)[:, -1:]
    share = (weights * flux * left).sum(0)[seen] / power[seen]
    star = light.sum(0)[seen] / flux.sum()
    excess = max(float((share**2 - 1 / power[seen]).sum()), 0.0)
    return float((share**2 * power[seen]).mean()), float(np.sqrt(excess / (star**2).sum()))


def _rounds(
    sample: Sample, design: GaussianDesign, shape: Shape, threads: int, rounds: int, state: State | None = None
) -> State:
    """The state after some clipped rounds from the given one, the prior learned in each."""
    field_terms = sample.terms(shape.spatial_order, shape.background_order)
    penalty: normal.Penalty = design.prior(shape, sample.scale)
    for _ in range(rounds):
        state = clipped_round(
            sample, design, field_terms, state, threads, penalty, design.groups(shape), design.turn
        )
        penalty = state.penalty
    assert state is not None
    return state


def _mean_kernel(sample: Sample, state: State, shape: Shape) -> np.ndarray:
    """(M,) coefficients of the mean kernel of the stars in use."""
    field_terms = sample.terms(shape.spatial_order, shape.background_order)
    return normal.local(state.solution, *field_terms)[state.used, :-1].mean(0)


def fit_of(kernel: MatchingKernel, functions: int, state: State, held: np.ndarray) -> KernelFit:
    """What the last state of a fit says about it; held : (N,) from `held_back`."""
    chi2 = float(np.median(state.chi2[state.used]))
    return KernelFit(kernel, state.used, functions, chi2, float(np.exp(held.mean())), np.exp(held))


def kernel_of(
    solution: np.ndarray, functions: np.ndarray, order: int, background_order: int, shape: tuple[int, int]
) -> MatchingKernel:
    """The kernel that a solution of the normal equations stands for."""
    last = len(functions) * len(powers(order))
    mixture = solution[:last].reshape(len(functions), -1).T
    return MatchingKernel(np.tensordot(mixture, functions, 1), order, shape, solution[last:], background_order)


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
