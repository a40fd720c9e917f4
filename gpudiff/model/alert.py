"""Alerts: what a frame's alerts say, as columns in the published units, before any encoding."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from gpudiff.model.association import Association
from gpudiff.model.batch import OwnPlanes
from gpudiff.model.tables import DIASOURCE, Column, Table

NANOJANSKY = "nJy"
_FLUXES = "psfFlux apFlux scienceFlux templateFlux dipoleMeanFlux dipoleFluxDiff"
FLUXES = tuple(f"{name}{error}" for name in _FLUXES.split() for error in ("", "Err"))
MOMENTS = ("ixx", "iyy", "ixy", "ixxPSF", "iyyPSF", "ixyPSF")
_PUBLISHED_UNIT = {name: "nJy, or as fluxUnit says" for name in FLUXES}
_PUBLISHED_UNIT |= {name: "arcsec2, along the pixel axes" for name in MOMENTS}
_PUBLISHED_UNIT |= {"trailLength": "arcsec", "dipoleLength": "arcsec"}
_PUBLISHED_MEANING = {
    "trailAngle": "bearing of the trail, from north to east",
    "dipoleAngle": "bearing from the negative to the positive lobe, from north to east",
}

ALERT_SOURCE: tuple[Column, ...] = tuple(
    Column(c.name, c.dtype, _PUBLISHED_UNIT.get(c.name, c.unit), _PUBLISHED_MEANING.get(c.name, c.description))
    for c in DIASOURCE
)
"""The DIASource's columns in the units in which they are published."""

_S = Column
SOLAR_SYSTEM: tuple[Column, ...] = (
    _S("diaSourceId", "i8", "", "the detection"),
    _S("ssObjectId", "i8", "", "the Solar System object"),
    _S("designation", "U24", "", "its name, '' when unknown"),
    _S("eclLambda", "f8", "deg", "ecliptic longitude of the detection, J2000"),
    _S("eclBeta", "f8", "deg", "ecliptic latitude"),
    _S("galLon", "f8", "deg", "galactic longitude"),
    _S("galLat", "f8", "deg", "galactic latitude"),
    _S("elongation", "f4", "deg", "from the Sun, as seen from here"),
    _S("phaseAngle", "f4", "deg", "between Sun and observer, as seen from the object"),
    _S("topoRange", "f4", "au", "distance from the observer"),
    _S("topoRangeRate", "f4", "km/s", "its change"),
    _S("helioRange", "f4", "au", "distance from the Sun"),
    _S("helioRangeRate", "f4", "km/s", "its change"),
    _S("ephRa", "f8", "deg", "predicted right ascension, ICRS, astrometric"),
    _S("ephDec", "f8", "deg", "predicted declination"),
    _S("ephVmag", "f4", "mag", "predicted brightness, V, in the middle of the night"),
    _S("ephRate", "f4", "deg/d", "predicted motion on the sky"),
    _S("ephRateRa", "f4", "deg/d", "to the east"),
    _S("ephRateDec", "f4", "deg/d", "to the north"),
    _S("ephOffset", "f4", "arcsec", "of the detection from the prediction"),
    _S("ephOffsetRa", "f8", "arcsec", "to the east"),
    _S("ephOffsetDec", "f8", "arcsec", "to the north"),
    _S("ephOffsetAlongTrack", "f4", "arcsec", "along the predicted motion"),
    _S("ephOffsetCrossTrack", "f4", "arcsec", "to the left of it, north up and east right"),
    *(_S(f"helio_{axis}", "f4", "au", "heliocentric, ICRS axes, when the light left") for axis in "xyz"),
    *(_S(f"helio_v{axis}", "f4", "km/s", "heliocentric velocity") for axis in "xyz"),
    _S("helio_vtot", "f4", "km/s", "its amount"),
    *(_S(f"topo_{axis}", "f4", "au", "from the observer, ICRS axes") for axis in "xyz"),
    *(_S(f"topo_v{axis}", "f4", "km/s", "velocity relative to the observer's") for axis in "xyz"),
    _S("topo_vtot", "f4", "km/s", "its amount"),
    _S("diaDistanceRank", "i4", "", "1 for the detection of the frame that is nearest to the prediction"),
)
"""What an alert says of a Solar System object; what nobody knows is NaN, '' or 0."""


@dataclass(frozen=True)
class AlertBatch:
    """The alerts of one frame: row i of everything is about DIASource i.

    sources : Table of ALERT_SOURCE; association : model.association, with each source's object
    common : values that all the frame's DIASource records share: band, exposureTime, timeProcessedMjdTai,
        fluxUnit; None for what nobody knows
    cutouts : (N, 3, S, S) float32, difference, science, template, in `image_unit`
    variance, mask : (N, S, S) float32 and uint16 (model.mask), of the difference
    psf : (P, P) float32, of the difference at the centre of the frame
    own : the planes of science and template, None where they have none
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
    own: OwnPlanes | None
    solar_system: Table
    wcs: dict[str, Any]
    image_unit: str
    fingerprint: str
    revision: int
    latency_s: float | None
