"""Proper image subtraction (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27): science and template treated alike.

Where the paper takes both PSFs and the flux ratio as known, here stars say what the PSFs leave unexplained: each
image is convolved with the other's PSF, and a kernel that is close to a delta matches the two (Yuan & Akerlof
2008, ApJ 677, 808).  It holds flux ratio, registration and errors of the PSFs, and it goes into the filters.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays import saturated
from gpudiff.arrays.box import grown
from gpudiff.arrays.correlation import of_kernel
from gpudiff.arrays.moments import FWHM
from gpudiff.arrays.parallel import over
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.quiet_psf import quiet_wings
from gpudiff.arrays.quiet_sky import quiet_sky
from gpudiff.arrays.score_tiles import filters, mean_power, reach_of
from gpudiff.arrays.subtract_tiles import background_tile, polynomial_fit
from gpudiff.arrays.tiles import Tile, tiles
from gpudiff.arrays.zogy_tiles import (
    carried,
    picture,
    proper,
    proper_filters,
    proper_lost,
    proper_tile,
    spectrum_of,
    varying_tile,
)
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.frame import Difference, Exposure
from gpudiff.model.kernel import MatchingKernel, PsfModel
from gpudiff.model.mask import bit
from gpudiff.model.plane import SmoothPlane
from gpudiff.science import noise as noises
from gpudiff.science.clean_stars import clean_stars
from gpudiff.science.difference import PROFILE
from gpudiff.science.finish import TILE, Recipe, Subtracted, cropped, finished
from gpudiff.science.given_psfs import match_psfs
from gpudiff.science.match import KernelFit, match
from gpudiff.science.pair import Roles, bare, check_shapes, seeing_notes
from gpudiff.science.planes import Planes, ResidualSky, subtract_sky
from gpudiff.science.sample import flux_ratio
from gpudiff.science.saturated import fill_cores
from gpudiff.science.stars import FEWEST, Stars
from gpudiff.science.stopwatch import Stopwatch

REACH = 16, 40
"""Least and greatest half width of the filters, pixels; between them all but 1e-7 of their energy."""
ORDER = 2
"""Of the polynomial that carries the PSFs over the field."""
BEYOND = 5
"""Pixels past the edge of the PSFs to which a saturated star spoils the difference: its light is cut there."""
BASIS = 0.75
"""Width of what is left to match over that of the crossed PSFs: it is small, but it reaches into their wings."""


def zogy(science: Exposure, template: Exposure, configuration: Configuration, device: Device = CPU) -> Difference:
    """The proper difference of two exposures on one pixel grid, in the science image's flux unit.  The exposures
    are used up, as by `science.difference.difference`.

    device : where the score is computed; the crossed convolutions are always the CPU's.

    Its noise is white by construction.  Raises BadConfiguration for `decorrelate = false`, WrongShape, NoStars.
    """
    settings = configuration.match
    if not configuration.detect.decorrelate:
        raise BadConfiguration("zogy: its difference is white by construction; expected decorrelate = true")
    watch = Stopwatch()
    check_shapes(science, template)
    stars, own, notes = clean_stars(science, template, settings, device)
    psfs = _quiet(own["science"], science, stars), _quiet(own["template"], template, stars)
    if len(stars) < FEWEST:
        notes.append("fewer than 3 stars: the two PSFs that were given are taken as they are")
    notes.extend(seeing_notes(stars))
    widths = stars.width("science"), stars.width("template")
    parts = Roles(science, template, *widths, "TEMPLATE")
    watch.lap("stars, PSFs, cosmic rays")
    bright = [*fill_cores(science, psfs[0]), *fill_cores(template, psfs[1])]
    watch.lap("saturated stars")
    fit = _matched(science, template, psfs, stars, configuration)
    watch.lap("kernel fit")
    local = Local(psfs, fit.kernel, parts)
    planes = _subtract(parts, local, settings.threads)
    wider = max(widths)
    edge = max(FWHM * wider, (max(psf.half for psf in psfs) + BEYOND) / 4.3)
    planes.lose(saturated.spoilt(planes.model, planes.variance, bright, edge, share=1.0))
    watch.lap("convolve and subtract")
    known = science.variance_known and template.variance_known
    seen = noises.measure(
        planes.image, planes.variance, planes.blank, local.correlation, known, wider, settings.threads
    )
    planes.allow_for(seen)
    notes.extend(seen.notes)
    made = _recipe(local, seen, wider)
    half = made.thirds.shape[1] // 2
    result = Subtracted(
        science=science,
        template=template,
        parts=parts,
        stars=stars,
        fit=fit,
        planes=planes,
        seen=seen,
        recipe=made,
        matched=planes.model,
        kernel=local.thirds(lambda u, v: local.filters(u, v)[1]),
        psfs=(cropped(psfs[0], half), cropped(psfs[1], half)),
        fwhm=FWHM * wider,
        rings=0,
        notes=tuple(notes),
    )
    return finished(result, configuration, device, watch)


def _quiet(psf: PsfModel, exposure: Exposure, stars: Stars) -> PsfModel:
    """A measured PSF without the noise of its wings, which all stars of the image share; a given one as it is."""
    if exposure.frame.psf is not None:
        return psf
    core = FWHM * max(stars.width("science"), stars.width("template"))
    return PsfModel(quiet_wings(psf.coefficients, core), psf.order, psf.shape)


# ---------------------------------------------------------------- what the PSFs leave unexplained
def _matched(
    science: Exposure,
    template: Exposure,
    psfs: tuple[PsfModel, PsfModel],
    stars: Stars,
    configuration: Configuration,
) -> KernelFit:
    """The small kernel that takes template (x) science's PSF to science (x) template's PSF."""
    settings = configuration.match
    if len(stars) < FEWEST:
        point = np.zeros((3, 3))
        point[1, 1] = 1
        alike = [
            dataclasses.replace(one, frame=dataclasses.replace(one.frame, psf=point))
            for one in (science, template)
        ]
        fit = match_psfs(alike[0], alike[1], stars, psfs[1], (1.0, 1.0), settings)
        return dataclasses.replace(fit, algorithm="zogy")
    ratio, _ = flux_ratio(science, template, stars)
    target, convolved = (
        _crossed(exposure, psf, stars, settings.threads)
        for exposure, psf in ((science, psfs[1]), (template, psfs[0]))
    )
    noise = _grid(target) + ratio**2 * _grid(convolved)
    gain = 1 / max(1 / target.gain + ratio / convolved.gain, 1e-30)
    target = dataclasses.replace(target, sky_variance=SmoothPlane(noise, science.shape), gain=gain)
    width = float(np.hypot(stars.width("science"), stars.width("template")))
    wider = float(np.hypot(1, BASIS)) * width
    return match(target, convolved, stars, _product(*psfs), (wider, width), settings)


def _crossed(exposure: Exposure, psf: PsfModel, stars: Stars, threads: int) -> Exposure:
    """An exposure convolved with a PSF: image, sky variance and gain; unusable pixels grown by what it spreads."""
    height, width = exposure.shape
    images = polynomial_fit(lambda u, v: psf.at((v + 1) * height / 2, (u + 1) * width / 2), ORDER)
    pieces = tiles(exposure.shape, TILE, psf.half)
    spectra = carried(images, pieces[0].size)
    image = np.empty(exposure.shape, np.float32)

    def work(tile: Tile) -> None:
        forward = spectrum_of(exposure.image[tile.outer], tile)
        image[tile.core] = varying_tile(forward, spectra, ORDER, psf.half, tile)

    over(work, pieces, threads)
    share = float((psf.at(height / 2, width / 2) ** 2).sum())
    spread = grown(exposure.unusable, round(stars.width("science")))
    mask = exposure.mask | np.where(spread, bit("BAD"), 0).astype(exposure.mask.dtype)
    plane = SmoothPlane(share * _grid(exposure), exposure.shape)
    return dataclasses.replace(exposure, image=image, mask=mask, sky_variance=plane, gain=exposure.gain / share)


def _grid(exposure: Exposure) -> np.ndarray:
    """(16, 16) float32 sky variance at the middles of as many cells."""
    y, x = (((np.arange(16) + 0.5) * side / 16).astype(int) for side in exposure.shape)
    return exposure.sky_variance.at(*(a.ravel() for a in np.meshgrid(y, x, indexing="ij"))).reshape(16, 16)


def _product(one: PsfModel, two: PsfModel) -> PsfModel:
    """The PSF of what was convolved with another's, as in the middle of the field."""
    height, width = one.shape
    half = max(one.half, two.half)
    size = 4 * half + 2
    spectra = (np.fft.rfft2(psf.at(height / 2, width / 2, half), (size, size)) for psf in (one, two))
    image = np.fft.irfft2(next(spectra) * next(spectra), (size, size))[half : 3 * half + 1, half : 3 * half + 1]
    return PsfModel(image[None], 0, one.shape)


# ---------------------------------------------------------------- filters over the field
@dataclass(frozen=True)
class Local:
    """The filters at each place of the field."""

    psfs: tuple[PsfModel, PsfModel]
    kernel: MatchingKernel
    parts: Roles

    @property
    def size(self) -> int:
        """Side of the square that the filters are made in."""
        return 2 * max(64, *(psf.half + self.kernel.half for psf in self.psfs)) + 32

    def spectra(self, u: float, v: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(science's filter, template's filter, PSF of the difference), as `arrays.zogy_tiles.proper` has them."""
        height, width = self.kernel.shape
        y, x = (v + 1) * height / 2, (u + 1) * width / 2
        sky = noises.sky_variances(self.parts, y, x)
        return proper((self.psfs[0].at(y, x), self.psfs[1].at(y, x)), self.kernel.at(y, x), sky, self.size)

    def reach(self) -> int:
        """Half width of the filters, pixels."""
        images = (np.fft.irfft2(one, (self.size, self.size)) for one in self.spectra(0, 0)[:2])
        return int(np.clip(max(reach_of(image, 1e-7) for image in images), *REACH))

    def filters(self, u: float, v: float) -> np.ndarray:
        """(2, K, K) float64 science's and template's filter; their sums are 1 and the flux ratio."""
        half = self.reach()
        spectra = self.spectra(u, v)[:2]
        images = np.array([picture(one, self.size, half) for one in spectra])
        return images * (np.array([one[0, 0].real for one in spectra]) / images.sum((1, 2)))[:, None, None]

    def correlation(self, y: float, x: float) -> np.ndarray:
        """(2 REACH + 1)^2 autocorrelation of the difference of white images."""
        height, width = self.kernel.shape
        images = self.filters(2 * x / width - 1, 2 * y / height - 1)
        sky = noises.sky_variances(self.parts, y, x)
        return sky[0] * of_kernel(images[0], noises.REACH) + sky[1] * of_kernel(images[1], noises.REACH)

    def limit(self) -> float:
        """As `noise.sky_limit`, of the template as it is subtracted."""
        a, b = noises.sky_variances(self.parts, self.kernel.shape[0] / 2, self.kernel.shape[1] / 2)
        images = self.filters(0, 0)
        powers = (images**2).sum((1, 2))
        return noises.limit_of(images[1], np.sqrt(b / (a * powers[0] + b * powers[1])))

    def thirds(self, at: Callable[[float, float], np.ndarray]) -> np.ndarray:
        """(9, ...) float32 values at the frame's thirds."""
        return np.array([at(u, v) for v in (-2 / 3, 0, 2 / 3) for u in (-2 / 3, 0, 2 / 3)], np.float32)


def _subtract(parts: Roles, local: Local, threads: int) -> Planes:
    """The proper difference, a smooth residual sky removed; `model` is the template's part of it."""
    pair, kernel, half = bare(parts), local.kernel, local.reach()
    pieces = tiles(kernel.shape, TILE, half)
    made = proper_filters(local.filters, pieces[0].size)
    planes = Planes.empty(kernel.shape)
    limit = local.limit()
    fwhm = FWHM * max(parts.widths)
    cells = ResidualSky(pieces, fwhm)
    reach = round(2.5 * fwhm)

    def work(tile: Tile) -> None:
        image, model, variance = proper_tile(pair, made, tile)
        lost = proper_lost(pair, made, tile)
        image -= background_tile(kernel.background, kernel.background_order, tile)
        blank, sums = quiet_sky(image, variance, model, lost, limit, reach)
        cells.add(tile, sums)
        core = tile.core
        planes.image[core], planes.variance[core] = image, variance
        planes.model[core], planes.lost[core], planes.blank[core] = model, lost, blank

    over(work, pieces, threads)
    sky, planes.weight = cells.smooth(threads, planes.image)
    subtract_sky(planes.image, sky, pieces, threads)
    return planes


def _recipe(local: Local, seen: noises.Noise, width: float) -> Recipe:
    """What the score pass needs: the difference's PSF, and what whitens noise that its inputs had correlated."""
    half = int(np.clip(np.ceil(3.5 * FWHM * width), *PROFILE))

    def whiten_at(u: float, v: float, size: int) -> tuple[np.ndarray, float]:
        power = seen.ratio(size)
        return np.sqrt(power[0, 0] / power), float(power[0, 0] / mean_power(power, size))

    def profile_at(u: float, v: float, white: bool = True) -> np.ndarray:
        spectrum = local.spectra(u, v)[2]
        if white and seen.correlated:
            spectrum = spectrum * whiten_at(u, v, local.size)[0]
        return picture(spectrum / spectrum[0, 0].real, local.size, half)

    whiten = whiten_at if seen.correlated else None
    reach = noises.whitening_reach(whiten) if whiten else 0
    return Recipe(
        lambda side: filters(profile_at, whiten, side, reach),
        reach,
        local.thirds(profile_at),
        local.thirds(lambda u, v: profile_at(u, v, white=False)),
    )
