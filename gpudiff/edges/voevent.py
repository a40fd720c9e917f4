"""An alert as a VOEvent 2.0 (IVOA Recommendation, 11 July 2011): who, what, where and when, in 2.5 kB of XML."""

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from xml.sax.saxutils import quoteattr

from gpudiff.model.association import KINDS
from gpudiff.model.errors import BadMessage

STREAM = "ivo://gpudiff/alerts"
"""Begins every event's name; the rest is diaSourceId-revision."""
FORM = """<?xml version="1.0" encoding="UTF-8"?>
<voe:VOEvent xmlns:voe="http://www.ivoa.net/xml/VOEvent/v2.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 xsi:schemaLocation="http://www.ivoa.net/xml/VOEvent/v2.0 http://www.ivoa.net/xml/VOEvent/VOEvent-v2.0.xsd"
 version="2.0" role="{role}" ivorn="{ivorn}">
<Who><AuthorIVORN>{stream}</AuthorIVORN><Date>{date}</Date></Who>
<What>
{what}
</What>
{rest}
</voe:VOEvent>
"""
SEEN = """\
<WhereWhen><ObsDataLocation><ObservatoryLocation id="unknown"/><ObservationLocation>
<AstroCoordSystem id="UTC-ICRS-TOPO"/><AstroCoords coord_system_id="UTC-ICRS-TOPO">
<Time unit="s"><TimeInstant><ISOTime>{time}</ISOTime></TimeInstant></Time>
<Position2D unit="deg"><Name1>RA</Name1><Name2>Dec</Name2><Value2><C1>{ra:.8f}</C1><C2>{dec:.8f}</C2></Value2>
<Error2Radius>{error:.3g}</Error2Radius></Position2D>
</AstroCoords></ObservationLocation></ObsDataLocation></WhereWhen>{citations}"""
PARAMS = (
    ("diaSourceId", "string", "", "meta.id"),
    ("diaObjectId", "string", "", "meta.id.parent"),
    ("ssObjectId", "string", "", "meta.id.assoc"),
    ("visit", "int", "", "obs"),
    ("detector", "int", "", "instr.det"),
    ("band", "string", "", "instr.bandpass"),
    ("psfFlux", "float", "fluxUnit", "phot.flux"),
    ("psfFluxErr", "float", "fluxUnit", "stat.error;phot.flux"),
    ("snr", "float", "", "stat.snr"),
    ("reliability", "float", "", "stat.probability"),
    ("isNegative", "string", "", "meta.code"),
    ("isDipole", "string", "", "meta.code"),
    ("trailLength", "float", "arcsec", "phys.angSize"),
    ("trailAngle", "float", "deg", "pos.posAng"),
    ("flags", "int", "", "meta.code"),
    ("flagged", "string", "", "meta.code.qual"),
)
"""Name, data type, unit and UCD of the parameters that come from the alert's diaSource."""


def write_event(row: dict[str, Any], source: dict[str, Any], fingerprint: str) -> bytes:
    """The VOEvent of one alert, UTF-8.

    row : of model.outgoing.OUTGOING; source : the alert's diaSource; fingerprint : hex
    A later revision supersedes the one before it.  Raises BadMessage for an alert without position or time.
    """
    place = source["ra"], source["dec"], source["midpointMjdTai"]
    if not all(map(math.isfinite, place)):
        raise BadMessage(f"expected a position and a time, got ra, dec, midpointMjdTai {place}")
    errors = [value for value in (source["raErr"], source["decErr"]) if value is not None]
    name = f"{STREAM}#{row['diaSourceId']}"
    before = f'<EventIVORN cite="supersedes">{name}-{row["revision"] - 1}</EventIVORN>'
    seen = SEEN.format(
        time=utc(place[2]),
        ra=place[0],
        dec=place[1],
        error=math.hypot(*errors),
        citations=f"\n<Citations>{before}</Citations>" if row["revision"] else "",
    )
    ivorn, what = f"{name}-{row['revision']}", _what(row, source, fingerprint)
    return _event("observation", ivorn, source["timeProcessedMjdTai"], what, seen)


def write_word(subject: str, said: Mapping[str, Any], mjd_tai: float) -> bytes:
    """A VOEvent of the role `utility`, UTF-8: no observation, but what a service says of itself.

    Its name comes from what is said, not from the moment: a broker drops repeats by name, and keeps two words of
    one moment apart.
    """
    params = [
        f'<Param name="{name}" value={quoteattr(str(value))} dataType="string"/>' for name, value in said.items()
    ]
    digest = blake2b(json.dumps(dict(said), sort_keys=True).encode(), digest_size=8).hexdigest()
    ivorn = f"{STREAM}#word-{subject}-{digest}"
    return _event("utility", ivorn, mjd_tai, params, f"<Description>{subject}</Description>")


def _event(role: str, ivorn: str, mjd_tai: float, what: list[str], rest: str) -> bytes:
    """The whole event, of that moment.  what : its params; rest : what comes behind them"""
    text = "\n".join(what)
    return FORM.format(role=role, ivorn=ivorn, stream=STREAM, date=utc(mjd_tai), what=text, rest=rest).encode()


@lru_cache(maxsize=1024)
def utc(mjd_tai: float) -> str:
    """MJD TAI as ISO 8601 in UTC, to the millisecond; detections of a frame share their times."""
    from astropy.time import Time

    return Time(mjd_tai, format="mjd", scale="tai").utc.isot


def _what(row: dict[str, Any], source: dict[str, Any], fingerprint: str) -> list[str]:
    own = [
        _param("kind", KINDS[row["kind"]], "string", "", "meta.code.class"),
        _param("probability", row["probability"], "float", "", "stat.probability"),
        _param("nDiaSources", row["nDiaSources"], "int", "", "meta.number"),
        _param("revision", row["revision"], "int", "", "meta.version"),
        _param("fingerprint", fingerprint, "string", "", "meta.checksum"),
    ]
    known = [one for one in PARAMS if source.get(one[0]) is not None]
    units = {"fluxUnit": source["fluxUnit"]}
    return [_param(name, source[name], kind, units.get(unit, unit), ucd) for name, kind, unit, ucd in known] + own


def _param(name: str, value: Any, kind: str, unit: str, ucd: str) -> str:
    text = str(value).lower() if isinstance(value, bool) else f"{value:.8g}" if kind == "float" else str(value)
    told = f" unit={quoteattr(unit)}" if unit else ""
    return f'<Param name="{name}" value={quoteattr(text)} dataType="{kind}"{told} ucd="{ucd}"/>'
