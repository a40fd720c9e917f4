"""Alerts: what a frame's alerts say, as columns in the published units, before any encoding."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.model.association import Association
from gpudiff.model.tables import DIASOURCE, Column, Table

NANOJANSKY = "nJy"
FLUXES = (
    "psfFlux",
    "psfFluxErr",
    "apFlux",
    "apFluxErr",
    "scienceFlux",
    "scienceFluxErr",
    "templateFlux",
    "templateFluxErr",
    "dipoleMeanFlux",
    "dipoleMeanFluxErr",
    "dipoleFluxDiff",
    "dipoleFluxDiffErr",
)
MOMENTS = ("ixx", "iyy", "ixy", "ixxPSF", "iyyPSF", "ixyPSF")
_PUBLISHED_UNIT = {name: "nJy, or as fluxUnit says" for name in FLUXES}
_PUBLISHED_UNIT |= {name: "arcsec2, along the pixel axes" for name in MOMENTS}
_PUBLISHED_UNIT |= {"trailLength": "arcsec", "dipoleLength": "arcsec"}
_PUBLISHED_MEANING = {
    "trailAngle": "bearing of the trail, from north to east",
    "dipoleAngle": "bearing from the negative to the positive lobe, from north to east",
}

ALERT_SOURCE: tuple[Column, ...] = tuple(
    Column(
        c.name,
        c.dtype,
        _PUBLISHED_UNIT.get(c.name, c.unit),
        _PUBLISHED_MEANING.get(c.name, c.description),
    )
    for c in DIASOURCE
)
"""The DIASource's columns in the units in which they are published."""

SOLAR_SYSTEM: tuple[Column, ...] = (
    Column("diaSourceId", "i8", "", "the detection"),
    Column("ssObjectId", "i8", "", "the Solar System object"),
    Column("eclLambda", "f8", "deg", "ecliptic longitude of the detection, J2000"),
    Column("eclBeta", "f8", "deg", "ecliptic latitude"),
    Column("galLon", "f8", "deg", "galactic longitude"),
    Column("galLat", "f8", "deg", "galactic latitude"),
)
"""What an alert says of a Solar System object; the standard's other fields stay null."""


@dataclass(frozen=True)
class AlertBatch:
    """The alerts of one frame: row i of everything is about DIASource i.

    sources : Table of ALERT_SOURCE; association : model.association, with each source's object
    common : values that all the frame's DIASource records share: band, exposureTime, timeProcessedMjdTai,
        fluxUnit; None for what nobody knows
    cutouts : (N, 3, S, S) float32, difference, science, template, in `image_unit`
    variance, mask : (N, S, S) float32 and uint16 (model.mask), of the difference
    psf : (P, P) float32, of the difference at the centre of the frame
    solar_system : Table of SOLAR_SYSTEM, one row for each source that is a Solar System object of known orbit
    wcs : FITS WCS keywords of the science frame
    fingerprint : hex, provenance up to and including the alert
    revision : 0 for the first time this frame is published, one more each time another software repeats it
    latency_s : seconds from readout end (or arrival) to now, None when neither is known
    """

    sources: Table
    association: Association
    common: dict[str, Any]
    cutouts: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    psf: np.ndarray
    solar_system: Table
    wcs: dict[str, Any]
    image_unit: str
    fingerprint: str
    revision: int
    latency_s: float | None
