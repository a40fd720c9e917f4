"""Ephemerides of a night: Chebyshev segments of the directions to Solar System objects, and their evaluation.

Directions are astrometric: from the observer at a moment to where the light left, without aberration, as
a WCS that was fitted to catalogued stars shows them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import erfa
import numpy as np

from gpudiff.arrays.zone_join import ARCSEC
from gpudiff.model.sky import angles
from gpudiff.model.tables import PREDICTED, Table
from gpudiff.science.orbits import GAUSS, MJD_ZERO, propagate

PIECE = 8192
"""Objects whose places are computed together: what lies between fits into the processor's cache."""
DEGREE = 8
"""Of the polynomials: over 14 hours 0.0004 arcsec off for what passes at 0.05 AU with 30 km/s and its parallax."""
TT_TAI = 32.184 / 86400
AU_A_DAY = 173.144632674
"""Speed of light."""
AU_KM = 149597870.7
PARALLAX = 8.794
"""Arcsec, of the Earth's radius at 1 AU."""
LEAST_ERROR = 0.1
"""Arcsec, of elements as they are published, with five or six digits."""
DRIFT = 0.0005
"""Arcsec a day, added for what the propagation leaves out: twice what was measured on the Earth and Moon."""
LONGEST = 400.0
"""Days from the epoch of the elements that are propagated."""


@dataclass(frozen=True)
class Site:
    """longitude (east), latitude : degrees, geodetic; height : m"""

    longitude: float
    latitude: float
    height: float


@dataclass(frozen=True)
class Night:
    """middle : MJD TAI; hours : length"""

    middle: float
    hours: float

    def scaled(self, mjd_tai: np.ndarray | float) -> np.ndarray:
        """Times from -1 at its start to 1 at its end."""
        return (np.asarray(mjd_tai) - self.middle) * 48 / self.hours


def segments(
    states: np.ndarray, epoch: np.ndarray, night: Night, site: Site | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The directions to orbits over a night, as Chebyshev coefficients.

    states : (N, 6) heliocentric, ICRS axes, AU and days, at epoch : (N,) MJD TT
    site : of the observer, None: the Earth's centre
    Returns (N, 3, DEGREE + 1) coefficients of the unit vector; and in the middle of the night the states, (N, 6),
    and the distances from the observer, (N,) AU.
    """
    nodes = np.cos(np.pi * (np.arange(DEGREE + 1) + 0.5) / (DEGREE + 1))
    times = night.middle + nodes * night.hours / 48
    there = np.empty((DEGREE + 1, len(states), 6))
    for one in np.unique(epoch):
        rows = np.flatnonzero(epoch == one)
        there[:, rows] = propagate(states[rows], float(one), times + TT_TAI)
    here = np.stack([observer(time, site) for time in times])
    off = _with_light_time(there, here)
    distance = np.linalg.norm(off, axis=-1, keepdims=True)
    values = np.polynomial.chebyshev.chebvander(nodes, DEGREE)
    weight = np.full(DEGREE + 1, 2 / (DEGREE + 1))
    weight[0] /= 2
    coefficients = np.einsum("tk,tnc->nck", values * weight, off / distance)
    middle = (DEGREE + 1) // 2
    return coefficients, there[middle], distance[middle, :, 0]


def observer(mjd_tai: float, site: Site | None) -> np.ndarray:
    """(3,) heliocentric place of the observer, AU, ICRS axes.

    UT1 is taken for UTC, at most 0.9 s or 0.4 km from it, and polar motion left out (10 m).
    """
    tt = mjd_tai + TT_TAI
    earth = erfa.epv00(MJD_ZERO, tt)[0]["p"]
    if site is None:
        return earth
    utc = sum(erfa.taiutc(MJD_ZERO, mjd_tai)) - MJD_ZERO
    angle = erfa.era00(MJD_ZERO, utc)
    turned = erfa.pvtob(np.radians(site.longitude), np.radians(site.latitude), site.height, 0, 0, 0, angle)["p"]
    return earth + erfa.c2i06a(MJD_ZERO, tt).T @ turned / 1000 / AU_KM


def _with_light_time(there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """(T, N, 3) from the observer to where the light left that arrives now."""
    place, velocity = there[..., :3], there[..., 3:]
    fall = -GAUSS * place / np.sum(place * place, -1, keepdims=True) ** 1.5
    off = place - here[:, None]
    for _ in range(3):
        late = np.linalg.norm(off, axis=-1, keepdims=True) / AU_A_DAY
        off = place - late * velocity + 0.5 * late**2 * fall - here[:, None]
    return off


def columns_of(
    orbits: Mapping[str, np.ndarray], states: np.ndarray, night: Night, site: Site | None
) -> dict[str, np.ndarray]:
    """The columns of a night's ephemerides.

    orbits : ssObjectId, designation, epoch (MJD TT), h, g (NaN when unknown), error (arcsec at the epoch)
    Returns ssObjectId, designation, ra and dec in the middle of the night, reach (degrees, how far it gets from
    there), error (arcsec), magnitude, state (in the middle of the night), and the coefficients.
    """
    coefficients, state, from_here = segments(states, orbits["epoch"], night, site)
    from_sun = np.linalg.norm(state[:, :3], axis=-1)
    track = _directions(coefficients, np.linspace(-1, 1, 9))
    middle = track[4]
    reach = np.degrees(2 * np.arcsin(np.linalg.norm(track - middle, axis=1).max(0) / 2))
    ra, dec = angles(middle.T)
    age = np.abs(orbits["epoch"] - night.middle)
    error = np.hypot(orbits["error"], LEAST_ERROR) + DRIFT * age
    if site is None:
        error = error + PARALLAX / from_here
    return {
        "ssObjectId": orbits["ssObjectId"],
        "designation": orbits["designation"],
        "ra": ra,
        "dec": dec,
        "reach": reach.astype("f4"),
        "error": error.astype("f4"),
        "magnitude": brightness(orbits["h"], orbits["g"], from_sun, from_here, night).astype("f4"),
        "state": state,
        "coefficients": coefficients,
    }


def brightness(
    h: np.ndarray, g: np.ndarray, from_sun: np.ndarray, from_here: np.ndarray, night: Night
) -> np.ndarray:
    """(N,) V magnitude by the H, G system (Bowell et al. 1989); g NaN counts as 0.15."""
    sun_earth = np.linalg.norm(observer(night.middle, None))
    cosine = (from_sun**2 + from_here**2 - sun_earth**2) / (2 * from_sun * from_here)
    half = np.tan(np.arccos(np.clip(cosine, -1, 1)) / 2)
    slope = np.where(np.isfinite(g), g, 0.15)
    with np.errstate(divide="ignore"):
        light = (1 - slope) * np.exp(-3.33 * half**0.63) + slope * np.exp(-1.87 * half**1.22)
        return h + 5 * np.log10(from_sun * from_here) - 2.5 * np.log10(light)


def predict(columns: Mapping[str, np.ndarray], night: Night, mjd_tai: float, exposure_s: float) -> Table:
    """Table of PREDICTED: where the objects are in the middle of an exposure, and how they move during it.

    columns : as `columns_of` returns them; exposure_s : NaN counts as 0
    """
    half = 0.0 if np.isnan(exposure_s) else exposure_s / 86400 / 2
    times = night.scaled(mjd_tai + np.array([0.0, -half, half]))
    coefficients = columns["coefficients"]
    seen = np.empty((4, len(coefficients)))
    for start in range(0, len(coefficients), PIECE):
        piece = slice(start, start + PIECE)
        seen[:, piece] = _motion(_directions(coefficients[piece], times))
    return Table(
        PREDICTED,
        {
            "ssObjectId": columns["ssObjectId"],
            "ra": seen[0],
            "dec": seen[1],
            "error": columns["error"],
            "eastTrail": seen[2],
            "northTrail": seen[3],
            "magnitude": columns["magnitude"],
        },
    )


def _motion(directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Right ascension and declination, degrees, and motion to east and north, arcsec; each (N,).

    directions : (3, 3, N), in the middle, at the start and at the end of an exposure
    """
    (x, y, z), start, end = directions
    (dx, dy, dz), flat = end - start, np.hypot(x, y)
    cosine, sine = np.where(flat > 0, (x, y), [[1], [0]]) / np.where(flat > 0, flat, 1)
    east, north = dy * cosine - dx * sine, dz * flat - (dx * cosine + dy * sine) * z
    ra = np.degrees(np.arctan2(y, x))
    return ra + 360 * (ra < 0), np.degrees(np.arctan2(z, flat)), east / ARCSEC, north / ARCSEC


def _directions(coefficients: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """(T, 3, N) at (T,) times, -1 to 1."""
    values = np.polynomial.chebyshev.chebvander(scaled, DEGREE)
    return (coefficients.reshape(-1, DEGREE + 1) @ values.T).reshape(-1, 3, len(scaled)).T
