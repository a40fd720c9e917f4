"""From associated DIASources to what their alerts say, in the published units."""

from typing import Any

import numpy as np

from gpudiff import __version__
from gpudiff.model.alert import ALERT_SOURCE, FLUXES, MOMENTS, NANOJANSKY, AlertBatch
from gpudiff.model.association import Association
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.forced import MadeUp
from gpudiff.model.photometry import nanojansky
from gpudiff.model.provenance import extend, step
from gpudiff.model.tables import FORCED_FLUXES, Table
from gpudiff.science.solar_system import Sight, solar_system


def make_alerts(
    batch: DetectionBatch,
    association: Association,
    revision: int,
    configuration: str,
    now: float,
    seen: Sight | None = None,
) -> AlertBatch:
    """One alert for each DIASource of the batch.

    revision : see AlertBatch; configuration : digest of what the association depends on; now : MJD TAI
    seen : what is known of the Solar System objects that were found, None when nothing is
    Fluxes are nJy when the frame's zero point is known, or its unit is one of flux, else in the image's unit;
    common["fluxUnit"] says which.  Trails, dipoles and moments are arcsec by the WCS, NaN without one.
    """
    fingerprint, _ = provenance(batch, configuration)
    observation = batch.observation
    common = {
        "band": observation.band or None,
        "exposureTime": None if np.isnan(observation.exposure_s) else observation.exposure_s,
        "timeProcessedMjdTai": now,
        "fluxUnit": flux_unit(batch),
        "reliabilityVersion": next((one["version"] for one in batch.steps if one["step"] == "reliability"), None),
    }
    return AlertBatch(
        sources=published(batch),
        association=association,
        common=common,
        cutouts=batch.cutouts,
        variance=batch.variance,
        mask=batch.mask,
        psf=batch.psf,
        own=batch.own,
        solar_system=solar_system(batch.sources, association, seen),
        wcs=batch.wcs,
        image_unit=batch.unit,
        fingerprint=fingerprint,
        revision=revision,
        latency_s=latency(batch, now),
    )


def provenance(batch: DetectionBatch, configuration: str) -> tuple[str, list[dict]]:
    """The fingerprint with the associator's own steps, and all the steps behind it."""
    own = [step("associate", __version__, configuration, []), step("encode", __version__, "", [])]
    return extend(batch.fingerprint, own), [*batch.steps, *own]


def reference_time(batch: DetectionBatch) -> float:
    """When the latency starts to count, MJD TAI: the end of readout, or else arrival; NaN when unknown."""
    end = batch.observation.readout_end_tai
    return batch.received_tai if np.isnan(end) else end


def latency(batch: DetectionBatch, now: float) -> float | None:
    """Seconds from the reference time to `now`, or None."""
    start = reference_time(batch)
    return None if np.isnan(start) else (now - start) * 86400


def published(batch: DetectionBatch) -> Table:
    """The DIASources in published units: Table of model.alert.ALERT_SOURCE."""
    sources = batch.sources
    scale = nanojansky(batch.unit, batch.zero_point) or 1.0
    changed = {name: sources[name] * scale for name in FLUXES}
    jacobian = 3600 * batch.jacobian
    area = np.abs(jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0])
    changed |= {name: sources[name] * area for name in MOMENTS}
    for what, whole in (("trail", 180), ("dipole", 360)):
        angle = np.radians(sources[f"{what}Angle"])
        east, north = np.einsum("nij,jn->in", jacobian, np.stack([np.cos(angle), np.sin(angle)]))
        changed[f"{what}Length"] = sources[f"{what}Length"] * np.hypot(east, north)
        changed[f"{what}Angle"] = np.degrees(np.arctan2(east, north)) % whole
    return Table(ALERT_SOURCE, {**sources.columns, **changed})


def published_forced(batch: DetectionBatch | MadeUp) -> Table:
    """The frame's forced photometry in published units, as the DIASources' fluxes are: Table of FORCED_SOURCE."""
    scale = nanojansky(batch.unit, batch.zero_point) or 1.0
    return batch.forced.replace(**{name: batch.forced[name] * scale for name in FORCED_FLUXES})


def forced_common(batch: DetectionBatch | MadeUp, now: float) -> dict[str, Any]:
    """What all records of a frame's forced photometry share.  now : MJD TAI"""
    return {"timeProcessedMjdTai": now, "fluxUnit": flux_unit(batch)}


def flux_unit(batch: DetectionBatch | MadeUp) -> str:
    """In which published fluxes are: nJy where that can be known."""
    return batch.unit if nanojansky(batch.unit, batch.zero_point) is None else NANOJANSKY
