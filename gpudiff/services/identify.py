"""What each detection of a frame is, from everything that is known of the sky just then."""

import numpy as np

from gpudiff.model.association import Association
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.config import Configuration, Sky
from gpudiff.model.photometry import Light
from gpudiff.model.tables import Table
from gpudiff.science.associate import NEIGHBOURHOOD, associate
from gpudiff.science.solar_system import Sight
from gpudiff.science.tracklets import LinkLimits
from gpudiff.services.known_sky import KnownSky, circle
from gpudiff.services.solar_system import SolarSystem


def identify(
    batch: DetectionBatch,
    sky: KnownSky,
    solar_system: SolarSystem | None,
    configuration: Configuration,
    now: float,
) -> Association:
    """The association of a batch; `sky` is looked at, not changed.

    The caller, once it has committed: sky.put(found.stored_objects), sky.note(batch.sources, found).
    """
    sources, limits = batch.sources, limits_of(configuration.sky)
    ra, dec = sources["ra"], sources["dec"]
    return associate(
        sources,
        sky.near(ra, dec, NEIGHBOURHOOD / 3600),
        configuration.service.association_radius,
        now,
        movers=_movers(batch, solar_system),
        loose=sky.loose(ra, dec, limits.fastest * limits.window / 3600),
        light=Light.of_frame(len(sources), batch.observation.band, batch.unit, batch.zero_point),
        limits=limits,
    )


def limits_of(sky: Sky) -> LinkLimits:
    """The limits of tracklets that the configuration sets."""
    return LinkLimits(sky.tracklet_slowest, sky.tracklet_fastest, sky.tracklet_window, sky.tracklet_chance)


def seen_of(batch: DetectionBatch, solar_system: SolarSystem | None, found: Association) -> Sight | None:
    """What is known of the Solar System objects that were found in a batch; None where there are none."""
    ids = found.ss_object_ids[found.ss_object_ids != 0]
    if solar_system is None or not len(ids):
        return None
    return solar_system.sight(ids, batch.observation.midpoint_mjd_tai)


def _movers(batch: DetectionBatch, solar_system: SolarSystem | None) -> Table | None:
    ra, dec = batch.sources["ra"], batch.sources["dec"]
    placed = np.isfinite(ra) & np.isfinite(dec)
    if solar_system is None or not placed.any():
        return None
    observation = batch.observation
    around = circle(ra[placed], dec[placed], 0.0)
    return solar_system.at(observation.midpoint_mjd_tai, observation.exposure_s, *around)
