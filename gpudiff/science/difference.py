"""Science minus PSF-matched template, with variance, mask and score."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from gpudiff.arrays import saturated
from gpudiff.arrays.afar import Afar
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.quiet_sky import changed, quiet_sky, quiet_sky_again
from gpudiff.arrays.score_tiles import Filters, filters, scorer
from gpudiff.arrays.subtract_tiles import borders, kernel_sum, subtracter
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.model.config import Configuration, Match
from gpudiff.model.frame import Difference, Exposure, Quality
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.plane import SmoothPlane
from gpudiff.science import noise as noises
from gpudiff.science.clean_stars import clean_stars
from gpudiff.science.given_psfs import match_psfs
from gpudiff.science.match import KernelFit, match
from gpudiff.science.pair import Roles, bare, bare_kernel, check_shapes, roles, seeing_notes, variance_factors
from gpudiff.science.planes import Planes, ResidualSky, mask_of, raised, subtract_sky
from gpudiff.science.provenance import difference_steps
from gpudiff.science.psf import given
from gpudiff.science.quality import star_residuals, star_table
from gpudiff.science.saturated import fill_cores
from gpudiff.science.star_noise import Surface, allow_for_stars
from gpudiff.science.stars import FEWEST, Stars
from gpudiff.science.stopwatch import Stopwatch

TILE = 256
PROFILE = 15, 30
"""Least and greatest half width of the PSF that the score filters with, pixels; between them 3.5 FWHM."""
UNEVEN = 0.1
"""Sigmas of a pixel, rms, of a residual sky that is taken out before the kernel is fitted once more."""

Matcher = Callable[[Exposure, Exposure, Stars, PsfModel, tuple[float, float], Match, Device], KernelFit]


def difference(
    science: Exposure,
    template: Exposure,
    configuration: Configuration,
    device: Device = CPU,
    fit_kernel: Matcher = match,
) -> Difference:
    """The difference of two exposures on one pixel grid.  The exposures are used up: the template's pixels are
    the difference's afterwards, the science image's cosmic rays are filled.

    device : where the passes over all pixels are computed, and what `fit_kernel` does there
    fit_kernel : what finds the matching kernel; `science.match.match` says what it takes and returns.

    Raises WrongShape, NoStars.
    """
    settings = configuration.match
    watch = Stopwatch()
    check_shapes(science, template)
    notes = list[str]()
    stars, own, found = clean_stars(science, template, settings, device)
    if len(stars) < FEWEST:
        fit_kernel = match_psfs
        notes.append("fewer than 3 stars: the matching kernel is made of the two PSFs that were given")
    if any(found):
        notes.append(f"cosmic-ray and hot pixels found: {found[0]} in science, {found[1]} in template")
    parts = roles(science, template, stars, settings)
    notes.extend((*seeing_notes(stars), *parts.notes))
    psf = own["science" if parts.convolves_science else "template"]
    watch.lap("stars, PSFs, cosmic rays")
    bright = fill_cores(parts.convolved, psf)
    watch.lap("saturated stars")

    def fit_stars(target: Exposure) -> KernelFit:
        return fit_kernel(target, parts.convolved, stars, psf, parts.widths, settings, device)

    fit = fit_stars(parts.target)
    watch.lap("kernel fit")
    planes, sky = _subtract(parts, fit.kernel, device, settings.threads)
    if len(stars) and _uneven(sky, planes.variance):
        notes.append("the sky is not a low-order surface: matched again without its unevenness")
        known = sky, changed(planes.image, planes.variance, planes.lost)
        del planes
        fit, planes = _match_again(parts, fit.kernel, known, fit_stars, device, settings.threads)
    planes.lose(saturated.spoilt(planes.model, planes.variance, bright, FWHM * parts.target_width))
    watch.lap("convolve and subtract")
    seen = noises.measure_matched(planes.image, planes.variance, planes.blank, fit.kernel, parts, settings.threads)
    planes.allow_for(seen)
    notes.extend(seen.notes)
    made = _filters(fit.kernel, psf, parts, seen, configuration.detect.decorrelate, settings.threads)
    matched = _matched(parts, fit.kernel, planes)
    blank = score(planes, made, template.image, device, settings.threads)
    scale, before = planes.calibrate(blank, seen)
    residuals = star_residuals(planes.image, planes.variance, matched, stars, FWHM * stars.width("science"))
    profile = given(made.thirds, science.shape, science.name)
    width, rings = FWHM * parts.target_width, parts.rings
    left = allow_for_stars(Surface(planes.score, planes.variance, matched, planes.lost, profile, width, rings))
    notes.extend(left.notes)
    watch.lap("decorrelate and score")
    quality = describe(settings.algorithm, parts, stars, fit, planes, blank, scale, before, science)
    steps, fingerprint = difference_steps(science.frame, template.frame, configuration, device.name)
    result = Difference(
        science=science,
        template=template,
        image=planes.image,
        variance=planes.variance,
        mask=mask_of(science, template, planes, settings.threads),
        score=planes.score,
        matched=matched,
        kernel=fit.kernel.at_thirds(),
        psf=made.thirds,
        science_psf=made.plain_thirds if not parts.convolves_science else cropped(psf, made.thirds.shape[1] // 2),
        template_psf=made.plain_thirds if parts.convolves_science else cropped(psf, made.thirds.shape[1] // 2),
        matched_psf=made.plain_thirds,
        decorrelated=configuration.detect.decorrelate,
        quality=quality,
        fingerprint=fingerprint,
        steps=steps,
        seconds=watch.seconds,
        notes=(*science.notes, *(f"template: {note}" for note in template.notes), *notes),
        stars=star_table(stars, fit.used, fit.held_back, residuals),
    )
    watch.lap("finish")
    return result


# ---------------------------------------------------------------- convolve and subtract
def _subtract(
    parts: Roles,
    kernel: MatchingKernel,
    device: Device,
    threads: int,
    known: tuple[SmoothPlane, np.ndarray] | None = None,
) -> tuple[Planes, SmoothPlane]:
    """The plain difference in the science image's unit, a smooth residual sky removed, and that sky.

    known : from an earlier pass the sky, and (H, W) bool pixels that are no sky
    """
    shape = parts.target.shape
    pieces = tiles(shape, TILE, kernel.half)
    planes = Planes.empty(shape)
    given = bare(parts), bare_kernel(kernel, parts), variance_factors(parts), pieces
    limit = noises.sky_limit(kernel, parts)
    cells = ResidualSky(pieces, FWHM * parts.target_width)
    reach = round(2.5 * FWHM * parts.target_width)
    made = device.subtracted(*given, limit, reach, known and (known[0].factors(), known[1]))
    if made is not None:
        planes = Planes(*made[0])
        cells.put(made[1])
        return planes, _without_sky(planes, cells, pieces, threads)
    subtracted = subtracter(*given[:2], pieces)

    def work(tile: Tile) -> None:
        image, variance, model, lost = subtracted(tile)
        core = tile.core
        if known is None:
            blank, sums = quiet_sky(image, variance, model, lost, limit, reach)
        else:
            level = known[0].cut(tile.y0, tile.y1, tile.x0, tile.x1)
            blank, sums = quiet_sky_again(image, variance, model, lost, limit, level, known[1][core])
        cells.add(tile, sums)
        planes.image[core], planes.variance[core] = image, variance
        planes.model[core], planes.lost[core], planes.blank[core] = model, lost, blank

    over(work, pieces, threads)
    return planes, _without_sky(planes, cells, pieces, threads)


def _without_sky(planes: Planes, cells: ResidualSky, pieces: list[Tile], threads: int) -> SmoothPlane:
    """The residual sky that the cells show, which is taken out of the image."""
    sky, planes.weight = cells.smooth(threads)
    subtract_sky(planes.image, sky, pieces, threads)
    return sky


def _match_again(
    parts: Roles,
    first: MatchingKernel,
    known: tuple[SmoothPlane, np.ndarray],
    fit_stars: Callable[[Exposure], KernelFit],
    device: Device,
    threads: int,
) -> tuple[KernelFit, Planes]:
    """The fit and the difference once the uneven sky that is known is out of the stamps of the fit too."""
    even = replace(parts, target=replace(parts.target, image=parts.target.image.copy()))
    _take_sky(known[0], even, first)
    fit = fit_stars(even.target)
    del even
    again, left = _subtract(parts, fit.kernel, device, threads, known)
    _take_sky(left, parts, fit.kernel)
    return fit, again


def _uneven(sky: SmoothPlane, variance: np.ndarray) -> bool:
    """Whether a residual sky is rough enough to spoil the fit of the kernel."""
    return bool(np.std(sky.grid) > UNEVEN * np.sqrt(np.median(variance[::7, ::7])))


def _take_sky(sky: SmoothPlane, parts: Roles, kernel: MatchingKernel) -> None:
    """Take a residual sky, in the science image's unit, from the image that is not convolved, in place."""
    for tile in tiles(parts.target.shape, TILE, 0):
        unit = -kernel_sum(kernel.sums(), kernel.order, tile) if parts.convolves_science else np.float32(1)
        parts.target.image[tile.core] -= unit * sky.cut(tile.y0, tile.y1, tile.x0, tile.x1)


# ---------------------------------------------------------------- decorrelate and score
@dataclass(frozen=True)
class Recipe:
    """What the score pass needs beside the planes."""

    make: Callable[[int], Filters]
    halo: int
    thirds: np.ndarray
    """(9, P, P) float32 PSF of the output at the frame's thirds."""
    plain_thirds: np.ndarray
    """The same before whitening: the target's PSF, as the kernel makes it."""


def _filters(
    kernel: MatchingKernel, psf: PsfModel, parts: Roles, seen: noises.Noise, decorrelate: bool, threads: int
) -> Recipe:
    height, width = kernel.shape
    whiten_at = noises.whitener(kernel, parts, seen) if decorrelate else None
    reach = noises.whitening_reach(whiten_at) if whiten_at else 0
    half = int(np.clip(np.ceil(3.5 * FWHM * parts.widths[0]), *PROFILE))
    size = 2 * (half + 24 + kernel.half) + 2
    of_psf, of_kernel, middle = psf.round().spectrum(), kernel.spectrum(), psf.half + kernel.half
    index = np.arange(middle - half, middle + half + 1) % size

    def profile_at(u: float, v: float, white: bool = True) -> np.ndarray:
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        spectrum = of_psf(y, x, size) * of_kernel(y, x, size)
        spectrum = spectrum / spectrum[0, 0].real
        if whiten_at and white:
            spectrum = spectrum * whiten_at(u, v, size)[0]
        return np.fft.irfft2(spectrum, (size, size))[np.ix_(index, index)]

    thirds = [(u, v) for v in (-2 / 3, 0, 2 / 3) for u in (-2 / 3, 0, 2 / 3)]
    return Recipe(
        lambda side: filters(profile_at, whiten_at, side, reach, threads),
        reach,
        np.array([profile_at(u, v) for u, v in thirds], np.float32),
        np.array([profile_at(u, v, white=False) for u, v in thirds], np.float32),
    )


def score(planes: Planes, recipe: Recipe, white: np.ndarray, device: Device, threads: int) -> tuple[float, float]:
    """`noise.scatter` of (difference / sigma, score) on blank sky; fills in the score, whitens image and variance.

    white : (H, W) float32, where the whitened image is to lie; what it held is lost
    """
    shape = planes.image.shape
    pieces = tiles(shape, TILE, recipe.thirds.shape[1] // 2 + recipe.halo)
    made = recipe.make(pieces[0].size)
    score, gone = np.empty(shape, np.float32), planes.blank  # each tile's share of it is read before it is written
    step = int(np.clip(np.sqrt(white.size / 2e5), 1, 5))
    samples: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(pieces)

    lift = raised(planes.weight, recipe.thirds[len(recipe.thirds) // 2])
    kept = device.scored(planes.image, planes.variance, planes.lost, made, pieces)
    if kept is not None:
        planes.image, planes.variance, planes.score, planes.lost = kept
        if lift is not None:
            assert isinstance(planes.score, Afar)
            planes.score.lift(*lift.factors())
        ratio, values = _samples(planes, pieces, step)
        return noises.scatter(ratio), noises.scatter(values)
    scored_at = scorer(planes.image, planes.variance, planes.lost, made)

    def work(tile: Tile) -> None:
        scored = scored_at(tile)
        core = tile.core
        if lift is not None:
            scored.score[...] *= lift.cut(tile.y0, tile.y1, tile.x0, tile.x1)
        thin = (slice(None, None, step), slice(None, None, step))
        use = planes.blank[core][thin] & ~scored.lost[thin]
        ratio = scored.difference[thin][use] / np.sqrt(scored.variance[thin][use])
        samples[tile.index] = ratio, scored.score[thin][use]
        white[core], score[core], gone[core] = scored.difference, scored.score, scored.lost

    def settle(tile: Tile) -> None:  # not before all tiles are scored: they read their neighbours' variance
        core = tile.core
        planes.variance[core] *= made.level(tile)
        white[core][gone[core]] = planes.variance[core][gone[core]] = np.nan

    over(work, pieces, threads)
    over(settle, pieces, threads)
    planes.image, planes.score, planes.lost = white, score, gone
    ratio, values = map(np.concatenate, zip(*samples, strict=True))
    return noises.scatter(ratio), noises.scatter(values)


def _samples(planes: Planes, pieces: list[Tile], step: int) -> tuple[np.ndarray, np.ndarray]:
    """(difference / sigma, score) on blank sky of every `step`-th row and column of the tiles, on a device."""
    lines = [np.concatenate([np.arange(*ends, step) for ends in pairwise(edges)]) for edges in borders(pieces)]
    given: Any = planes.image, planes.variance, planes.score, planes.blank
    image, variance, score, blank = (plane.lattice(*lines) for plane in given)
    use = blank & np.isfinite(image)
    return image[use] / np.sqrt(variance[use]), score[use]


# ---------------------------------------------------------------- what is said about it
def cropped(psf: PsfModel, half: int) -> np.ndarray:
    """(9, P, P) float32 PSF of the convolved image itself at the frame's thirds."""
    height, width = psf.shape
    centres = [((2 * j + 1) * height / 6, (2 * i + 1) * width / 6) for j in range(3) for i in range(3)]
    return np.array([psf.at(y, x, half) for y, x in centres], np.float32)


def _matched(parts: Roles, kernel: MatchingKernel, planes: Planes) -> np.ndarray:
    """The template as subtracted, in the science image's unit."""
    if not parts.convolves_science:
        return planes.model
    if isinstance(planes.model, Afar):
        planes.model = np.empty(planes.model.shape, np.float32)
    for tile in tiles(parts.target.shape, 1024, 0):
        planes.model[tile.core] = parts.target.image[tile.core] / kernel_sum(kernel.sums(), kernel.order, tile)
    return planes.model


def describe(
    algorithm: str,
    parts: Roles,
    stars: Stars,
    fit: KernelFit,
    planes: Planes,
    blank: tuple[float, float],
    scale: tuple[float, float],
    before: float,
    science: Exposure,
) -> Quality:
    height, width = science.shape
    grid = [(y * height, x * width) for y in (0.05, 0.5, 0.95) for x in (0.05, 0.5, 0.95)]
    sums = np.array([fit.kernel.at(y, x).sum() for y, x in grid])
    if parts.convolves_science:
        sums = 1 / sums
    unusable, lost = science.unusable, np.flatnonzero(planes.lost)
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
        lost_fraction=lost_usable / max(unusable.size - len(science.flaws), 1),
    )
