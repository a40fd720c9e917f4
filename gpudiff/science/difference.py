"""Science minus PSF-matched template, with variance, mask and score."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np

from gpudiff.arrays import saturated
from gpudiff.arrays.afar import Afar
from gpudiff.arrays.moments import FWHM, moments
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.psf import lacking, moved
from gpudiff.arrays.quiet_sky import changed, quiet_sky, quiet_sky_again
from gpudiff.arrays.score_tiles import filters
from gpudiff.arrays.subtract_tiles import PLACES, kernel_sum, subtracter
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.arrays.wings import without_wings
from gpudiff.model.config import Configuration, Match
from gpudiff.model.frame import Difference, Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.plane import SmoothPlane
from gpudiff.science import noise as noises
from gpudiff.science.clean_stars import clean_stars
from gpudiff.science.finish import TILE, Recipe, Subtracted, cropped, finished
from gpudiff.science.given_psfs import match_psfs
from gpudiff.science.match import KernelFit, match
from gpudiff.science.pair import (
    Roles,
    bare,
    bare_kernel,
    check_shapes,
    crossed_notes,
    roles,
    seeing_notes,
    variance_factors,
)
from gpudiff.science.planes import Planes, ResidualSky, subtract_sky
from gpudiff.science.saturated import fill_cores
from gpudiff.science.stars import FEWEST, Stars
from gpudiff.science.stopwatch import Stopwatch

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
    stars, own, notes = clean_stars(science, template, settings, device)
    if len(stars) < FEWEST:
        fit_kernel = match_psfs
        notes.append("fewer than 3 stars: the matching kernel is made of the two PSFs that were given")
    parts = roles(science, template, stars, settings)
    notes.extend((*seeing_notes(stars), *parts.notes))
    psf, other = (own["science"], own["template"])[:: 1 if parts.convolves_science else -1]
    notes.extend(crossed_notes(*(one.at(one.shape[0] / 2, one.shape[1] / 2) for one in (other, psf))))
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
    notes.extend(fit.notes)
    planes.lose(saturated.spoilt(planes.model, planes.variance, bright, FWHM * parts.target_width))
    without_wings(planes.image, planes.variance, planes.lost, bright, FWHM * parts.target_width)
    watch.lap("convolve and subtract")
    seen = noises.measure_matched(planes.image, planes.variance, planes.blank, fit.kernel, parts, settings.threads)
    planes.allow_for(seen)
    notes.extend(seen.notes)
    made = _filters(fit.kernel, psf, parts, seen, configuration.detect.decorrelate, settings.threads)
    matched = _matched(parts, fit.kernel, planes)
    own_psf = cropped(psf, made.thirds.shape[1] // 2)
    psfs = (own_psf, made.plain_thirds) if parts.convolves_science else (made.plain_thirds, own_psf)
    result = Subtracted(
        science=science,
        template=template,
        parts=parts,
        stars=stars,
        fit=fit,
        planes=planes,
        seen=seen,
        recipe=made,
        matched=matched,
        kernel=fit.kernel.at_thirds(),
        psfs=psfs,
        fwhm=FWHM * parts.target_width,
        rings=parts.rings,
        notes=tuple(notes),
    )
    return finished(result, configuration, device, watch)


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
    sky, planes.weight = cells.smooth(threads, planes.image)
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
    target = replace(parts.target, image=parts.target.image.copy())
    even = replace(parts, target=target.knowing(parts.target.unusable, parts.target.flaws))
    _take_sky(known[0], even, first)
    fit = fit_stars(even.target)
    del even
    again, left = _subtract(parts, fit.kernel, device, threads, known)
    _take_sky(left, parts, fit.kernel)
    return fit, again


def _uneven(sky: SmoothPlane, variance: np.ndarray) -> bool:
    """Whether a residual sky is rough enough to spoil the fit of the kernel."""
    return bool(np.std(sky.grid) > UNEVEN * np.sqrt(np.median(variance[::16, ::16])))


def _take_sky(sky: SmoothPlane, parts: Roles, kernel: MatchingKernel) -> None:
    """Take a residual sky, in the science image's unit, from the image that is not convolved, in place."""
    for tile in tiles(parts.target.shape, TILE, 0):
        unit = -kernel_sum(kernel.sums(), kernel.order, tile) if parts.convolves_science else np.float32(1)
        parts.target.image[tile.core] -= unit * sky.cut(tile.y0, tile.y1, tile.x0, tile.x1)


# ---------------------------------------------------------------- what to score with
def _filters(
    kernel: MatchingKernel, psf: PsfModel, parts: Roles, seen: noises.Noise, decorrelate: bool, threads: int
) -> Recipe:
    height, width = kernel.shape
    of_psf, of_kernel = psf.round().spectrum(), cache(kernel.spectrum())
    whiten_at = noises.whitener(of_kernel, parts, seen) if decorrelate else None
    reach = noises.whitening_reach(whiten_at) if whiten_at else 0
    half = int(np.clip(np.ceil(3.5 * FWHM * parts.widths[0]), *PROFILE))
    size = 2 * (half + 24 + kernel.half) + 2
    middle = psf.half + kernel.half
    index = np.arange(middle - half, middle + half + 1) % size

    def spectrum_at(u: float, v: float) -> np.ndarray:
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        spectrum = of_psf(y, x, size) * of_kernel(y, x, size)
        spectrum /= spectrum[0, 0].real
        return spectrum

    def image_of(spectrum: np.ndarray) -> np.ndarray:
        rows = np.fft.ifft(spectrum, axis=0)[index]  # the others are not wanted
        return np.asarray(np.fft.irfft(rows, size)[:, index])

    thirds = [(u, v) for v in (-2 / 3, 0, 2 / 3) for u in (-2 / 3, 0, 2 / 3)]
    places = [*thirds, *PLACES]
    spectra = [spectrum_at(*place) for place in places]
    if not parts.convolves_science:  # else it is on the template's pixels, and its PSF says how far these are off
        offsets = moments(np.array([image_of(one) for one in spectra]), parts.target_width)[:2]
        spectra = [moved(one, -dy, -dx) for one, dy, dx in zip(spectra, *offsets, strict=True)]
    matched_psf = dict(zip(places, spectra, strict=True))

    def picture(u: float, v: float, white: bool) -> np.ndarray:
        spectrum = matched_psf[u, v]
        if whiten_at and white:
            spectrum = spectrum * whiten_at(u, v, size)[0]
        return image_of(spectrum)

    whole = 1 + lacking(picture(0, 0, white=False), FWHM * parts.target_width)

    def profile_at(u: float, v: float, white: bool = True) -> np.ndarray:
        return picture(u, v, white) / whole

    return Recipe(
        lambda side: filters(profile_at, whiten_at, side, reach, threads),
        reach,
        np.array([profile_at(u, v) for u, v in thirds], np.float32),
        np.array([profile_at(u, v, white=False) for u, v in thirds], np.float32),
    )


def _matched(parts: Roles, kernel: MatchingKernel, planes: Planes) -> np.ndarray:
    """The template as subtracted, in the science image's unit."""
    if not parts.convolves_science:
        return planes.model
    if isinstance(planes.model, Afar):
        planes.model = np.empty(planes.model.shape, np.float32)
    for tile in tiles(parts.target.shape, 1024, 0):
        planes.model[tile.core] = parts.target.image[tile.core] / kernel_sum(kernel.sums(), kernel.order, tile)
    return planes.model
