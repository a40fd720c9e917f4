"""The matching kernel pixel by pixel, for PSFs that Gaussians do not make: defocused, trailed, double.

A regularised delta basis (Becker et al. 2012, MNRAS 425, 1341) on the same stamps, weights and clipping as
`science.match`; how smooth the kernel has to be is what predicts held-back stars best.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays import delta as pixels
from gpudiff.arrays import normal
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.polynomial import powers
from gpudiff.arrays.stamps import convolved as convolved_stamps
from gpudiff.model.config import Match
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import PsfModel
from gpudiff.science.match import (
    ENOUGH,
    KernelFit,
    check_stars,
    fit_of,
    half_width,
    kernel_of,
    matching_width,
    reach_of,
)
from gpudiff.science.rounds import State, clipped_round, held_back
from gpudiff.science.sample import Sample, sample_of
from gpudiff.science.stars import Stars

FUNCTIONS = 300
"""Pixels of the kernel, fine and coarse, at most: with six spatial terms 1,800 unknowns."""
STRENGTHS = tuple(10.0**n for n in range(-5, 3))
"""Of the penalty, relative to what the stars say: the ratio of the traces of the two matrices."""
NEIGHBOURS = 2
"""Steps by which the best strength differs at most from one spatial order to the next."""
VARIATION = 100.0
"""How much more the penalty counts for the kernel's variation over the field than for the kernel."""
FIRST = 0.1
"""Strength before the stars were asked."""
FOLDS = 5
ROUNDS = 2


@dataclass(frozen=True)
class PixelDesign:
    """The delta basis.  Its convolved stamps are shifted copies, made where they are needed and not kept."""

    label: np.ndarray
    functions: np.ndarray
    convolved: np.ndarray
    size: int

    def grams(self, target: np.ndarray, weights: np.ndarray, threads: int) -> normal.Equations:
        count = len(target)
        sums = np.empty((count, normal.entries(len(self.functions) + 1)))

        def part(rows: slice) -> None:
            values = pixels.convolve_stamps(self.convolved[rows], self.label, self.size)
            sums[rows] = normal.grams(values, target[rows], weights[rows], threads=1)

        over(part, [slice(i, i + pixels.BATCH) for i in range(0, count, pixels.BATCH)], threads)
        return sums

    def model(self, coefficients: np.ndarray, threads: int) -> np.ndarray:
        kernels = np.tensordot(coefficients, self.functions.astype(np.float32), 1)
        return convolved_stamps(self.convolved, kernels, self.size)


@dataclass(frozen=True)
class Smoothness:
    """How a kernel is penalised.

    rough : (F, F) from `arrays.delta.roughness`; unit : what makes it as large as what the stars say
    strength : of the penalty, in that unit
    order, background_order : of the polynomials of kernel and background
    """

    rough: np.ndarray
    unit: float
    strength: float
    order: int
    background_order: int

    def matrix(self) -> np.ndarray:
        """As the normal equations want it: nothing on the background."""
        kernel = self.unit * self.strength * pixels.over_the_field(self.rough, self.order, VARIATION)
        return np.pad(kernel, (0, len(powers(self.background_order))))


def delta(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
    device: Device = CPU,
) -> KernelFit:
    """As `science.match.match`, with a kernel of free pixels.

    Raises NoStars when fewer than 3 stars survive.
    """
    reach = reach_of(widths)
    half = _half(matching_width(widths), reach, settings, target.shape)
    sample = sample_of(target, convolved, stars, half, reach)
    check_stars(sample.usable.mean(1) > 0.5, target.name)
    label = pixels.labels(_light(sample, half), FUNCTIONS)
    design = PixelDesign(label, pixels.images(label), sample.convolved, sample.side)
    chosen, state = choose(sample, design, pixels.roughness(design.functions, widths[0]), settings)
    field_terms = sample.terms(chosen.order, chosen.background_order)
    penalty = chosen.matrix()
    for _ in range(ROUNDS):
        state = clipped_round(sample, design, field_terms, state, settings.threads, penalty)
    check_stars(state.used, target.name)
    kernel = kernel_of(state.solution, design.functions, chosen.order, chosen.background_order, sample.shape)
    return fit_of(kernel, len(design.functions), state, held_back(state, field_terms, [penalty], FOLDS)[0])


def _half(width: float, reach: int, settings: Match, shape: tuple[int, int]) -> int:
    """Half width of the kernel, pixels: whole blocks, and no farther than a stamp reaches, if it may be chosen.

    A kernel pixel that no stamp shows the middle of a star through would be noise, times the brightest star.
    """
    half = min(half_width(width, settings, shape), max(reach, settings.half_width))
    blocks = -(-(2 * half + 1) // pixels.BLOCK)
    return pixels.BLOCK * (blocks + 1 - blocks % 2) // 2


def _light(sample: Sample, half: int) -> np.ndarray:
    """(K, K) the median star of the target."""
    flux = np.maximum(sample.target.sum(1), 1e-30)
    star = np.median(sample.target / flux[:, None], axis=0).reshape(sample.side, sample.side)
    beyond = half - sample.side // 2
    return np.pad(star, beyond) if beyond >= 0 else star[-beyond:beyond, -beyond:beyond]


def _orders(count: int, settings: Match) -> tuple[list[int], int]:
    """(spatial orders that so many stars may carry, background order)."""
    if count >= ENOUGH:
        return [settings.spatial_order], settings.background_order
    highest = min(settings.spatial_order, 0 if count < 8 else 1 if count < 25 else 2)
    return list(range(highest + 1)), min(settings.background_order, 0 if count < 12 else 1)


def choose(sample: Sample, design: PixelDesign, rough: np.ndarray, settings: Match) -> tuple[Smoothness, State]:
    """The strength of the penalty and the spatial order that predict held-back stars best; where to start from.

    The strength is looked for with a constant kernel, which costs little, and then near that for each order.
    """
    orders, background = _orders(len(sample.target), settings)
    state = _first(sample, design, rough, background, settings.threads)
    unit = float(np.trace(normal.unpacked(state.equations.sum(0))[:-2, :-2]) / np.trace(rough))
    near, loss = len(STRENGTHS) // 2, np.inf
    best = Smoothness(rough, unit, STRENGTHS[near], orders[0], background)
    for order in sorted({0, *orders}):
        steps = [n for n in range(len(STRENGTHS)) if order == 0 or abs(n - near) <= NEIGHBOURS]
        trials = [Smoothness(rough, unit, STRENGTHS[n], order, background) for n in steps]
        field_terms = sample.terms(order, background)
        held = held_back(state, field_terms, [trial.matrix() for trial in trials], FOLDS)
        losses = held[:, sample.steady].mean(1)
        least = int(np.argmin(losses))
        near = steps[least]
        if order in orders and losses[least] < loss:
            best, loss = trials[least], losses[least]
    return best, dataclasses.replace(state, used=sample.steady)


def _first(sample: Sample, design: PixelDesign, rough: np.ndarray, background: int, threads: int) -> State:
    """The equations with weights from a first fit; all steady stars and pixels count, as in `match`."""
    field_terms = sample.terms(0, background)
    information = (sample.usable / sample.sky_variance[:, None] * np.maximum(sample.target, 0) ** 2).sum()
    penalty = Smoothness(rough, float(information / np.trace(rough)), FIRST, 0, background).matrix()
    state: State | None = None
    for _ in range(2):
        state = clipped_round(sample, design, field_terms, state, threads, penalty)
        state = dataclasses.replace(state, usable=sample.usable)
    assert state is not None
    return state
