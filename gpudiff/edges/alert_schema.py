"""The Avro schema of an alert: a superset, by field name, of the one that Rubin publishes (version 11.1).

Names and types are those of the public standard, so that a Rubin reader resolves our records; which values we
have comes from model.tables.  What we do not measure is null, or 0 where the standard has no null.  Our own
fields come after the standard's.
"""

import hashlib
import json
from functools import cache
from typing import Any

from gpudiff.model.alert import ALERT_SOURCE
from gpudiff.model.alert import SOLAR_SYSTEM as SS_COLUMNS
from gpudiff.model.tables import DIAOBJECT, Column

VERSION = 1, 1
"""Major and minor: a minor only adds fields that may be null, so that an older reader reads on."""
NAMESPACE = f"gpudiff.v{VERSION[0]}_{VERSION[1]}"
SCHEMA_ID = VERSION[0] * 100 + VERSION[1]
"""The alert's number in Confluent framing."""
NOTICE_ID = 10_000 + SCHEMA_ID
"""The notice's number."""
AVRO = {"i8": "long", "i4": "int", "i2": "int", "f8": "double", "f4": "float", "?": "boolean"}
NARROW = ("x", "y", "psfFlux", "apFlux", "scienceFlux", "templateFlux")
"""Double with us, float in the standard: Avro resolves float to double but not the other way."""
_REQUIRED = (
    "diaSourceId visit detector midpointMjdTai ra dec x y psfNdata trailNdata dipoleNdata bboxSize "
    "timeProcessedMjdTai diaObjectId validityStartMjdTai nDiaSources snap flags flagged fluxUnit"
)
REQUIRED = frozenset([*_REQUIRED.split(), *(f"{band}_psfFluxNdata" for band in "ugrizy")])
"""Never null; the others may be."""

UNOWNED = ("diaObjectId",)
"""Null in a DIASource that moves: it belongs to no DIAObject."""

UNITS = {
    "d": "midpointMjdTai timeProcessedMjdTai timeWithdrawnMjdTai",
    "s": "exposureTime",
    "deg": "ra dec trailRa trailRaErr trailDec trailDecErr trailAngleErr",
    "pixel": "bboxSize",
    "arcsec": "trailLengthErr",
}
"""Of the standard's fields that are not columns of ours, and in its other records; fluxes go by their name."""

SOURCE_OTHERS = {
    "long": "diaObjectId ssObjectId parentDiaSourceId",
    "float": "exposureTime psfLnL trailFlux trailFluxErr trailRaErr trailDecErr trailLengthErr trailAngleErr "
    "trailChi2 extendedness reliability",
    "double": "trailRa trailDec timeProcessedMjdTai timeWithdrawnMjdTai",
    "int": "trailNdata trailAlgorithm bboxSize",
    "string": "reliabilityVersion band",
    "boolean": "centroid_flag apFlux_flag apFlux_flag_apertureTruncated psfFlux_flag psfFlux_flag_edge "
    "psfFlux_flag_noGoodPixels trail_flag_edge trail_flag forced_PsfFlux_flag forced_PsfFlux_flag_edge "
    "forced_PsfFlux_flag_noGoodPixels shape_flag shape_flag_no_pixels shape_flag_not_contained "
    "shape_flag_parent_source pixelFlags pixelFlags_bad pixelFlags_cr pixelFlags_crCenter "
    "pixelFlags_edge pixelFlags_nodata pixelFlags_nodataCenter pixelFlags_interpolated "
    "pixelFlags_interpolatedCenter pixelFlags_offimage pixelFlags_saturated pixelFlags_saturatedCenter "
    "pixelFlags_suspect pixelFlags_suspectCenter pixelFlags_streak pixelFlags_streakCenter "
    "pixelFlags_injected pixelFlags_injectedCenter pixelFlags_injected_template "
    "pixelFlags_injected_templateCenter glint_trail",
}
"""The standard's DIASource fields that are not columns of ours, by type."""
OWN_SOURCE_COLUMNS = ("snap", "flags", "flagged", "x_y_Cov")
FLAG_FIELDS = {
    "centroid_flag": "CENTROID",
    "pixelFlags_bad": "MASKED",
    "pixelFlags_cr": "COSMIC_RAY",
    "pixelFlags_edge": "EDGE",
    "pixelFlags_saturated": "SATURATED",
    "pixelFlags_streak": "STREAK",
    "pixelFlags_suspect": "BRIGHT_STAR",
}
"""The standard's flags that follow from one of ours (model.tables.FLAGS)."""
BAND_FLOATS = "fpFluxMean fpFluxMeanErr scienceFluxMean scienceFluxMeanErr psfFluxMaxSlope"
"""The standard's DIAObject fields that exist once a band and are no columns of ours."""
FORCED = (
    "diaForcedSourceId:long diaObjectId:long ra:double dec:double visit:long detector:int psfFlux:float? "
    "psfFluxErr:float? midpointMjdTai:double scienceFlux:float? scienceFluxErr:float? band:string? "
    "timeProcessedMjdTai:double timeWithdrawnMjdTai:double? pixelFlags:int? fluxUnit:string?"
)
"""The last two are our own."""
SOLAR_SYSTEM = (
    "diaSourceId:long ssObjectId:long designation:string? eclLambda:double eclBeta:double galLon:double "
    "galLat:double elongation:float? phaseAngle:float? topoRange:float? topoRangeRate:float? helioRange:float? "
    "helioRangeRate:float? ephRa:double? ephDec:double? ephVmag:float? ephRate:float? ephRateRa:float? "
    "ephRateDec:float? ephOffset:float? ephOffsetRa:double? ephOffsetDec:double? ephOffsetAlongTrack:float? "
    "ephOffsetCrossTrack:float? helio_x:float? helio_y:float? helio_z:float? helio_vx:float? helio_vy:float? "
    "helio_vz:float? helio_vtot:float? topo_x:float? topo_y:float? topo_z:float? topo_vx:float? topo_vy:float? "
    "topo_vz:float? topo_vtot:float? diaDistanceRank:int?"
)
NOTICE = (
    "diaSourceId:long revision:int diaObjectId:long? ssObjectId:long? kind:string visit:long detector:int "
    "band:string? midpointMjdTai:double ra:double dec:double raErr:float? decErr:float? psfFlux:float? "
    "psfFluxErr:float? fluxUnit:string snr:float? reliability:float? isNegative:boolean? isDipole:boolean? "
    "trailLength:float? trailAngle:float? flags:long flagged:boolean probability:double nDiaSources:int "
    "firstDiaSourceMjdTai:double?"
)


def dia_source_schema() -> dict[str, Any]:
    """One detection: our columns, the standard's other fields, and our own at the end."""
    ours = {c.name: _from_column(c) for c in ALERT_SOURCE}
    others = [
        _field(name, kind, null=name in UNOWNED or None)
        for kind, names in SOURCE_OTHERS.items()
        for name in names.split()
        if name not in ours
    ]
    shared = [field for name, field in ours.items() if name not in OWN_SOURCE_COLUMNS]
    own = [ours[name] for name in OWN_SOURCE_COLUMNS]
    unit = _field("fluxUnit", "string", "unit of the fluxes: nJy, or the image's when it is not calibrated")
    return _record("diaSource", [*shared, *others, *own, unit])


def dia_object_schema() -> dict[str, Any]:
    """One object: our columns, and the standard's fields for each band."""
    bands = [_field(f"{band}_{name}", "float") for band in "ugrizy" for name in BAND_FLOATS.split()]
    return _record("diaObject", [*map(_from_column, DIAOBJECT), *bands])


def forced_source_schema() -> dict[str, Any]:
    """One forced measurement at the place of a known object."""
    return _record("diaForcedSource", _listed(FORCED))


def solar_system_schema() -> dict[str, Any]:
    """The Solar System object that a detection is of."""
    told = {c.name: f"{c.description} [{c.unit}]" if c.unit else c.description for c in SS_COLUMNS}
    fields = [{**field, "doc": told[field["name"]]} for field in _listed(SOLAR_SYSTEM)]
    return _record("ssSource", fields)


@cache
def notice_schema() -> dict[str, Any]:
    """The short form of an alert: what people filter on, without cutouts or history."""
    fields = [*_listed(NOTICE), {"name": "fingerprint", "type": _digest()}]
    return _record("notice", fields)


@cache
def alert_schema() -> dict[str, Any]:
    """The whole alert, with the records inside it."""
    fields = [
        _field("diaSourceId", "long", "unique identifier of the detection"),
        _field("observation_reason", "string"),
        _field("target_name", "string"),
        {"name": "diaSource", "type": dia_source_schema()},
        _optional("prvDiaSources", {"type": "array", "items": f"{NAMESPACE}.diaSource"}),
        _optional("prvDiaForcedSources", {"type": "array", "items": forced_source_schema()}),
        _optional("diaObject", dia_object_schema()),
        _optional("ssSource", solar_system_schema()),
        {"name": "mpc_orbits", "type": "null", "default": None},
        *(_optional(f"cutout{name}", "bytes", "FITS") for name in ("Difference", "Science", "Template")),
        _optional("association", _record("association", _association_fields())),
        _optional("provenance", _record("provenance", _provenance_fields())),
    ]
    return _record("alert", fields)


@cache
def schema_text() -> str:
    """The alert's schema as JSON, as it is stored beside what is written in it."""
    return json.dumps(alert_schema())


@cache
def schema_fingerprint() -> str:
    """Hex digest of the schema: by it ledger and archive say in which schema a record was written."""
    return hashlib.blake2b(schema_text().encode(), digest_size=8).hexdigest()


def _association_fields() -> list[dict[str, Any]]:
    return [
        _field("known", "boolean", "joined an object that was known before", null=False),
        _field("kind", "string", "known, tonight, moving or new", null=False),
        _field("probability", "double", "of this choice, given the candidates within the gate", null=False),
        _field("runnerUpDiaObjectId", "long", "the next best candidate"),
        _field("trackletId", "long", "diaSourceId of the first of tonight's detections on one line with this"),
    ]


def _provenance_fields() -> list[dict[str, Any]]:
    return [
        {"name": "fingerprint", "type": _digest(), "doc": "blake2b-128 over all steps, frame to alert"},
        _field("revision", "int", "0, and one more each time other software repeats the frame", null=False),
        _field("latency_s", "double", "from the end of readout to the encoding of this alert"),
    ]


def _record(name: str, fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "record", "name": f"{NAMESPACE}.{name}", "fields": fields}


def _from_column(column: Column) -> dict[str, Any]:
    kind = "float" if column.name in NARROW else AVRO[column.dtype]
    unit = f" [{column.unit}]" if column.unit else ""
    return _field(column.name, kind, column.description + unit)


def _field(name: str, kind: str, doc: str = "", null: bool | None = None) -> dict[str, Any]:
    doc = doc or _unit(name, kind)
    if null is None:
        null = name not in REQUIRED
    return _optional(name, kind, doc) if null else {"name": name, "type": kind, "doc": doc}


def _unit(name: str, kind: str) -> str:
    """The unit of a field by its name, in brackets as the standard has it; '' for none."""
    if "Flux" in name and kind in ("float", "double"):
        return "[nJy/d]" if name.endswith("Slope") else "[nJy, or as fluxUnit says]"
    return next((f"[{unit}]" for unit, names in UNITS.items() if name in names.split()), "")


def _optional(name: str, kind: Any, doc: str = "") -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None, "doc": doc}


def _digest() -> dict[str, Any]:
    return {"type": "fixed", "name": f"{NAMESPACE}.fingerprint", "size": 16}


def _listed(text: str) -> list[dict[str, Any]]:
    """Fields from `name:type` or `name:type?` for one that may be null."""
    words = [word.partition(":") for word in text.split()]
    return [_field(name, kind.rstrip("?"), null="?" in kind) for name, _, kind in words]
