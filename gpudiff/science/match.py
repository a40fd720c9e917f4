"""The matching kernel: fitted to stamps round stars, weighted by the noise, clipped, checked on held-back stars.

Alard & Lupton 1998; spatial variation as in Alard 2000 (A&AS 144, 363), with the kernel sum free to vary.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays import basis as bases
from gpudiff.arrays import normal
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.parallel import over
from gpudiff.arrays.polynomial import field, powers, terms
from gpudiff.arrays.stamps import stamps
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.science.stars import FEWEST, Stars

STAMP = 12, 24
"""Least and greatest half width of a stamp, pixels; between them two FWHM of the target."""
WIDEST = 31
"""Greatest half width of a kernel, pixels; below it the kernel reaches nine widths, for the wings of stars."""
ROUNDS = 3
NARROWEST = 0.6
"""Width of the matching kernel, pixels, below which the basis is not scaled."""
FLOOR = 0.002
"""Fraction of a star's flux by which no model is trusted: keeps one bright star from deciding everything."""
SKY = 0.5
"""Squared signal to noise of a pixel of the convolved image at which it counts half in the fit."""
ENOUGH = 300
"""Stars that carry the full basis at the full spatial order without being asked."""


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


@dataclass(frozen=True)
class Sample:
    """Stamps of the stars, ready to be fitted.

    target : (N, n) float32; convolved : (N, S, S) float32; usable : (N, n) bool
    own_variance : (N, n) float32, variance of a pixel of the convolved image, in the target's unit
    sky_variance, photon : variance of a difference pixel = sky_variance[n] + photon * model
    u, v : (N,) field coordinates; scale : flux of a star in the target over that in the convolved image
    steady : (N,) bool, False for a star whose flux changed: it may not pull the first fit
    """

    target: np.ndarray
    convolved: np.ndarray
    usable: np.ndarray
    own_variance: np.ndarray
    sky_variance: np.ndarray
    photon: float
    u: np.ndarray
    v: np.ndarray
    scale: float
    steady: np.ndarray
    shape: tuple[int, int]

    def trust(self, model: np.ndarray) -> np.ndarray:
        """(N, n) in [0, 1]: how much of a pixel of the convolved image is light rather than its own noise.

        Noise in what is convolved pulls the fit to kernels that smooth it away; where there is no light there
        is nothing to learn about the kernel and all of that pull.  The light is the mean star's, scaled: a
        weight that followed the pixel's own noise would bias the kernel sum.
        """
        flux = np.maximum(model.sum(1), 0)
        profile = np.maximum(model.sum(0), 0) / max(float(flux.sum()), 1e-30)
        light = (flux[:, None] * profile) ** 2
        return light / (light + SKY * self.own_variance + 1e-30)

    @property
    def side(self) -> int:
        """Pixels along a stamp."""
        return round(self.target.shape[1] ** 0.5)

    def variance(self, model: np.ndarray) -> np.ndarray:
        """(N, n) of target minus model, with the floor on trust."""
        bright = np.maximum(model, 0)
        return self.sky_variance[:, None] + bright * np.float32(self.photon) + (np.float32(FLOOR) * bright) ** 2


@dataclass(frozen=True)
class Shape:
    """One choice of basis, spatial order, and `spread`: the share of a star's light that the kernel is expected to
    move over half the field (standard deviation of a Gaussian prior), inf for no expectation."""

    gaussians: Gaussians
    spatial_order: int
    background_order: int
    spread: float = np.inf


def match(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
) -> KernelFit:
    """The kernel that takes `convolved` to the PSF and scale of `target`.

    psf : of `convolved`; widths : Gaussian widths of target and convolved stars, pixels.
    With fewer than 300 stars the basis, and how freely the kernel varies over the field, are those that predict
    held-back stars best.
    Raises NoStars when fewer than 3 stars survive.
    """
    width = max(np.sqrt(max(widths[0] ** 2 - widths[1] ** 2, 0.0)), NARROWEST)
    half = int(np.clip(np.ceil(9 * width), settings.half_width, WIDEST))
    half = min(half, (min(target.shape) - 1) // 8)
    reach = int(np.clip(np.ceil(4.7 * widths[0]), *STAMP))
    sample = _sample(target, convolved, stars, half, reach)
    psf_image = psf.at(target.shape[0] / 2, target.shape[1] / 2)
    best, least = None, np.inf
    for gaussians, shapes in _shapes(len(stars), settings).items():
        design = _design(sample, gaussians, psf_image, width, half, settings.threads)
        losses = _predict(sample, design, shapes, settings.threads)
        if best is None or min(losses) < least:
            best, least = (design, shapes[int(np.argmin(losses))]), min(losses)
    assert best is not None
    fit = _fit(sample, *best, settings.threads)
    if fit.used.sum() < FEWEST:
        raise NoStars(
            f"{target.name}: expected at least {FEWEST} stars that one matching kernel fits, "
            f"got {int(fit.used.sum())} of {len(stars)}"
        )
    return fit


FUNCTIONS_A_STAR = 2
"""Basis functions that one star can tell apart."""
MANY = 60
"""Stars from which a small basis is not worth a try."""
VARYING = 8
"""Stars below which the kernel is taken as constant."""
SPREADS = 0.002, 0.007, 0.02, 0.07, np.inf
"""Priors that are tried, the narrowest first."""
SECOND = 0.3
"""Spread of the quadratic terms over that of the linear ones."""
GRADIENT = 0.03
"""Expected relative gradient of the kernel sum, at the least: transparency and flat fields."""


def _shapes(count: int, settings: Match) -> dict[Gaussians, list[Shape]]:
    order, background = settings.spatial_order, settings.background_order
    if count >= ENOUGH:
        return {bases.FULL: [Shape(bases.FULL, order, background)]}
    sets = [one for one in bases.ALL if bases.count(one) <= FUNCTIONS_A_STAR * count] or [bases.SMALL]
    background = min(background, 0 if count < 12 else 1)
    spreads = SPREADS if order and count >= VARYING else (np.inf,)
    order = order if count >= VARYING else 0
    sets = sets if count < MANY else sets[-2:]
    return {one: [Shape(one, order, background, spread) for spread in spreads] for one in sets}


def _sample(target: Exposure, convolved: Exposure, stars: Stars, half: int, fit: int) -> Sample:
    y, x = stars.y, stars.x
    blocked = stamps((convolved.mask & bit(*UNUSABLE)) != 0, y, x, fit + half)
    blocked = _any_within(blocked | _outside(target.shape, y, x, fit + half), 2 * half + 1)
    blocked |= stamps((target.mask & bit(*UNUSABLE)) != 0, y, x, fit)
    scale, steady = _flux_ratio(target, convolved, stars)
    share = 0.07  # of white noise's variance that a typical matching kernel lets through
    variance = target.sky_variance.at(y, x) + share * scale**2 * convolved.sky_variance.at(y, x)
    count = len(y)
    height, width = target.shape
    light = np.maximum(stamps(convolved.image, y, x, fit), 0)
    own = convolved.sky_variance.at(y, x)[:, None, None] + light / np.float32(convolved.gain)
    return Sample(
        stamps(target.image, y, x, fit).reshape(count, -1),
        stamps(convolved.image, y, x, fit + half),
        ~blocked.reshape(count, -1),
        (scale**2 * own).reshape(count, -1).astype(np.float32),
        variance.astype(np.float32),
        1 / target.gain + share * scale / convolved.gain,
        field(x, width),
        field(y, height),
        scale,
        steady,
        target.shape,
    )


CHANGED = 0.1
"""Share of its flux by which a star has to differ from the others before it is called variable."""


def _flux_ratio(target: Exposure, convolved: Exposure, stars: Stars) -> tuple[float, np.ndarray]:
    """(median star's flux in the target over that in the convolved image, (N,) bool: not variable)."""
    images = target, convolved
    flux = np.array([stamps(image.image, stars.y, stars.x, 7).sum((1, 2)) for image in images])
    sky = np.array([15**2 * image.sky_variance.at(stars.y, stars.x) for image in images])
    light = np.maximum(flux, 0) / np.array([[image.gain] for image in images])
    good = (flux > 0).all(0)
    if not good.any():
        return 1.0, np.ones(len(stars), bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(good, flux[0] / flux[1], np.inf)
        error = ratio * np.sqrt(((sky + light) / flux**2).sum(0))
    where = np.stack([field(stars.x, target.shape[1]), field(stars.y, target.shape[0])], 1)
    return float(np.median(ratio[good])), steady_of(ratio, np.where(good, error, 0), where)


def steady_of(ratio: np.ndarray, error: np.ndarray, where: np.ndarray) -> np.ndarray:
    """(N,) bool: stars whose flux ratio lies on the plane over the field that most lie on.

    ratio, error : (N,), inf and 0 where a flux is not positive; where : (N, 2) u, v
    A star is off by more than 5 sigma and CHANGED.  All are steady where fewer than 3 would be left.
    """
    middle = float(np.median(ratio))
    near = np.abs(ratio - middle) < 5 * error + 3 * CHANGED * middle
    design = np.column_stack([np.ones(len(ratio)), where])
    for _ in range(3):
        if near.sum() <= 3 * design.shape[1]:
            return near if near.sum() >= FEWEST else np.ones(len(ratio), bool)
        weight = 1 / np.hypot(error[near], 0.02 * middle)
        plane = np.linalg.lstsq(design[near] * weight[:, None], ratio[near] * weight, rcond=None)[0]
        near = np.abs(ratio - design @ plane) < 5 * error + CHANGED * middle
    return near if near.sum() >= FEWEST else np.ones(len(ratio), bool)


def _outside(shape: tuple[int, int], y: np.ndarray, x: np.ndarray, half: int) -> np.ndarray:
    """(N, 2 half + 1, ...) True where a stamp's pixel lies beyond the image."""
    offset = np.arange(-half, half + 1)
    rows, columns = y[:, None] + offset, x[:, None] + offset
    rows_out, columns_out = (rows < 0) | (rows >= shape[0]), (columns < 0) | (columns >= shape[1])
    return rows_out[:, :, None] | columns_out[:, None, :]


def _any_within(flags: np.ndarray, side: int) -> np.ndarray:
    """(N, S - side + 1, ...) True where any of the side x side pixels is."""
    total = np.pad(flags, ((0, 0), (1, 0), (1, 0))).astype(np.int32).cumsum(1).cumsum(2)
    return (
        total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
    ) > 0


@dataclass(frozen=True)
class Design:
    """A basis and the stamps convolved with it.

    functions : (M, K, K) float64; values : (N, M + 1, n) float32, the last all 1 for the background
    norm : root of the summed squares of the PSF; a function's, convolved with the PSF, is 1 (the first's is about
        the PSF's own)
    """

    functions: np.ndarray
    values: np.ndarray
    norm: float

    def prior(self, shape: Shape, scale: float) -> np.ndarray | None:
        """(n,) one over the variance expected of each unknown; None where the shape expects nothing.

        What varies over the field is expected to be small; what does not vary is free, and so is the background.
        """
        if shape.spread == np.inf:
            return None
        degree = np.array([sum(power) for power in powers(shape.spatial_order)])
        smaller = np.where(degree == 2, SECOND, 1.0)
        expected = np.outer(np.full(len(self.functions), shape.spread * self.norm), smaller)
        expected[0] = max(shape.spread, GRADIENT) * smaller
        inverse = np.where(degree == 0, 0.0, (scale * expected) ** -2.0)
        return np.concatenate([inverse.ravel(), np.zeros(len(powers(shape.background_order)))])


def _design(
    sample: Sample, gaussians: Gaussians, psf: np.ndarray, width: float, half: int, threads: int
) -> Design:
    factors = bases.factors(gaussians, width, half)
    functions = bases.images(factors)
    mix = bases.orthogonal(functions, psf)
    count, size = len(sample.target), sample.side
    values = np.ones((count, len(mix) + 1, size * size), np.float32)

    def convolve(rows: slice) -> None:
        values[rows, :-1] = bases.convolve_stamps(sample.convolved[rows], factors, mix, size)

    over(convolve, [slice(i, i + 50) for i in range(0, count, 50)], threads)
    return Design(np.tensordot(mix, functions, 1), values, float(np.sqrt((psf**2).sum())))


def _predict(sample: Sample, design: Design, shapes: list[Shape], threads: int) -> list[float]:
    """How badly each shape predicts stars it was not fitted to: mean log of their reduced chi2.

    The shapes differ in their spread alone, and the weights are those of the middle one.  All steady stars and all
    their pixels count, so that a shape cannot win by throwing out what it does not fit; the logarithm keeps one
    bright star from deciding.
    """
    middle = shapes[len(shapes) // 2]
    kernel_terms = terms(sample.u, sample.v, middle.spatial_order)
    background_terms = terms(sample.u, sample.v, middle.background_order)
    priors = [design.prior(shape, sample.scale) for shape in shapes]
    state: State | None = None
    for _ in range(2):
        state = _round(sample, design, kernel_terms, background_terms, priors[len(shapes) // 2], state, threads)
        state = dataclasses.replace(state, usable=sample.usable)
    assert state is not None
    losses = (_held_back(state, kernel_terms, background_terms, prior) for prior in priors)
    return [float(loss[sample.steady].mean()) for loss in losses]


@dataclass(frozen=True)
class State:
    """Where the iteration stands: solution, model (N, n), chi2 (N,), stars and pixels in use, equations,
    and the chi2 (N,) to expect from the equations' weights."""

    solution: np.ndarray
    model: np.ndarray
    chi2: np.ndarray
    used: np.ndarray
    usable: np.ndarray
    freedom: np.ndarray
    equations: tuple[np.ndarray, np.ndarray, np.ndarray]


def _round(
    sample: Sample,
    design: Design,
    kernel_terms: np.ndarray,
    background_terms: np.ndarray,
    prior: np.ndarray | None,
    before: State | None,
    threads: int,
) -> State:
    """One weighted solve and one clipping of stars and pixels."""
    used = before.used if before else sample.steady
    usable = before.usable if before else sample.usable
    model = before.model if before else np.maximum(sample.target, 0)
    trust = usable * sample.trust(model)
    weights = (trust / sample.variance(model)).astype(np.float32)
    equations = normal.grams(design.values, sample.target, weights, threads)
    matrix, vector = normal.assemble(
        equations[0][used], equations[1][used], kernel_terms[used], background_terms[used]
    )
    solution = normal.solve(matrix, vector, prior)
    local = normal.local(solution, kernel_terms, background_terms).astype(np.float32)
    model = (local[:, None, :-1] @ design.values[:, :-1])[:, 0]
    chi = (sample.target - model - local[:, -1:]) / np.sqrt(sample.variance(model))
    chi2 = np.where(usable, chi**2, 0).sum(1) / np.maximum(usable.sum(1), 1)
    return State(
        solution,
        model,
        chi2,
        _clip(chi2, used, usable.mean(1), sample.side),
        sample.usable & (np.abs(chi) < 4.5),
        trust.sum(1),
        equations,
    )


def _fit(sample: Sample, design: Design, shape: Shape, threads: int) -> KernelFit:
    kernel_terms = terms(sample.u, sample.v, shape.spatial_order)
    background_terms = terms(sample.u, sample.v, shape.background_order)
    prior = design.prior(shape, sample.scale)
    state = None
    for _ in range(ROUNDS):
        state = _round(sample, design, kernel_terms, background_terms, prior, state, threads)
    assert state is not None
    functions = len(design.functions)
    last = functions * kernel_terms.shape[1]
    mixture = state.solution[:last].reshape(functions, -1).T
    kernel = MatchingKernel(
        np.tensordot(mixture, design.functions, 1),
        shape.spatial_order,
        sample.shape,
        state.solution[last:],
        shape.background_order,
    )
    held = _held_back(state, kernel_terms, background_terms, prior)
    chi2 = float(np.median(state.chi2[state.used]))
    return KernelFit(kernel, state.used, functions, chi2, float(np.exp(held.mean())), np.exp(held))


def _clip(chi2: np.ndarray, used: np.ndarray, usable: np.ndarray, side: int) -> np.ndarray:
    """Stars whose residual is like the others': variables and blends do not fit any kernel."""
    middle = np.median(chi2[used])
    spread = max(robust_sigma(chi2[used]), np.sqrt(2) / side, 0.05 * middle)
    again = (chi2 < middle + 4 * spread) & (usable > 0.5)
    return again if again.sum() >= FEWEST else used


def _held_back(
    state: State, kernel_terms: np.ndarray, background_terms: np.ndarray, prior: np.ndarray | None
) -> np.ndarray:
    """(N,) log reduced chi2 of each star when held back, at least log 1e-3; inf when too few to leave any out."""
    count = int(state.used.sum())
    if count < max(FEWEST, kernel_terms.shape[1] + 2):
        return np.full(len(state.used), np.inf)
    folds = min(count, 10)
    chi2 = normal.held_back(*state.equations, kernel_terms, background_terms, state.used, folds, prior)
    seen = state.freedom > 0.3 * np.median(state.freedom)
    reduced = np.where(seen, chi2 / np.maximum(state.freedom, 1e-9), 1)
    return np.log(np.maximum(reduced, 1e-3))
