"""What a hard scene adds to its images that is not of the sky, and where it lies."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gpudiff.arrays.artefacts import add_ghost, add_halo, add_spikes, add_streak, hot_pixels, rough_surface
from gpudiff.arrays.render import add_stars, moffat_mixture
from gpudiff.model.hard_scene import HardScene
from gpudiff.model.mask import bit
from gpudiff.model.scene import Catalogue, Night
from gpudiff.science.night import sky_limit
from gpudiff.science.view import View

BRIGHT = 3000.0
"""Signal to noise of the stars with spikes."""
SEEN = 0.15
"""Sigmas of the sky's noise a pixel above which an artefact is marked."""
ROUGHNESS_SCALE = 60.0
"""px, of the unevenness of a rough sky."""
TEMPLATE_SHARE = 0.25
"""Of the science image's roughness, in the template."""


@dataclass(frozen=True)
class Told:
    """Artefacts of one kind for the truth: light (N, 3) x, y, electrons; length in px and angle in degrees."""

    kind: str
    light: np.ndarray
    length: Any = 0.0
    angle: Any = 0.0


@dataclass
class Artefacts:
    """science, template : (H, W) float32 electrons to add; 0 where nothing is; mask : (H, W) int32 in our bits"""

    science: np.ndarray
    template: np.ndarray | np.float32
    mask: np.ndarray
    told: list[Told] = field(default_factory=list)


def artefacts(scene: HardScene, night: Night, sky: Catalogue, view: View, rng: np.random.Generator) -> Artefacts:
    """All that the scene adds to an exposure of its sky."""
    shape = (view.detector.height, view.detector.width)
    made = Artefacts(np.zeros(shape, np.float32), np.float32(0), np.zeros(shape, np.int32))
    if scene.streaks:
        _streaks(made, scene.streaks, view, rng)
    if scene.glints:
        _glints(made, scene.glints, night, view, rng)
    if scene.spikes:
        _spikes(made, night, sky, view, rng)
    if scene.hot_pixels:
        _hot(made, round(scene.hot_pixels * view.detector.megapixels()), rng)
    if scene.rough_sky:  # last: it is everywhere, and marked nowhere
        made.science = made.science + scene.rough_sky * night.sky * rough_surface(shape, ROUGHNESS_SCALE, rng)
        rough = TEMPLATE_SHARE * scene.rough_sky * night.sky * rough_surface(shape, ROUGHNESS_SCALE, rng)
        made.template = made.template + rough
    return made


def _sigma(view: View) -> float:
    """Electrons, of the sky's noise in a pixel."""
    return math.sqrt(view.weather.sky + view.detector.read_noise**2)


def _streaks(made: Artefacts, peaks: tuple[float, ...], view: View, rng: np.random.Generator) -> None:
    """Lines half as wide again as the PSF through the middle half of the image."""
    height, width = made.science.shape
    rows = []
    for peak in peaks:
        x, y, angle = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height, rng.uniform(0, math.pi)
        fwhm = 1.5 * view.weather.fwhm
        add_streak(made.science, x, y, angle, peak * _sigma(view), fwhm)
        length = math.hypot(width, height)
        rows.append((x, y, 1.064 * fwhm * peak * _sigma(view) * length, length, math.degrees(angle)))
    table = np.array(rows)
    made.mask[made.science > SEEN * _sigma(view)] |= bit("STREAK")
    made.told.append(Told("streak", table[:, :3], table[:, 3], table[:, 4]))


def _glints(made: Artefacts, count: int, night: Night, view: View, rng: np.random.Generator) -> None:
    """Flashes at even distances on a line through the middle of the image, each trailed by 1 to 4 px."""
    height, width = made.science.shape
    angle, length = rng.uniform(0, math.pi), rng.uniform(1, 4)
    step = 0.7 * min(height, width) / count
    along = (np.arange(count) - (count - 1) / 2) * step
    x, y = 0.5 * width + along * math.cos(angle), 0.5 * height + along * math.sin(angle)
    flux = sky_limit(night) * 10 * 6 ** rng.uniform(size=count)
    parts = (np.arange(9) - 4) / 9 * length
    dots = [(a + parts * math.cos(angle), b + parts * math.sin(angle)) for a, b in zip(x, y, strict=True)]
    dot_x, dot_y = (np.concatenate(c) for c in zip(*dots, strict=True))
    shape, psf = view.psf_shape(dot_x, dot_y), moffat_mixture(night.moffat_beta)
    add_stars(made.science, dot_x, dot_y, np.repeat(flux / 9, 9), shape, psf, 0.01 * _sigma(view))
    made.mask[made.science > SEEN * _sigma(view)] |= bit("STREAK")
    made.told.append(Told("glint", np.stack([x, y, flux], -1), length, math.degrees(angle)))


def _spikes(made: Artefacts, night: Night, sky: Catalogue, view: View, rng: np.random.Generator) -> None:
    """The camera was turned by 8 degrees between the images, its optics cleaner in the template."""
    made.template = np.zeros_like(made.science)
    height, width = made.science.shape
    angle = rng.uniform(0, math.pi / 2)
    for star in np.flatnonzero(sky.stars["flux"] > BRIGHT * sky_limit(night)):
        x, y, flux = (float(sky.stars[name][star]) for name in ("x", "y", "flux"))
        dx, dy = x - width / 2, y - height / 2
        add_spikes(made.science, x, y, flux, angle, view.weather.fwhm)
        add_spikes(made.template, x, y, flux, angle + math.radians(8), view.weather.fwhm)
        add_halo(made.science, x, y, flux)
        add_halo(made.template, x, y, 0.6 * flux)
        add_ghost(made.science, x + 0.10 * dx + 9, y + 0.10 * dy, flux)
        add_ghost(made.template, x + 0.06 * dx, y + 0.06 * dy + 9, 0.6 * flux)
    made.mask[np.abs(made.science - made.template) > SEEN * _sigma(view)] |= bit("SUSPECT")


def _hot(made: Artefacts, count: int, rng: np.random.Generator) -> None:
    light = hot_pixels(made.science.shape, count, rng)
    x, y = light[:, 0].astype(int), light[:, 1].astype(int)
    made.science[y, x] += light[:, 2]
    made.mask[y, x] |= bit("BAD")
    made.told.append(Told("hot-pixel", light))
