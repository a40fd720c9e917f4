"""A hard scene, simulated: one science image, its template, the perfect difference and the truth."""

import dataclasses
import math

import numpy as np

from gpudiff.arrays.render import moffat_mixture, stamp
from gpudiff.model.frame import Frame
from gpudiff.model.hard_scene import HardPair, HardScene
from gpudiff.model.scene import Catalogue, Detector, Night, Visit, Weather, grid
from gpudiff.model.tables import Table, concatenate
from gpudiff.science import expose
from gpudiff.science.artefacts import Artefacts, artefacts
from gpudiff.science.injected import before, on_visit, truth_of_light
from gpudiff.science.night import ARTEFACTS, MARGIN, catalogue, epochs, generator, sky_limit, visits
from gpudiff.science.view import OwnGrid, View

FAINT, USABLE = 20.0, (150.0, 6000.0)
"""Where stars are few: signal to noise of the brightest of the useless ones (in a deep template three times as
much), and of the useful ones."""


def hard_pair(scene: HardScene, night: Night, size: int) -> HardPair:
    """The pair of one visit of the night (model.hard_scene.night_of_scene) on a sensor of `size` px a side.

    Raises BadConfiguration for a size that cannot be.
    """
    plane = grid(1, size)
    detector, visit = plane.detectors[0], _visit(scene, night)
    sky = _catalogue(scene, night, detector)
    view = View(detector, plane.radius_mm, visit.weather)
    changes = on_visit(night, sky, visit, view)
    added = artefacts(scene, night, sky, view, generator(night, ARTEFACTS))
    lit = expose.static_sky(night, sky, view) + added.science
    static = expose.with_changes(night, view, lit, before(sky, view))
    made, truth = expose.developed(night, visit, view, changes, expose.with_changes(night, view, lit, changes))
    template = _template(scene, night, sky, detector, plane.radius_mm, added)
    perfect = _perfect(night, view, made, static, added)
    if not scene.masked:
        made, template = dataclasses.replace(made, mask=None), dataclasses.replace(template, mask=None)
    return HardPair(made, template, perfect, concatenate([truth, *_told(added, made, static)]))


def _visit(scene: HardScene, night: Night) -> Visit:
    visit = visits(night)[0]
    if scene.registration_rms is None:
        return visit
    weather = dataclasses.replace(visit.weather, shift=_shift(scene.registration_rms, night))
    return dataclasses.replace(visit, weather=weather)


def _shift(rms: float, night: Night) -> np.ndarray:
    """(2, 6) px: a random quadratic of so much rms in each coordinate over the square field."""
    shift = generator(night, ARTEFACTS, 1).normal(size=(2, 6))
    u, v = np.meshgrid(*[np.linspace(-1, 1, 41)] * 2)
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v]).reshape(6, -1)
    return shift * (rms / np.sqrt(((shift @ terms) ** 2).mean(1)))[:, None]


def _catalogue(scene: HardScene, night: Night, detector: Detector) -> Catalogue:
    sky = catalogue(night, 0, detector)
    rng = generator(night, ARTEFACTS, 2)
    if scene.usable_stars is not None:
        sky = _few(sky, night, detector, scene.usable_stars, rng)
    if scene.trails is not None:
        sky = _trailed(sky, night, scene.trails, rng)
    return sky


def _few(sky: Catalogue, night: Night, detector: Detector, count: int, rng: np.random.Generator) -> Catalogue:
    """Nothing bright but `count` stars on the sensor; a variable goes with its star."""
    limit = sky_limit(night)
    faint = sky.stars["flux"] < FAINT * limit
    low, high = USABLE
    new = {
        "x": rng.uniform(2 * MARGIN, detector.width - 2 * MARGIN, count),
        "y": rng.uniform(2 * MARGIN, detector.height - 2 * MARGIN, count),
        "flux": limit * low * (high / low) ** rng.uniform(size=count),
    }
    stars = {name: np.concatenate([column[faint], new[name]]) for name, column in sky.stars.items()}
    small = sky.galaxies["flux"] < FAINT * limit
    galaxies = {name: column[small] for name, column in sky.galaxies.items()}
    stay = sky.changes["kind"] != "variable"
    return Catalogue(stars, galaxies, {name: column[stay] for name, column in sky.changes.items()})


def _trailed(sky: Catalogue, night: Night, lengths: tuple[float, float], rng: np.random.Generator) -> Catalogue:
    """The moving objects with trails of these lengths, brighter by what the trail costs in signal to noise."""
    changes = dict(sky.changes)
    moving = changes["kind"] == "moving"
    length = rng.uniform(*lengths, int(moving.sum()))
    angle = rng.uniform(-np.pi, np.pi, len(length))
    for name, part in (("rate_x", np.cos(angle)), ("rate_y", np.sin(angle))):
        changes[name] = changes[name].copy()
        changes[name][moving] = length * part / night.exposure
    fwhm = night.seeing / night.pixel_scale
    changes["flux"] = changes["flux"].copy()
    changes["flux"][moving] *= np.sqrt(1 + 0.6 * length / fwhm)
    return dataclasses.replace(sky, changes=changes)


def _template(
    scene: HardScene, night: Night, sky: Catalogue, detector: Detector, radius_mm: float, added: Artefacts
) -> Frame:
    def seen(weather: Weather) -> View:
        if not (scene.turn or scene.distortion):
            return View(detector, radius_mm, weather)
        return OwnGrid(detector, radius_mm, weather, math.radians(scene.turn), scene.distortion)

    views = [seen(weather) for weather in epochs(night, 0)]
    lit = (expose.static_sky(night, sky, view) + added.template for view in views)
    means = (expose.with_changes(night, v, one, before(sky, v)) for v, one in zip(views, lit, strict=True))
    made = expose.stacked(night, 0, views, means)
    first = views[0]
    return dataclasses.replace(made, wcs=first.wcs(made.wcs)) if isinstance(first, OwnGrid) else made


def _perfect(night: Night, view: View, made: Frame, static: np.ndarray, added: Artefacts) -> Frame:
    """Science minus the light that is there every night, with that light's variance and the true PSF."""
    gain, read_noise = view.detector.gain, view.detector.read_noise
    mask = np.zeros(static.shape, np.int32) if made.mask is None else made.mask
    return dataclasses.replace(
        made,
        name="perfect difference",
        image=(made.image - static / np.float32(gain)).astype(np.float32),
        variance=((static + np.float32(read_noise**2)) / np.float32(gain**2)).astype(np.float32),
        mask=mask | added.mask,
        psf=_true_psf(night, view),
    )


def _true_psf(night: Night, view: View) -> np.ndarray:
    """(9, K, K) float32 at the centres of 3 x 3 parts, rows of y outer."""
    half = math.ceil(4 * view.weather.fwhm)
    thirds = (np.arange(3) + 0.5) / 3
    x, y = np.tile(thirds, 3) * view.detector.width, np.repeat(thirds, 3) * view.detector.height
    mixture = moffat_mixture(night.moffat_beta)
    return np.array([stamp(0, 0, shape, mixture, half) for shape in view.psf_shape(x, y)], np.float32)


def _told(added: Artefacts, made: Frame, static: np.ndarray) -> list[Table]:
    """Truth rows of what is not of the sky."""
    noise = float(np.sqrt(np.median(static) + (made.read_noise or 0.0) ** 2))
    return [truth_of_light(a.kind, made, a.light, noise, a.length, a.angle) for a in added.told if len(a.light)]
