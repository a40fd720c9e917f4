"""Made pairs: stars on a flat sky through a PSF that varies over the field, with photon and read noise."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from scipy.signal import fftconvolve

from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Difference, Frame, FrameId, Observation
from gpudiff.model.tables import Table
from gpudiff.science.calibrate import calibrate
from gpudiff.science.subtract import subtract

GAIN, READ_NOISE = 1.5, 6.0
ROOT8LN2 = 2.3548


@dataclass(frozen=True)
class Recipe:
    """What a pair is made of; fluxes in ADU of the science image.

    fwhm : px at the centre, science then template; sky : ADU; scale : science flux over template flux
    slope : the template's transparency grows by this share per unit of u, from centre to edge
    shift : px y, x by which the template's pixels are off: a source lies there so much farther on
    ring : px, radius of the ring that a defocused science image makes of a star; 0 for none
    beta : of a Moffat profile; 0 for a Gaussian.  widen : relative growth of the width per unit of u and -v
    """

    seed: int = 1
    size: int = 384
    fwhm: tuple[float, float] = (4.6, 3.6)
    sky: tuple[float, float] = (300.0, 250.0)
    scale: float = 1.0
    slope: float = 0.0
    beta: float = 0.0
    widen: float = 0.03
    shift: tuple[float, float] = (0.0, 0.0)
    stars: int = 100
    star_flux: tuple[float, float] = (4e3, 1.5e5)
    transients: int = 0
    snr: tuple[float, float] = (8.0, 40.0)
    saturation: float | None = None
    template_gain: float = GAIN
    ring: float = 0.0


@dataclass(frozen=True)
class MadePair:
    """Two frames and what is true of them: sources as (N, 3) arrays of y, x, flux."""

    recipe: Recipe
    science: Frame
    template: Frame
    stars: np.ndarray
    changes: np.ndarray

    def with_science(self, change: Any) -> "MadePair":
        """The same with `change(image)` done to a copy of the science image."""
        image = self.science.image.copy()
        change(image)
        return replace(self, science=replace(self.science, image=image))


def profile(recipe: Recipe, fwhm: float, y: float, x: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Unit-sum light of a source at (y, x) on the given pixels; the width is that of its place."""
    u, v = 2 * x / recipe.size - 1, 2 * y / recipe.size - 1
    width = fwhm * (1 + recipe.widen * (u - v))
    r2 = (rows - y) ** 2 + (columns - x) ** 2
    if recipe.beta:
        a2 = (width / 2) ** 2 / (2 ** (1 / recipe.beta) - 1)
        return (recipe.beta - 1) / (np.pi * a2) * (1 + r2 / a2) ** -recipe.beta
    s2 = (width / ROOT8LN2) ** 2
    return np.exp(-0.5 * r2 / s2) / (2 * np.pi * s2)


def render(recipe: Recipe, fwhm: float, sources: np.ndarray) -> np.ndarray:
    """(size, size) noiseless light of (N, 3) sources y, x, flux."""
    image = np.zeros((recipe.size, recipe.size))
    reach = 48 if recipe.beta else 22
    for y, x, flux in sources:
        box = tuple(slice(max(0, round(c) - reach), min(recipe.size, round(c) + reach + 1)) for c in (y, x))
        image[box] += flux * profile(recipe, fwhm, y, x, *np.mgrid[box])
    return image


def ring(radius: float, half: int = 12) -> np.ndarray:
    """(2 half + 1, ...) unit-sum ring, 1.4 px thick: what defocus does to a star."""
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (np.hypot(axis, axis[:, None]) - radius) ** 2 / 0.7**2)
    return image / image.sum()


def scatter(rng: np.random.Generator, size: int, count: int, margin: float, taken: np.ndarray, apart: float):
    """(count, 2) positions y, x at least `apart` from each other and from those taken."""
    found: list[np.ndarray] = []
    for _ in range(200 * max(count, 1)):
        if len(found) == count:
            break
        place = rng.uniform(margin, size - margin, 2)
        if all(np.hypot(*(place - other)) > apart for other in [*taken[:, :2], *found]):
            found.append(place)
    return np.array(found).reshape(-1, 2)


def frame(name: str, image: np.ndarray, recipe: Recipe, gain: float, **more: Any) -> Frame:
    observation = Observation(FrameId(7, 0, 3), mjd_start_tai=60000.0, mjd_end_tai=60000.001)
    saturation = recipe.saturation
    return Frame(
        name, observation, image, gain=gain, read_noise=READ_NOISE, saturation=saturation, digest=name, **more
    )


def expose(rng: np.random.Generator, light: np.ndarray, gain: float, saturation: float | None) -> np.ndarray:
    """float32 ADU with photon and read noise, clipped at saturation."""
    image = (rng.poisson(light * gain) + rng.normal(0, READ_NOISE, light.shape)) / gain
    return np.minimum(image, saturation if saturation is not None else np.inf).astype(np.float32)


def make(recipe: Recipe, extra: Any = None) -> MadePair:
    """The pair of a recipe; `extra` (N, 3) more stars y, x, flux, in both images.

    Half of the changes are new in the science image, half were there only in the template (negative flux).
    """
    rng = np.random.default_rng(recipe.seed)
    low, high = recipe.star_flux
    more = np.empty((0, 3)) if extra is None else np.asarray(extra, float)
    places = scatter(rng, recipe.size, recipe.stars, 12, more, 19)
    stars = np.concatenate([np.c_[places, low * (high / low) ** rng.uniform(0, 1, len(places)) ** 2], more])
    places = scatter(rng, recipe.size, recipe.transients, 26, stars, 22)
    noise = np.hypot(*(np.sqrt(s / GAIN + (READ_NOISE / GAIN) ** 2) for s in recipe.sky))
    unit = np.sqrt(4 * np.pi) * max(recipe.fwhm) / ROOT8LN2 * noise
    flux = unit * rng.uniform(*recipe.snr, len(places)) * np.where(np.arange(len(places)) % 2, -1, 1)
    changes = np.c_[places, flux]
    new = np.concatenate([stars, changes[flux > 0]])
    gone = np.concatenate([stars, changes[flux < 0] * [1, 1, -1]])
    across = 1 + recipe.slope * (2 * np.arange(recipe.size) / recipe.size - 1)
    light = render(recipe, recipe.fwhm[0], new)
    if recipe.ring:
        light = np.maximum(fftconvolve(light, ring(recipe.ring), mode="same"), 0)
    light += recipe.sky[0]
    there = gone + np.array([*recipe.shift, 0])
    behind = render(recipe, recipe.fwhm[1], there) * across / recipe.scale + recipe.sky[1]
    images = [
        expose(rng, light, GAIN, recipe.saturation),
        expose(rng, behind, recipe.template_gain, recipe.saturation),
    ]
    science = frame("science", images[0], recipe, GAIN)
    return MadePair(recipe, science, frame("template", images[1], recipe, recipe.template_gain), stars, changes)


@dataclass(frozen=True)
class Done:
    """A pair and what became of it."""

    pair: MadePair
    difference: Difference
    sources: Table
    configuration: Configuration = field(default_factory=Configuration)

    def away(self, reach: float = 14.0) -> np.ndarray:
        """Bool: pixels with a value, farther than `reach` px from every star and change put in."""
        out = np.isfinite(self.difference.image)
        rows, columns = np.mgrid[: out.shape[0], : out.shape[1]]
        for y, x, _ in [*self.pair.stars, *self.pair.changes]:
            out &= np.hypot(rows - y, columns - x) > reach
        return out

    def nearest(self, radius: float = 2.0) -> np.ndarray:
        """(N changes,) row of the source nearest to each change, -1 where none is within `radius` px."""
        out = np.full(len(self.pair.changes), -1)
        for n, (y, x, _) in enumerate(self.pair.changes):
            distance = np.hypot(self.sources["y"] - y, self.sources["x"] - x)
            if len(distance) and distance.min() < radius:
                out[n] = int(distance.argmin())
        return out

    def unflagged_false(self) -> Table:
        """Sources that say "alert" where nothing was put in."""
        rows = np.ones(len(self.sources), bool)
        rows[self.nearest(4.0)[self.nearest(4.0) >= 0]] = False
        return self.sources.take(rows & ~self.sources["flagged"])


def settings(**match: Any) -> Configuration:
    """Defaults but for [match], and `decorrelate`; one thread unless said."""
    decorrelate = match.pop("decorrelate", True)
    made = override(Configuration(), "match", threads=match.pop("threads", 1), **match)
    return override(made, "detect", decorrelate=decorrelate)


def run(pair: MadePair, **match: Any) -> Done:
    """The pair subtracted with `settings(**match)`."""
    configuration = settings(**match)
    return Done(pair, *subtract(pair.science, pair.template, configuration), configuration)


class Maker:
    """What the tests call: `maker.pair(stars=50)`, `maker.run(pair, convolve="science")`."""

    gain, read_noise = GAIN, READ_NOISE
    settings = staticmethod(settings)
    run = staticmethod(run)
    profile = staticmethod(profile)
    ring = staticmethod(ring)

    @staticmethod
    def pair(extra: Any = None, **recipe: Any) -> MadePair:
        return make(Recipe(**recipe), extra)

    @staticmethod
    def exposures(pair: MadePair) -> tuple[Any, Any]:
        """The two calibrated exposures, made anew: a difference uses them up."""
        return calibrate(pair.science, settings()), calibrate(pair.template, settings())


@pytest.fixture(scope="session")
def maker() -> Maker:
    return Maker()


@pytest.fixture(scope="session")
def done() -> Done:
    """One ordinary pair of 384 px: 100 stars, 24 changes of 8 to 40 sigma; do not write into its arrays."""
    return run(make(Recipe(transients=24)))
