"""The matching kernel from every pixel that shows light, for fields too crowded to have isolated stars.

The frame is cut into tiles that are treated as stamps: each is convolved with the basis, weighted, and reduced to
its Gram matrix at once, so that memory holds a few tiles and one small matrix a tile, whatever the frame's size.
Least squares over the whole image as in Alard & Lupton 1998, section 2, and Bramich 2008 (MNRAS 386, L77).
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays import basis as bases
from gpudiff.arrays import normal, static_light
from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.polynomial import field, powers, terms
from gpudiff.arrays.stamps import convolved as convolved_stamps
from gpudiff.model.config import Match
from gpudiff.model.errors import NoStars
from gpudiff.model.frame import Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.science.match import (
    ENOUGH,
    Gaussians,
    KernelFit,
    check_stars,
    kernel_of,
    match,
    matching_width,
    reach_of,
)
from gpudiff.science.rounds import clip, log_reduced
from gpudiff.science.sample import SKY, Sample, patches, sample_of
from gpudiff.science.stars import FEWEST, Stars

SIDE = 33, 65
"""Least and greatest side of a tile, px; between them a 32nd of the frame, for the kernel is constant in it."""
BATCH = 8
"""Tiles that are in memory at a time, in each thread."""
VARIABLE = 0.01
"""Share of its light by which no star is called variable: the kernel is not known better before the fit."""
UNKNOWNS_A_TILE = 2.0
"""Of the tiles that show light; above it the fit follows their noise."""
FOLDS = 10
BLOCK = 2
"""Tiles along each side of the square that is held back together: neighbours share stars."""


@dataclass(frozen=True)
class Tiles:
    """The pair, and the middles of the tiles that cover it: y, x (N,) int, fold (N,) int.

    reach : half width of a tile; half : of the kernel, pixels; scale : target's flux over the convolved image's
    passed : as in `Sample`
    """

    target: Exposure
    convolved: Exposure
    y: np.ndarray
    x: np.ndarray
    fold: np.ndarray
    reach: int
    half: int
    scale: float
    passed: float

    def __len__(self) -> int:
        return len(self.y)

    def cut(self, rows: slice) -> Sample:
        """Some of the tiles as stamps."""
        y, x = self.y[rows], self.x[rows]
        made = patches(self.target, self.convolved, y, x, self.half, self.reach, self.scale)
        return dataclasses.replace(made, passed=self.passed)

    def fold_at(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(n,) fold of the tile at each position."""
        side, columns = 2 * self.reach + 1, len(np.unique(self.x))
        j, i = (y - self.y[0] + self.reach) // side, (x - self.x[0] + self.reach) // side
        return self.fold[j * columns + i]

    def terms(self, order: int) -> np.ndarray:
        """(N, P) polynomial terms of the field at their middles."""
        height, width = self.target.shape
        return terms(field(self.x, width), field(self.y, height), order)


@dataclass(frozen=True)
class Sums:
    """What a pass over the image leaves of every tile, (N, ...) each.

    equations : as `arrays.normal.grams`; chi2 : under the kernel before; freedom : the chi2 to expect
    """

    equations: normal.Equations
    chi2: np.ndarray
    freedom: np.ndarray

    def agreeing(self) -> np.ndarray:
        """(N,) bool: tiles that show light, and whose residual is like the others'."""
        seen = self.freedom > 1
        reduced = self.chi2 / np.maximum(self.freedom, 1)
        spread = np.maximum(robust_sigma(reduced[seen]), np.sqrt(2 / np.maximum(self.freedom, 1)))
        return seen & (reduced < np.median(reduced[seen]) + 4 * spread) if seen.any() else seen


@dataclass(frozen=True)
class Shape:
    """A basis and the orders of the polynomials of kernel and background."""

    basis: bases.Basis
    order: int
    background_order: int

    def kernel(self, tiles: Tiles, sums: Sums, among: np.ndarray | bool = True) -> MatchingKernel:
        """The fit to the tiles that agree, `among` (N,) bool those."""
        matrix, vector = normal.assemble(sums.equations, *self._terms(tiles), sums.agreeing() & among)
        solution = normal.solve(matrix, vector)
        return kernel_of(solution, self.basis.functions, self.order, self.background_order, tiles.target.shape)

    @property
    def unknowns(self) -> int:
        """Of the kernel."""
        return len(self.basis.functions) * len(powers(self.order))

    def loss(self, tiles: Tiles, sums: Sums) -> float:
        """Reduced chi2 of the tiles that agree, each under the fit to those of the other folds."""
        used = sums.agreeing()
        chi2 = normal.held_back(sums.equations, *self._terms(tiles), used, tiles.fold)[0]
        return float(chi2[used].sum() / sums.freedom[used].sum())

    def _terms(self, tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
        return tiles.terms(self.order), tiles.terms(self.background_order)


def whole_image(
    target: Exposure,
    convolved: Exposure,
    stars: Stars,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
    device: Device = CPU,
) -> KernelFit:
    """As `science.match.match`, from all pixels that show light and agree with the rest.

    The kernel that `match` finds says at first what agrees.  With fewer than 300 stars the basis and the spatial
    order are those that predict held-back tiles best.
    `chi2` and `used` are of the stars under the final kernel, `held_back` of all stars, each under the fit to the
    tiles of other folds than its own.
    Raises NoStars when fewer than 3 stars, or tiles, survive.
    """
    start = match(target, convolved, stars, psf, widths, settings, device).kernel
    sample = sample_of(target, convolved, stars, start.half, reach_of(widths))
    images, background = _local(start, sample)
    sample = sample.seen(*_under(images, background, sample), sample.usable, images.mean(0))
    tiles = tiles_of(target, convolved, start.half, sample.scale, sample.passed)
    shape, sums = _choose(tiles, start, len(stars), psf, widths, settings)
    sums = sums_of(tiles, shape.basis, shape.kernel(tiles, sums), settings.threads)
    kernel = shape.kernel(tiles, sums)
    chi2, used, usable = _stars_under(kernel, sample)
    check_stars(used, target.name)
    held = _held_back(shape, tiles, sums, sample, usable, tiles.fold_at(stars.y, stars.x))
    functions, middle = len(shape.basis.functions), float(np.median(chi2[used]))
    return KernelFit(kernel, used, functions, middle, float(np.exp(held.mean())), np.exp(held))


def tiles_of(target: Exposure, convolved: Exposure, half: int, scale: float, passed: float) -> Tiles:
    """Tiles in the middle of the image, of sides as SIDE says, in FOLDS folds of squares as BLOCK says."""
    side = int(np.clip(min(target.shape) // 32, *SIDE)) | 1
    counts = [-(-pixels // side) for pixels in target.shape]
    middles = [
        (pixels - count * side) // 2 + side // 2 + side * np.arange(count)
        for pixels, count in zip(target.shape, counts, strict=True)
    ]
    j, i = (index.ravel() for index in np.indices(counts))
    fold = (j // BLOCK * (1 + counts[1] // BLOCK) + i // BLOCK) % FOLDS
    return Tiles(target, convolved, middles[0][j], middles[1][i], fold, side // 2, half, scale, passed)


def _choose(
    tiles: Tiles,
    start: MatchingKernel,
    stars: int,
    psf: PsfModel,
    widths: tuple[float, float],
    settings: Match,
) -> tuple[Shape, Sums]:
    """The basis and spatial order that predict held-back tiles best, and the sums of a first pass with it."""
    middle = psf.at(tiles.target.shape[0] / 2, tiles.target.shape[1] / 2)
    highest = settings.spatial_order
    sets: tuple[Gaussians, ...] = bases.ALL
    orders = range(highest + 1)
    if stars >= ENOUGH:
        sets, orders = (bases.FULL,), range(highest, highest + 1)
    best: tuple[float, Shape, Sums] | None = None
    for gaussians in sets:
        basis = bases.basis(gaussians, matching_width(widths), start.half, middle)
        sums = sums_of(tiles, basis, start, settings.threads)
        seen = int(sums.agreeing().sum())
        if seen < FEWEST:
            raise NoStars(
                f"{tiles.target.name}: expected at least {FEWEST} tiles with light that "
                f"one matching kernel fits, got {seen} of {len(tiles)}"
            )
        background = min(settings.background_order, 0 if seen < 12 else 1 if seen < 60 else 2)
        for shape in (Shape(basis, order, background) for order in orders):
            if best and shape.unknowns > UNKNOWNS_A_TILE * seen:
                continue
            loss = shape.loss(tiles, sums)
            if best is None or loss < best[0]:
                best = loss, shape, sums
    assert best is not None
    return best[1:]


def sums_of(tiles: Tiles, basis: bases.Basis, kernel: MatchingKernel, threads: int) -> Sums:
    """The equations of all tiles, weighted and rid of what `kernel` says is not static."""
    count = len(tiles)
    equations = np.empty((count, normal.entries(len(basis.functions) + 1)))
    chi2, freedom = np.empty((2, count))

    def part(rows: slice) -> None:
        sample = tiles.cut(rows)
        model, residual = _under(*_local(kernel, sample), sample)
        trust = _trust(model, residual, sample)
        weights = trust / sample.variance(model)
        chi2[rows], freedom[rows] = (weights * residual**2).sum(1), trust.sum(1)
        values = basis.convolve(sample.convolved, sample.side)
        equations[rows] = normal.grams(values, sample.target, weights, threads=1)

    over(part, [slice(i, i + BATCH) for i in range(0, count, BATCH)], threads)
    return Sums(equations, chi2, freedom)


def _local(kernel: MatchingKernel, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """The kernel (N, K, K) and the background (N,) at each stamp."""
    images = np.tensordot(terms(sample.u, sample.v, kernel.order), kernel.coefficients, 1)
    return images, terms(sample.u, sample.v, kernel.background_order) @ kernel.background


def _under(images: np.ndarray, background: np.ndarray, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """(model, residual) (N, n) float32 of stamps: the convolved image matched, and the target less it and sky."""
    model = convolved_stamps(sample.convolved, images, sample.side)
    return model, sample.target - model - background[:, None].astype(np.float32)


def _trust(model: np.ndarray, residual: np.ndarray, sample: Sample) -> np.ndarray:
    """(N, n) float32 in [0, 1): a pixel's share of light, 0 where it is unusable or changed."""
    square = len(model), sample.side, sample.side
    sky = sample.own_variance.min(1)
    light = static_light.share_of_light(model.reshape(square), sky, SKY).reshape(model.shape)
    doubt = np.sqrt(sample.variance(model) + (np.float32(VARIABLE) * np.maximum(model, 0)) ** 2)
    chi = np.where(sample.usable, residual / doubt, 0)
    changed = static_light.changed(chi.reshape(square)).reshape(model.shape)
    return light * (sample.usable & ~changed)


def _stars_under(kernel: MatchingKernel, sample: Sample) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chi2 (N,) of each star, used (N,): those like the others, usable (N, n): pixels), as `match` has them."""
    model, residual = _under(*_local(kernel, sample), sample)
    chi2 = residual**2 / sample.variance(model)
    usable = sample.usable & (chi2 < static_light.OUTLIER**2)
    mean = np.where(usable, chi2, 0).sum(1) / np.maximum(usable.sum(1), 1)
    return mean, clip(mean, np.ones(len(mean), bool), usable.mean(1), sample.side), usable


def _held_back(
    shape: Shape, tiles: Tiles, sums: Sums, sample: Sample, usable: np.ndarray, fold: np.ndarray
) -> np.ndarray:
    """(N,) log reduced chi2 of each star under the kernel of the tiles of other folds than its own."""
    images, background = _local(shape.kernel(tiles, sums), sample)
    for k in np.unique(fold):
        others = _local(shape.kernel(tiles, sums, tiles.fold != k), sample)
        images[fold == k], background[fold == k] = (one[fold == k] for one in others)
    model, residual = _under(images, background, sample)
    trust = usable * sample.trust(model)
    return log_reduced((trust * residual**2 / sample.variance(model)).sum(1), trust.sum(1))
