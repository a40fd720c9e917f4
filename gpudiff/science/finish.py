"""What is done with any subtracted planes: they are decorrelated, scored, allowed for at stars, and described."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from gpudiff.arrays.afar import Afar, lattice, numbers
from gpudiff.arrays.box import grown
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.parallel import another, over
from gpudiff.arrays.passes import Device
from gpudiff.arrays.score_tiles import Filters, scorer
from gpudiff.arrays.subtract_tiles import borders
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.model.config import Configuration
from gpudiff.model.frame import Difference, Exposure, Quality
from gpudiff.model.kernel import PsfModel
from gpudiff.science import noise as noises
from gpudiff.science.match import KernelFit
from gpudiff.science.pair import Roles
from gpudiff.science.planes import Planes, mask_of, raised
from gpudiff.science.provenance import difference_steps
from gpudiff.science.psf import given
from gpudiff.science.quality import star_residuals, star_table
from gpudiff.science.star_noise import Surface, allow_for_stars
from gpudiff.science.stars import Stars
from gpudiff.science.stopwatch import Stopwatch

TILE = 256
"""Pixels along a tile that planes are subtracted and scored in."""
SURE = 5.0
"""Scatters of the score beyond which there is light, and round it: a FWHM away 0.3 of a scatter is left."""


@dataclass(frozen=True)
class Recipe:
    """What the score pass needs beside the planes."""

    make: Callable[[int], Filters]
    halo: int
    thirds: np.ndarray
    """(9, P, P) float32 PSF of the output at the frame's thirds."""
    plain_thirds: np.ndarray
    """The same before whitening: the target's PSF, as the kernel makes it."""


@dataclass(frozen=True)
class Subtracted:
    """Planes that are subtracted and not yet scored, and what they were made of.

    matched : (H, W) float32, the template as subtracted, in the science image's unit
    kernel : (9, K, K) float32, matching kernel at the frame's thirds
    psfs : (9, P, P) float32 each, science's and template's PSF as they went into the difference
    fwhm, rings : of a star's light in the difference, pixels, as `star_noise.Surface` has them
    """

    science: Exposure
    template: Exposure
    parts: Roles
    stars: Stars
    fit: KernelFit
    planes: Planes
    seen: noises.Noise
    recipe: Recipe
    matched: np.ndarray
    kernel: np.ndarray
    psfs: tuple[np.ndarray, np.ndarray]
    fwhm: float
    rings: int
    notes: tuple[str, ...]


def finished(made: Subtracted, configuration: Configuration, device: Device, watch: Stopwatch) -> Difference:
    """The difference.  The template's pixels become its image.

    device : where it is scored; watch : of the stages so far
    """
    science, template, planes, stars, fit = made.science, made.template, made.planes, made.stars, made.fit
    threads, recipe, matched = configuration.match.threads, made.recipe, made.matched
    blank = score(planes, recipe, template.image, made.fwhm, device, threads)
    scale, before = planes.calibrate(blank, made.seen)
    residuals = star_residuals(planes.image, planes.variance, matched, stars, FWHM * stars.width("science"))
    profile = given(recipe.thirds, science.shape, science.name)
    surface = Surface(planes.score, planes.variance, matched, planes.lost, profile, made.fwhm, made.rings)
    lost = numbers(planes.lost)
    with another(threads) as beside:
        mask = beside.submit(mask_of, science, template, lost)
        left = allow_for_stars(surface)
    watch.lap("decorrelate and score")
    steps, fingerprint = difference_steps(science.frame, template.frame, configuration, device.name)
    result = Difference(
        science=science,
        template=template,
        image=planes.image,
        variance=planes.variance,
        mask=mask.result(),
        score=planes.score,
        matched=matched,
        kernel=made.kernel,
        psf=recipe.thirds,
        science_psf=made.psfs[0],
        template_psf=made.psfs[1],
        matched_psf=recipe.plain_thirds,
        decorrelated=configuration.detect.decorrelate,
        quality=_quality(fit.algorithm or configuration.match.algorithm, made, lost, blank, scale, before),
        fingerprint=fingerprint,
        steps=steps,
        seconds=watch.seconds,
        notes=(*science.notes, *(f"template: {note}" for note in template.notes), *made.notes, *left.notes),
        stars=star_table(stars, fit.used, fit.held_back, residuals),
    )
    watch.lap("finish")
    return result


# ---------------------------------------------------------------- decorrelate and score
def score(
    planes: Planes, recipe: Recipe, white: np.ndarray, fwhm: float, device: Device, threads: int
) -> tuple[float, float]:
    """`noise.scatter` of (difference / sigma, score) on blank sky; fills in the score, whitens image and variance.

    white : (H, W) float32, where the whitened image is to lie; what it held is lost
    fwhm : pixels round what is detected that are no blank sky: of wide stars much light is too faint to be seen
    """
    shape = planes.image.shape
    pieces = tiles(shape, TILE, recipe.thirds.shape[1] // 2 + recipe.halo)
    score, gone = np.empty(shape, np.float32), planes.blank  # each tile's share of it is read before it is written
    step = int(np.clip(np.sqrt(white.size / 2e5), 1, 5))

    lift = raised(planes.weight, recipe.thirds[len(recipe.thirds) // 2])
    kept = device.scored(planes.image, planes.variance, planes.lost, recipe.make, pieces)
    if kept is not None:
        planes.image, planes.variance, planes.score, planes.lost = kept
        if lift is not None:
            assert isinstance(planes.score, Afar)
            planes.score.lift(*lift.factors())
        return _scatters(*_samples(planes, pieces, step), fwhm / step)
    made = recipe.make(pieces[0].size)
    scored_at = scorer(planes.image, planes.variance, planes.lost, made)
    rows, columns = (_sampled(edges, step) for edges in borders(pieces))
    sides = tuple(max(part.stop for part in parts.values()) for parts in (rows, columns))
    ratio, values, use = np.zeros(sides, np.float32), np.zeros(sides, np.float32), np.zeros(sides, bool)

    def work(tile: Tile) -> None:
        scored = scored_at(tile)
        core, there = tile.core, (rows[tile.y0], columns[tile.x0])
        if lift is not None:
            scored.score[...] *= lift.cut(tile.y0, tile.y1, tile.x0, tile.x1)
        thin = (slice(None, None, step), slice(None, None, step))
        seen = planes.blank[core][thin] & ~scored.lost[thin]
        ratio[there][seen] = scored.difference[thin][seen] / np.sqrt(scored.variance[thin][seen])
        values[there], use[there] = scored.score[thin], seen
        white[core], score[core], gone[core] = scored.difference, scored.score, scored.lost

    def settle(tile: Tile) -> None:  # not before all tiles are scored: they read their neighbours' variance
        core = tile.core
        planes.variance[core] *= made.level(tile)
        white[core][gone[core]] = planes.variance[core][gone[core]] = np.nan

    over(work, pieces, threads)
    over(settle, pieces, threads)
    planes.image, planes.score, planes.lost = white, score, gone
    return _scatters(ratio, values, use, fwhm / step)


def _sampled(edges: np.ndarray, step: int) -> dict[int, slice]:
    """Where the sampled rows, or columns, of the tiles that begin at each edge lie among those of all."""
    ends = np.cumsum([0, *(len(range(*two, step)) for two in pairwise(edges))]).tolist()
    return {int(edge): slice(*two) for edge, two in zip(edges, pairwise(ends), strict=False)}


def _samples(planes: Planes, pieces: list[Tile], step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(difference / sigma, score, blank sky) of every `step`-th row and column of the tiles, on a device."""
    lines = [np.concatenate([np.arange(*ends, step) for ends in pairwise(edges)]) for edges in borders(pieces)]
    given: Any = planes.image, planes.variance, planes.score, planes.blank
    image, variance, score, blank = (
        plane.lattice(*lines) if isinstance(plane, Afar) else lattice(plane, *lines) for plane in given
    )
    return image / np.sqrt(variance), score, blank & np.isfinite(image)


def _scatters(ratio: np.ndarray, score: np.ndarray, blank: np.ndarray, reach: float) -> tuple[float, float]:
    """`noise.scatter` of both on blank sky, where there is enough farther than `reach` samples from what is
    detected."""
    sky = np.flatnonzero(blank)
    if len(sky) == 0:
        return float("nan"), float("nan")
    size = np.abs(score)
    usual = 1.4826 * float(np.median(size.take(sky[:: max(1, len(sky) // noises.START)])))
    near = grown(size > SURE * max(usual, 1.0), int(np.ceil(reach)))
    far = sky[~near.take(sky)]
    use = far if len(far) >= noises.ENOUGH else sky  # a cutout has little
    return noises.scatter(ratio.take(use)), noises.scatter(score.take(use))


# ---------------------------------------------------------------- what is said about it
def cropped(psf: PsfModel, half: int) -> np.ndarray:
    """(9, P, P) float32 PSF of the convolved image itself at the frame's thirds."""
    height, width = psf.shape
    centres = [((2 * j + 1) * height / 6, (2 * i + 1) * width / 6) for j in range(3) for i in range(3)]
    return np.array([psf.at(y, x, half) for y, x in centres], np.float32)


def _quality(
    algorithm: str,
    made: Subtracted,
    lost: np.ndarray,
    blank: tuple[float, float],
    scale: tuple[float, float],
    before: float,
) -> Quality:
    """lost : (N,) numbers of the pixels without a value; blank, scale, before : as they were measured"""
    parts, stars, fit = made.parts, made.stars, made.fit
    height, width = made.science.shape
    grid = [(y * height, x * width) for y in (0.05, 0.5, 0.95) for x in (0.05, 0.5, 0.95)]
    sums = np.array([fit.kernel.at(y, x).sum() for y, x in grid])
    if parts.convolves_science:
        sums = 1 / sums
    unusable = made.science.unusable
    lost_usable = len(lost) - np.count_nonzero(unusable.reshape(-1)[lost])
    return Quality(
        convolved=parts.name,
        algorithm=algorithm,
        science_fwhm=FWHM * stars.width("science"),
        template_fwhm=FWHM * stars.width("template"),
        candidates=len(stars),
        candidates_used=int(fit.used.sum()),
        basis_functions=fit.basis_functions,
        spatial_order=fit.kernel.order,
        chi2=fit.chi2,
        chi2_held_back=fit.chi2_held_back if np.isfinite(fit.chi2_held_back) else float("nan"),
        kernel_sum=float(sums[4]),
        kernel_sum_variation=float(np.ptp(sums) / abs(sums[4])),
        noise_ratio=blank[0] * before,
        score_std=blank[1] / scale[1],
        score_scale=scale[1] / scale[0],
        lost_fraction=lost_usable / max(unusable.size - len(made.science.flaws), 1),
    )
