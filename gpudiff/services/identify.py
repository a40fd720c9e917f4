"""What each detection of some frames is, from everything that is known of the sky just then."""

from collections.abc import Sequence

import numpy as np

from gpudiff.model.association import Association
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.config import Configuration, Sky
from gpudiff.model.frame import Observation
from gpudiff.model.photometry import Light
from gpudiff.model.tables import Table, concatenate
from gpudiff.science.associate import associate
from gpudiff.science.solar_system import Sight
from gpudiff.science.tracklets import LinkLimits
from gpudiff.services.known_sky import KnownSky, circle
from gpudiff.services.solar_system import SolarSystem


def identify(
    batches: Sequence[DetectionBatch],
    sky: KnownSky,
    solar_system: SolarSystem | None,
    configuration: Configuration,
    now: float,
) -> list[Association]:
    """The association of each batch of one look; `sky` is looked at, not changed.

    batches : of one visit, as science.associate.looks puts them together; their detections are associated at once
    The caller, once it has committed: sky.put(found.stored_objects), sky.note(batch.sources, found).
    """
    limits = limits_of(configuration.sky)
    sources = concatenate([one.sources for one in batches])
    ra, dec = sources["ra"], sources["dec"]
    found = associate(
        sources,
        sky.near(ra, dec),
        configuration.service.association_radius,
        now,
        movers=_movers(ra, dec, batches[0].observation, solar_system),
        loose=sky.loose(ra, dec, limits.fastest * limits.window / 3600),
        light=Light.together(list(map(_light, batches))),
        limits=limits,
    )
    ends = np.cumsum([len(one.sources) for one in batches]).tolist()
    return [found.take(slice(start, end)) for start, end in zip([0, *ends], ends, strict=False)]


def _light(batch: DetectionBatch) -> Light:
    return Light.of_frame(len(batch.sources), batch.observation.band, batch.unit, batch.zero_point)


def limits_of(sky: Sky) -> LinkLimits:
    """The limits of tracklets that the configuration sets."""
    return LinkLimits(sky.tracklet_slowest, sky.tracklet_fastest, sky.tracklet_window, sky.tracklet_chance)


def seen_of(batch: DetectionBatch, solar_system: SolarSystem | None, found: Association) -> Sight | None:
    """What is known of the Solar System objects that were found in a batch; None where there are none."""
    ids = found.ss_object_ids[found.ss_object_ids != 0]
    if solar_system is None or not len(ids):
        return None
    return solar_system.sight(ids, batch.observation.midpoint_mjd_tai)


def _movers(
    ra: np.ndarray, dec: np.ndarray, observation: Observation, solar_system: SolarSystem | None
) -> Table | None:
    placed = np.isfinite(ra) & np.isfinite(dec)
    if solar_system is None or not placed.any():
        return None
    around = circle(ra[placed], dec[placed], 0.0)
    return solar_system.at(observation.midpoint_mjd_tai, observation.exposure_s, *around)
