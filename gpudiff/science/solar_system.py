"""What an alert says of a Solar System object of known orbit: where it is, how far, how fast, how it is lit.

Heliocentric and topocentric vectors have ICRS axes.  The object's are those of the moment when the light left it
that arrives in the middle of the exposure, the observer's those of the middle of the exposure.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from gpudiff.model.alert import SOLAR_SYSTEM
from gpudiff.model.association import Association
from gpudiff.model.sky import angles, unit_vectors
from gpudiff.model.tables import Table
from gpudiff.science.ephemerides import AU_A_DAY, AU_KM, Night, Site, observer
from gpudiff.science.orbits import GAUSS, OBLIQUITY

KM_S = AU_KM / 86400
"""Of 1 AU a day."""
SHORT = 1 / 1440
"""Days before and after, from which the observer's velocity follows to 1e-6 km/s."""
ECLIPTIC = np.array(
    [
        [1, 0, 0],
        [0, np.cos(OBLIQUITY), np.sin(OBLIQUITY)],
        [0, -np.sin(OBLIQUITY), np.cos(OBLIQUITY)],
    ]
)
GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [0.4941094278755837, -0.4448296299600112, 0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, 0.4559837761750669],
    ]
)
"""From ICRS to galactic axes (The Hipparcos and Tycho Catalogues, ESA SP-1200, vol. 1, eq. 1.5.11)."""


@dataclass(frozen=True)
class Sight:
    """What is known of some objects at one moment.

    ss_object_id, magnitude : (N,), V, NaN when unknown; designation : (N,) str
    there : (N, 6) heliocentric place and velocity when the light left, AU and days
    here : (6,) of the observer
    """

    ss_object_id: np.ndarray
    designation: np.ndarray
    magnitude: np.ndarray
    there: np.ndarray
    here: np.ndarray


def sight(states: np.ndarray, night: Night, site: Site | None, mjd_tai: float) -> tuple[np.ndarray, np.ndarray]:
    """(there, here) of a Sight.

    states : (N, 6) heliocentric, ICRS axes, AU and days, in the middle of the night, where `mjd_tai` lies
    """
    before, at, after = (observer(mjd_tai + shift, site) for shift in (-SHORT, 0.0, SHORT))
    here = np.concatenate([at, (after - before) / (2 * SHORT)])
    late = np.zeros((len(states), 1))
    for _ in range(3):
        there = moved(states, mjd_tai - night.middle - late)
        late = np.linalg.norm(there[:, :3] - at, axis=1, keepdims=True) / AU_A_DAY
    return moved(states, mjd_tai - night.middle - late), here


def moved(states: np.ndarray, days: np.ndarray) -> np.ndarray:
    """(N, 6) states some hours later, round the Sun alone: the series of Lagrange's f and g.

    To the fourth power of time: 1e-13 AU off after 7 hours at 1 AU from the Sun, 1e-7 at 0.1 AU.
    days : (N, 1), negative for earlier
    """
    place, velocity = states[:, :3], states[:, 3:]
    squared = np.sum(place * place, 1, keepdims=True)
    pull = GAUSS / squared**1.5
    slope = np.sum(place * velocity, 1, keepdims=True) / squared
    swift = np.sum(velocity * velocity, 1, keepdims=True) / squared - pull
    fourth = pull * (3 * swift - 15 * slope**2 + pull)
    f = 1 - pull * days**2 / 2 + pull * slope * days**3 / 2 + fourth * days**4 / 24
    g = days - pull * days**3 / 6 + pull * slope * days**4 / 4
    rate_f = -pull * days + 1.5 * pull * slope * days**2 + fourth * days**3 / 6
    rate_g = 1 - pull * days**2 / 2 + pull * slope * days**3
    return np.hstack([f * place + g * velocity, rate_f * place + rate_g * velocity])


def solar_system(sources: Table, association: Association, seen: Sight | None = None) -> Table:
    """What alerts say of the sources that are Solar System objects of known orbit: Table of SOLAR_SYSTEM.

    sources : Table of DIASOURCE; seen : of the objects that were found; what is not in it, or all without it, is
    NaN, '' or 0, but for the detection's own coordinates
    """
    moving = association.ss_object_ids != 0
    if not moving.any():
        return _none()  # as of nearly every frame: it is not made anew for each
    found, ids = sources.take(moving), association.ss_object_ids[moving]
    columns = {c.name: np.full(len(found), c.nothing, c.dtype) for c in SOLAR_SYSTEM}
    icrs = unit_vectors(found["ra"], found["dec"])
    columns |= {"diaSourceId": found["diaSourceId"], "ssObjectId": ids}
    columns["eclLambda"], columns["eclBeta"] = angles(icrs @ ECLIPTIC.T)
    columns["galLon"], columns["galLat"] = angles(icrs @ GALACTIC.T)
    if seen is not None and len(seen.ss_object_id):
        order = np.argsort(seen.ss_object_id, kind="stable")
        at = np.minimum(np.searchsorted(seen.ss_object_id, ids, sorter=order), len(order) - 1)
        row = order[at]
        known = seen.ss_object_id[row] == ids
        told = _told(seen, row[known]) | _offsets(sources, np.flatnonzero(moving)[known], seen, row[known])
        for name, values in told.items():
            columns[name][known] = values
    return Table(SOLAR_SYSTEM, columns)


def _told(seen: Sight, row: np.ndarray) -> dict[str, np.ndarray]:
    """The columns that follow from orbit and observer."""
    there, here = seen.there[row], seen.here
    off = there - here
    sun, away = (np.linalg.norm(one[:, :3], axis=1) for one in (there, off))
    toward = off[:, :3] / away[:, None]
    told = {"designation": seen.designation[row], "ephVmag": seen.magnitude[row]}
    told |= {"helioRange": sun, "topoRange": away}
    told["helioRangeRate"] = np.sum(there[:, :3] * there[:, 3:], 1) / sun * KM_S
    told["topoRangeRate"] = np.sum(toward * off[:, 3:], 1) * KM_S
    told["phaseAngle"] = _between(there[:, :3], off[:, :3])
    told["elongation"] = _between(np.broadcast_to(-here[:3], toward.shape), toward)
    told["ephRa"], told["ephDec"] = angles(toward)
    for name, vectors in (("helio", there), ("topo", off)):
        told |= {f"{name}_{axis}": vectors[:, n] for n, axis in enumerate("xyz")}
        told |= {f"{name}_v{axis}": vectors[:, 3 + n] * KM_S for n, axis in enumerate("xyz")}
        told[f"{name}_vtot"] = np.linalg.norm(vectors[:, 3:], axis=1) * KM_S
    return told | _rates(there, here, toward, away)


def _rates(there: np.ndarray, here: np.ndarray, toward: np.ndarray, away: np.ndarray) -> dict[str, np.ndarray]:
    """Motion on the sky, degrees a day; the light of a receding object comes ever later."""
    receding = np.sum(toward * (there[:, 3:] - here[3:]), 1) / AU_A_DAY
    motion = there[:, 3:] * (1 - receding)[:, None] - here[3:]
    ra, dec = np.radians(angles(toward))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], 1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], 1)
    rates = [np.degrees(np.sum(motion * axis, 1) / away) for axis in (east, north)]
    return {"ephRate": np.hypot(*rates), "ephRateRa": rates[0], "ephRateDec": rates[1]}


def _offsets(sources: Table, found: np.ndarray, seen: Sight, row: np.ndarray) -> dict[str, np.ndarray]:
    """Where detections lie, seen from the predictions, arcsec, and their rank among the frame's by nearness.

    sources : of the frame; found : (N,) which of them are the objects that `row` (N,) says
    """
    there, here = seen.there[row], seen.here
    off = there[:, :3] - here[:3]
    away = np.linalg.norm(off, axis=1)
    toward = off / away[:, None]
    ra, dec = angles(toward)
    east = ((sources["ra"][found] - ra + 180) % 360 - 180) * np.cos(np.radians(dec)) * 3600
    north = (sources["dec"][found] - dec) * 3600
    rate = _rates(there, here, toward, away)
    with np.errstate(invalid="ignore"):
        along, across = (rate[name] / rate["ephRate"] for name in ("ephRateRa", "ephRateDec"))
    close = unit_vectors(sources["ra"], sources["dec"]) @ toward.T
    return {
        "ephOffset": np.hypot(east, north),
        "ephOffsetRa": east,
        "ephOffsetDec": north,
        "ephOffsetAlongTrack": east * along + north * across,
        "ephOffsetCrossTrack": north * along - east * across,
        "diaDistanceRank": 1 + np.sum(close > close[found, np.arange(len(found))], 0),
    }


def _between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) degrees between vectors, exact for small angles too."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other), axis=1), np.sum(one * other, 1)))


@cache
def _none() -> Table:
    return Table.empty(SOLAR_SYSTEM)
