"""Science minus PSF-matched template, with variance, mask and score."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from gpudiff.arrays import residual_sky, saturated
from gpudiff.arrays.parallel import over
from gpudiff.arrays.polynomial import field as field_coordinate
from gpudiff.arrays.polynomial import rectangle
from gpudiff.arrays.score_tiles import Filters, filters, score_tile
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.subtract_tiles import background_tile, lost_tile, matched_tile, spectra
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.model.config import Configuration, Match
from gpudiff.model.frame import Difference, Exposure, Quality
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.mask import UNUSABLE, bit, marked
from gpudiff.model.plane import SmoothPlane
from gpudiff.science import noise as noises
from gpudiff.science.calibrate import bands
from gpudiff.science.cosmic_rays import mark_cosmic_rays
from gpudiff.science.match import KernelFit, match
from gpudiff.science.pair import Roles, bare, check_pair, roles
from gpudiff.science.provenance import difference_steps
from gpudiff.science.psf import psf_of
from gpudiff.science.saturated import fill_cores
from gpudiff.science.stars import Stars, find_stars

TILE = 256
PROFILE = 15, 30
"""Least and greatest half width of the PSF that the score filters with, pixels; between them 3.5 FWHM."""
RIM = 12
"""Pixels from the edge within which a pixel without a value is lost to the edge."""
MARGIN = 15
"""Pixels from the edge within which a star does not help to match."""
FWHM = 2.0 * np.sqrt(2 * np.log(2))

Matcher = Callable[[Exposure, Exposure, Stars, PsfModel, tuple[float, float], Match], KernelFit]


@dataclass
class Planes:
    """What the passes over the pixels fill in, all (H, W)."""

    image: np.ndarray
    variance: np.ndarray
    model: np.ndarray
    lost: np.ndarray
    blank: np.ndarray
    """Sky alone (science.noise.sky_only)."""
    score: np.ndarray = field(default_factory=lambda: np.empty(0))


class Stopwatch:
    """Wall seconds of each stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Close a stage that began where the last one ended."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now


def difference(
    science: Exposure, template: Exposure, configuration: Configuration, fit_kernel: Matcher = match
) -> Difference:
    """The difference of two exposures on one pixel grid.  The exposures are used up: the template's pixels are
    the difference's afterwards, the science image's cosmic rays are filled.

    fit_kernel : what finds the matching kernel; `science.match.match` says what it takes and returns.

    Raises WrongShape, NoOverlap, NoStars.
    """
    settings = configuration.match
    watch = Stopwatch()
    notes = check_pair(science, template)
    stars, own, found = _clean_stars(science, template, settings)
    if any(found):
        notes = (*notes, f"cosmic-ray and hot pixels found: {found[0]} in science, {found[1]} in template")
    parts = roles(science, template, stars, settings)
    notes = (*notes, *parts.notes)
    psf = own["science" if parts.convolves_science else "template"]
    watch.lap("stars, PSFs, cosmic rays")
    bright = fill_cores(parts.convolved, psf)
    watch.lap("saturated stars")
    fit = fit_kernel(parts.target, parts.convolved, stars, psf, parts.widths, settings)
    watch.lap("kernel fit")
    planes = _subtract(parts, fit.kernel, settings.threads)
    planes.lost |= saturated.spoilt(planes.model, planes.variance, bright, FWHM * parts.target_width)
    watch.lap("convolve and subtract")
    seen = noises.measure(planes.image, planes.variance, planes.blank & ~planes.lost, fit.kernel, parts)
    if seen.calibrated:
        planes.variance *= np.float32(seen.seen)
        notes = (*notes, f"variance multiplied by {seen.seen:.3f}, the scatter seen on blank sky")
    if seen.correlated:
        notes = (*notes, "the inputs' noise is correlated (resampled or stacked): whitened as measured")
    made = _filters(fit.kernel, psf, parts, seen, configuration.detect.decorrelate)
    matched = _matched(parts, fit.kernel, planes)
    blank = _score(planes, made, template.image, settings.threads)
    scale, before = (1.0, 1.0), 1.0
    if seen.calibrated and len(blank[0]) >= noises.ENOUGH:
        scale, before = (noises.scatter(blank[0]), noises.scatter(blank[1])), float(np.sqrt(seen.seen))
        planes.variance *= np.float32(scale[0] ** 2)
        planes.score /= np.float32(scale[1])
    watch.lap("decorrelate and score")
    quality = _quality(settings.algorithm, parts, stars, fit, planes, blank, scale, before, science)
    steps, fingerprint = difference_steps(science.frame, template.frame, configuration)
    result = Difference(
        science=science,
        template=template,
        image=planes.image,
        variance=planes.variance,
        mask=_mask(science, template, planes, settings.threads),
        score=planes.score,
        matched=matched,
        kernel=fit.kernel.at_thirds(),
        psf=made.thirds,
        science_psf=made.plain_thirds if not parts.convolves_science else _cropped(psf, made.thirds.shape[1] // 2),
        template_psf=made.plain_thirds if parts.convolves_science else _cropped(psf, made.thirds.shape[1] // 2),
        matched_psf=made.plain_thirds,
        decorrelated=configuration.detect.decorrelate,
        quality=quality,
        fingerprint=fingerprint,
        steps=steps,
        seconds=watch.seconds,
        notes=(*science.notes, *(f"template: {note}" for note in template.notes), *notes),
    )
    watch.lap("finish")
    return result


def _clean_stars(
    science: Exposure, template: Exposure, settings: Match
) -> tuple[Stars, dict[str, PsfModel], list[int]]:
    """(stars, PSF of "science" and "template", cosmic-ray pixels found in each).

    Hot pixels look like stars to a first search; when some do, stars and PSFs are made again without them.
    """
    images = {"science": science, "template": template}
    margin = min(MARGIN, min(science.shape) // 6)
    stars = find_stars(science, template, settings, margin)

    def describe(name: str) -> tuple[PsfModel, int]:
        psf = psf_of(images[name], stars, name)
        return psf, mark_cosmic_rays(images[name], psf)

    described = over(describe, images, settings.threads)
    psfs, found = dict(zip(images, (psf for psf, _ in described), strict=True)), [count for _, count in described]
    if any(marked(stamps(image.mask, stars.y, stars.x, 2), "CR").any() for image in images.values()):
        stars = find_stars(science, template, settings, margin)
        psfs = {name: psf_of(image, stars, name) for name, image in images.items()}
    return stars, psfs, found


# ---------------------------------------------------------------- convolve and subtract
def _subtract(parts: Roles, kernel: MatchingKernel, threads: int) -> Planes:
    """The plain difference in the science image's unit, a smooth residual sky removed."""
    pair = bare(parts)
    shape = parts.target.shape
    pieces = tiles(shape, TILE, kernel.half)
    spectrum = spectra(kernel.coefficients, kernel.order, pieces[0].size)
    planes = Planes(*_empty(shape), np.empty(shape, bool), np.empty(shape, bool))
    columns = sum(tile.y0 == 0 for tile in pieces)
    limit = noises.sky_limit(kernel, parts)
    side = residual_sky.CELLS
    cells = np.zeros((2, 2, side * (len(pieces) // columns), side * columns))

    def work(tile: Tile) -> None:
        model, variance = matched_tile(pair, spectrum, tile)
        lost = lost_tile(pair, spectrum, tile)
        image = pair.target[tile.core] - model
        image -= background_tile(kernel.background, kernel.background_order, tile)
        if parts.convolves_science:
            scale = 1 / _kernel_sum(kernel, tile)
            image *= -scale
            model = model * scale
            variance = variance * scale**2
        blank = noises.sky_only(model, variance, lost, limit)
        j, i = divmod(tile.index, columns)
        sums = residual_sky.cell_sums(image, blank & (image**2 < 9 * variance))
        cells[:, :, side * j : side * (j + 1), side * i : side * (i + 1)] = sums
        core = tile.core
        planes.image[core], planes.variance[core] = image, variance
        planes.model[core], planes.lost[core], planes.blank[core] = model, lost, blank

    over(work, pieces, threads)
    sky = _residual_sky(cells, shape)

    def subtract_sky(tile: Tile) -> None:
        planes.image[tile.core] -= sky.cut(tile.y0, tile.y1, tile.x0, tile.x1)

    over(subtract_sky, pieces, threads)
    return planes


def _empty(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.float32)


def _kernel_sum(kernel: MatchingKernel, tile: Tile) -> np.ndarray:
    """(h, w) float32 photometric scale of a tile's core."""
    u = field_coordinate(np.arange(tile.x0, tile.x1), tile.shape[1])
    v = field_coordinate(np.arange(tile.y0, tile.y1), tile.shape[0])
    return rectangle(kernel.sums(), u, v, kernel.order)


def _residual_sky(cells: np.ndarray, shape: tuple[int, int]) -> SmoothPlane:
    """The smooth sky left in the difference, as fine as the difference itself shows that it must be."""
    rows, columns = cells.shape[2:]
    y = ((np.arange(rows) + 0.5) * shape[0] / rows).astype(int)
    x = ((np.arange(columns) + 0.5) * shape[1] / columns).astype(int)

    def predict(grid: np.ndarray) -> np.ndarray:
        plane = SmoothPlane(grid, shape)
        return plane.at(np.repeat(y, columns), np.tile(x, rows)).reshape(rows, columns)

    sky = SmoothPlane(residual_sky.level(cells.sum(0), residual_sky.choose(cells, predict)), shape)
    sky.cut(0, 1, 0, 1)  # its matrices are made once, before threads read them
    return sky


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


def _filters(kernel: MatchingKernel, psf: PsfModel, parts: Roles, seen: noises.Noise, decorrelate: bool) -> Recipe:
    height, width = kernel.shape
    whiten_at = noises.whitener(kernel, parts, seen) if decorrelate else None
    reach = noises.whitening_reach(whiten_at) if whiten_at else 0
    half = int(np.clip(np.ceil(3.5 * FWHM * parts.widths[0]), *PROFILE))
    size = 2 * (half + 24 + kernel.half) + 2

    def profile_at(u: float, v: float, white: bool = True) -> np.ndarray:
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        spectrum = np.fft.rfft2(_centred(psf.at(y, x), size)) * np.fft.rfft2(_centred(kernel.at(y, x), size))
        spectrum = spectrum / spectrum[0, 0].real
        if whiten_at and white:
            spectrum = spectrum * whiten_at(u, v, size)[0]
        image = np.fft.irfft2(spectrum, (size, size))
        index = np.arange(-half, half + 1)
        return image[np.ix_(index, index)]

    thirds = [(u, v) for v in (-2 / 3, 0, 2 / 3) for u in (-2 / 3, 0, 2 / 3)]
    return Recipe(
        lambda side: filters(profile_at, whiten_at, side, reach),
        reach,
        np.array([profile_at(u, v) for u, v in thirds], np.float32),
        np.array([profile_at(u, v, white=False) for u, v in thirds], np.float32),
    )


def _centred(image: np.ndarray, size: int) -> np.ndarray:
    """A (K, K) image in a periodic square, its middle at [0, 0]."""
    out = np.zeros((size, size))
    out[: image.shape[0], : image.shape[1]] = image
    return np.roll(out, (-(image.shape[0] // 2), -(image.shape[1] // 2)), (0, 1))


def _score(planes: Planes, recipe: Recipe, white: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """(difference / sigma, score) samples on blank sky; fills in the score, whitens image and variance.

    white : (H, W) float32, where the whitened image is to lie; what it held is lost
    """
    shape = planes.image.shape
    pieces = tiles(shape, TILE, recipe.thirds.shape[1] // 2 + recipe.halo)
    made = recipe.make(pieces[0].size)
    score, gone = np.empty(shape, np.float32), planes.blank  # each tile's share of it is read before it is written
    step = int(np.clip(np.sqrt(white.size / 2e5), 1, 5))
    samples: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(pieces)

    def work(tile: Tile) -> None:
        lost, variance = planes.lost[tile.outer], planes.variance[tile.outer]
        image = np.where(lost, np.float32(0), planes.image[tile.outer])
        scored = score_tile(image, variance, lost, made, tile)
        core = tile.core
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
    return np.concatenate([a for a, _ in samples]), np.concatenate([b for _, b in samples])


# ---------------------------------------------------------------- what is said about it
def _cropped(psf: PsfModel, half: int) -> np.ndarray:
    """(9, P, P) float32 PSF of the convolved image itself at the frame's thirds."""
    height, width = psf.shape
    centres = [((2 * j + 1) * height / 6, (2 * i + 1) * width / 6) for j in range(3) for i in range(3)]
    return np.array([psf.at(y, x, half) for y, x in centres], np.float32)


def _matched(parts: Roles, kernel: MatchingKernel, planes: Planes) -> np.ndarray:
    """The template as subtracted, in the science image's unit."""
    if not parts.convolves_science:
        return planes.model
    for tile in tiles(parts.target.shape, 1024, 0):
        planes.model[tile.core] = parts.target.image[tile.core] / _kernel_sum(kernel, tile)
    return planes.model


def _mask(science: Exposure, template: Exposure, planes: Planes, threads: int) -> np.ndarray:
    """Science's planes, the template's that matter, and NO_DATA or EDGE where there is no value."""
    carried = bit("BAD", "INTRP", "SUSPECT", "STREAK")
    height, width = science.shape
    out = np.empty((height, width), np.int32)
    rim = np.ones(width, bool)
    rim[RIM:-RIM] = False

    def work(band: slice) -> None:
        mask = science.mask[band] | (template.mask[band] & carried)
        mask[(template.mask[band] & bit("SAT", "SAT_TEMPLATE")) != 0] |= bit("SAT_TEMPLATE")
        lost = planes.lost[band]
        usable = lost & ((mask & bit(*UNUSABLE)) == 0)
        rows = np.arange(band.start, band.stop)
        edge = rim | ((rows < RIM) | (rows >= height - RIM))[:, None]
        mask[usable & edge] |= bit("EDGE")
        mask[usable & ~edge] |= bit("SUSPECT")
        filled = ~lost & ((mask & bit("NO_DATA")) != 0)
        mask[filled] = (mask[filled] & ~bit("NO_DATA")) | bit("INTRP")
        mask[lost] |= bit("NO_DATA")
        out[band] = mask

    over(work, bands(height), threads)
    return out


def _quality(
    algorithm: str,
    parts: Roles,
    stars: Stars,
    fit: KernelFit,
    planes: Planes,
    blank: tuple[np.ndarray, np.ndarray],
    scale: tuple[float, float],
    before: float,
    science: Exposure,
) -> Quality:
    height, width = science.shape
    grid = [(y * height, x * width) for y in (0.05, 0.5, 0.95) for x in (0.05, 0.5, 0.95)]
    sums = np.array([fit.kernel.at(y, x).sum() for y, x in grid])
    if parts.convolves_science:
        sums = 1 / sums
    usable = ~marked(science.mask, *UNUSABLE)
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
        noise_ratio=noises.scatter(blank[0]) * before,
        score_std=noises.scatter(blank[1]) / scale[1],
        score_scale=scale[1] / scale[0],
        lost_fraction=float(np.count_nonzero(planes.lost & usable) / max(int(np.count_nonzero(usable)), 1)),
    )
