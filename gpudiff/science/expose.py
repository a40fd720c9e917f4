"""A simulated exposure: the sky of a detector seen through the weather, as a Frame with its truth."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from gpudiff.arrays.render import Mixture, add_galaxies, add_stars, moffat_mixture, sersic_mixture
from gpudiff.arrays.sensor import add_cosmic_rays, add_noise, bad_columns, bleed
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.model.scene import Catalogue, Detector, FocalPlane, Night, Visit
from gpudiff.model.tables import Table, concatenate
from gpudiff.science.injected import before, on_visit, trails, truth_of, truth_of_light
from gpudiff.science.night import BAD_COLUMNS, NOISE, TEMPLATE_NOISE, epochs, field_centres, generator
from gpudiff.science.view import View, wcs

READOUT_S = 2.0


def frame(
    night: Night, plane: FocalPlane, sky: Catalogue, visit: Visit, detector: Detector
) -> tuple[Frame, Table]:
    """One detector of one visit, uint16 ADU, and the truth about it (model.scene.TRUTH).

    The mask holds SAT (with the bleeds), BAD (dead columns, whose pixels are 0), and CR if the night says so.
    """
    view = View(detector, plane.radius_mm, visit.weather)
    changes = on_visit(night, sky, visit, view)
    return developed(night, visit, view, changes, scene(night, sky, view, changes))


def developed(
    night: Night, visit: Visit, view: View, changes: dict[str, np.ndarray], mean: np.ndarray
) -> tuple[Frame, Table]:
    """What the camera makes of the light that falls on it, and the truth about it.

    mean : (H, W) float32, electrons expected; changes : those among it (science.injected.on_visit)
    """
    detector = view.detector
    electrons, mask, rays = _read_out(night, visit, detector, mean)
    made = Frame(
        name=f"frame {FrameId(visit.number, 0, detector.number)}",
        observation=observation(night, visit, detector),
        image=np.rint(electrons / detector.gain).clip(0, 65535).astype(np.uint16),
        mask=mask,
        gain=detector.gain,
        read_noise=detector.read_noise,
        saturation=detector.saturation,
        wcs=wcs(night, visit.ra, visit.dec, detector),
        zero_point=_zero_point(night, detector, view),
    )
    truth = truth_of(night, visit, view, changes, mean, mask != 0, made.wcs)
    noise = float(np.sqrt(np.median(mean) + detector.read_noise**2))
    return made, concatenate([truth, truth_of_light("cosmic-ray", made, rays, noise)])


def _read_out(
    night: Night, visit: Visit, detector: Detector, mean: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Electrons read, mask, and the cosmic rays that hit (arrays.sensor.add_cosmic_rays)."""
    rng = generator(night, NOISE, visit.number, detector.number)
    electrons = add_noise(mean, 1, detector.read_noise, rng)
    clean = electrons.copy() if night.mask_cosmic_rays else electrons
    rays = add_cosmic_rays(electrons, rng.poisson(night.cosmic_rays * detector.megapixels()), rng)
    mask = np.where(electrons > clean, bit("CR"), np.int32(0))
    full = detector.saturation * detector.gain
    mask[bleed(electrons, electrons >= full, full)] |= bit("SAT")
    dead = bad_columns(mean.shape, night.bad_columns, generator(night, BAD_COLUMNS, detector.number))
    mask[dead] |= bit("BAD")
    electrons[dead] = 0
    return electrons, mask, rays


def template(night: Night, plane: FocalPlane, sky: Catalogue, field: int, detector: Detector) -> Frame:
    """The mean of the field's earlier epochs on one detector, float32 ADU, with the gain of all of them."""
    views = [View(detector, plane.radius_mm, weather) for weather in epochs(night, field)]
    means = (scene(night, sky, view, before(sky, view)) for view in views)
    return stacked(night, field, views, means)


def stacked(night: Night, field: int, views: Sequence[View], means: Iterable[np.ndarray]) -> Frame:
    """The mean of exposures of one detector, float32 ADU.

    means : (H, W) float32, the electrons expected in each exposure
    A pixel that saturates in any of them is masked SAT.  `gain` and `read_noise` are those of a single frame
    that has the mean's noise: N times the gain, sqrt(N) times the read noise.
    """
    detector, count = views[0].detector, len(views)
    full = detector.saturation * detector.gain
    mean, saturated = np.zeros((1, 1), np.float32), np.zeros((1, 1), bool)  # the first one gives the shape
    for one in means:
        saturated = saturated | (one >= full)
        mean = mean + np.minimum(one, full) / np.float32(count)
    rng = generator(night, TEMPLATE_NOISE, field, detector.number)
    electrons = add_noise(mean, count, detector.read_noise, rng)
    saturated = bleed(electrons, saturated, full)
    ra, dec = field_centres(night)[field]
    return Frame(
        name=f"template {night.band}_{detector.number}",
        observation=Observation(
            FrameId(0, 0, detector.number),
            night.band,
            exposure_s=night.exposure * count,
            boresight_ra=ra,
            boresight_dec=dec,
            rotation_deg=night.rotation,
        ),
        image=electrons / np.float32(detector.gain),
        mask=np.where(saturated, bit("SAT"), np.int32(0)),
        gain=detector.gain * count,
        read_noise=detector.read_noise * math.sqrt(count),
        saturation=detector.saturation,
        wcs=wcs(night, ra, dec, detector),
        zero_point=float(np.mean([_zero_point(night, detector, view) for view in views])),
    )


def observation(night: Night, visit: Visit, detector: Detector) -> Observation:
    """When and where one frame of the visit was taken."""
    end = visit.mjd_start + night.exposure / 86400
    return Observation(
        FrameId(visit.number, 0, detector.number),
        night.band,
        mjd_start_tai=visit.mjd_start,
        mjd_end_tai=end,
        readout_end_tai=end + READOUT_S / 86400,
        exposure_s=night.exposure,
        boresight_ra=visit.ra,
        boresight_dec=visit.dec,
        rotation_deg=night.rotation,
    )


def _zero_point(night: Night, detector: Detector, view: View) -> float:
    middle = view.transparency((detector.width - 1) / 2, (detector.height - 1) / 2)
    return night.zero_point + 2.5 * math.log10(float(middle) / detector.gain)


def scene(night: Night, sky: Catalogue, view: View, changes: dict[str, np.ndarray]) -> np.ndarray:
    """(H, W) float32 electrons expected: sky, stars, galaxies and what changes."""
    return with_changes(night, view, static_sky(night, sky, view), changes)


def static_sky(night: Night, sky: Catalogue, view: View) -> np.ndarray:
    """(H, W) float32 electrons expected of the sky, the stars and the galaxies."""
    image = view.sky()
    psf, faintest = moffat_mixture(night.moffat_beta), _faintest(night)
    _add_points(image, view, psf, faintest, sky.stars["x"], sky.stars["y"], sky.stars["flux"])
    for index in (1, 4):
        _add_galaxies(image, view, psf, 2 * faintest, index, sky.galaxies)
    return image


def with_changes(night: Night, view: View, static: np.ndarray, changes: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of `static` (H, W) float32 electrons with what changes drawn, nowhere below 0."""
    image = static.copy()
    x, y, flux = trails(night, changes, np.flatnonzero(changes["drawn"]))
    add_stars(image, x, y, flux, view.psf_shape(x, y), moffat_mixture(night.moffat_beta), _faintest(night) / 4)
    return np.maximum(image, 0, out=image)


def _faintest(night: Night) -> float:
    """Electrons a pixel out to which stars are drawn."""
    return 0.02 * math.sqrt(night.sky / (night.epochs + 1))


def _add_points(
    image: np.ndarray,
    view: View,
    psf: Mixture,
    faintest: float,
    x: np.ndarray,
    y: np.ndarray,
    flux: np.ndarray,
) -> None:
    drawn_x, drawn_y = view.moved(x, y)
    add_stars(image, drawn_x, drawn_y, flux * view.transparency(x, y), view.psf_shape(x, y), psf, faintest)


def _add_galaxies(
    image: np.ndarray, view: View, psf: Mixture, faintest: float, index: int, galaxies: dict[str, np.ndarray]
) -> None:
    g = {name: column[galaxies["index"] == index] for name, column in galaxies.items()}
    c, s = np.cos(g["angle"] - view.turn_rad), np.sin(g["angle"] - view.turn_rad)
    long, short = g["radius"] ** 2, (g["radius"] * g["axis_ratio"]) ** 2
    shape = np.stack([long * c * c + short * s * s, long * s * s + short * c * c, (long - short) * c * s], -1)
    x, y = view.moved(g["x"], g["y"])
    flux = g["flux"] * view.transparency(g["x"], g["y"])
    add_galaxies(image, x, y, flux, shape, sersic_mixture(index), view.psf_shape(x, y), psf, faintest)
