"""Which part of the sky a telescope can point at within a time: how long its axes take to get there."""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.config import Telescope

NSIDE = 64
"""HEALPix cells of 0.9 degrees."""
CELL_RADIUS = 0.75
"""Degrees from a cell's middle to its farthest corner, at most."""


@dataclass(frozen=True)
class Reach:
    """The cells that can be reached, the soonest first: HEALPix numbers (nested), middles (degrees), seconds."""

    cell: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    seconds: np.ndarray


def reachable(telescope: Telescope, ra: float, dec: float, mjd_tai: float, seconds: float) -> Reach:
    """The sky that a telescope which points at (ra, dec) when an exposure ends can be exposing `seconds` later.

    A cell is in when any of it may be.  The band is kept when `seconds` is less than a filter change takes.
    """
    from astropy_healpix.healpy import pix2ang

    cells = np.arange(12 * NSIDE**2)
    to_ra, to_dec = pix2ang(NSIDE, cells, nest=True, lonlat=True)
    here = horizontal(telescope, np.array([ra]), np.array([dec]), mjd_tai)
    altitude, azimuth = horizontal(telescope, to_ra, to_dec, mjd_tai)
    took = slew_seconds(telescope, *here, altitude, azimuth, near=CELL_RADIUS)
    up = (altitude > telescope.altitude_low - CELL_RADIUS) & (altitude < telescope.altitude_high + CELL_RADIUS)
    order = np.argsort(took, kind="stable")
    order = order[(up & (took <= seconds))[order]]
    return Reach(cells[order], to_ra[order], to_dec[order], took[order])


def slew_seconds(
    telescope: Telescope,
    altitude: np.ndarray,
    azimuth: np.ndarray,
    to_altitude: np.ndarray,
    to_azimuth: np.ndarray,
    near: float = 0.0,
    other_filter: bool = False,
) -> np.ndarray:
    """Seconds from the end of an exposure to the start of one elsewhere; degrees in, whatever broadcasts.

    Both axes of the mount move at once, then it settles; the dome keeps up; the camera reads out, and changes its
    filter, meanwhile.  The shorter way round is taken, and no time for the optics: what comes out is the least.
    near : degrees from the goal that are near enough
    """
    up = np.maximum(np.abs(to_altitude - altitude) - near, 0)
    narrow = np.maximum(np.cos(np.radians(to_altitude)), 1e-3)
    turn = np.maximum(np.abs((to_azimuth - azimuth + 180) % 360 - 180) - near / narrow, 0)
    t = telescope
    mount = np.maximum(
        move_seconds(turn, t.azimuth_speed, t.azimuth_acceleration, t.azimuth_jerk),
        move_seconds(up, t.altitude_speed, t.altitude_acceleration, t.altitude_jerk),
    )
    mount = np.where(mount > 0, mount + t.settle_s, 0)
    dome = np.maximum(turn / t.dome_speed, up / t.dome_altitude_speed)
    camera = max(t.readout_s, t.filter_change_s if other_filter else 0.0)
    return np.maximum(np.maximum(mount, dome), camera)


def move_seconds(distance: np.ndarray, speed: float, acceleration: float, jerk: float) -> np.ndarray:
    """Seconds that an axis takes from rest to rest (S-curve of seven parts; Biagiotti & Melchiorri 2008, 3.4)."""
    distance = np.asarray(distance, float)
    ramp = acceleration / jerk
    top = np.where(speed > acceleration * ramp, speed / acceleration + ramp, 2 * np.sqrt(speed / jerk))
    peak = 0.5 * acceleration * (np.sqrt(ramp**2 + 4 * distance / acceleration) - ramp)  # speed that is reached
    full = distance / speed + top
    half = 2 * (peak / acceleration + ramp)
    short = 4 * np.cbrt(distance / (2 * jerk))
    return np.where(distance >= speed * top, full, np.where(distance >= 2 * acceleration * ramp**2, half, short))


def horizontal(
    telescope: Telescope, ra: np.ndarray, dec: np.ndarray, mjd_tai: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(altitude, azimuth from north to east), degrees, without refraction; UT1 taken as UTC."""
    import erfa

    utc = erfa.taiutc(2400000.5, mjd_tai)
    where = np.radians(telescope.longitude), np.radians(telescope.latitude), 0.0
    context, _ = erfa.apco13(*utc, 0.0, *where, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
    azimuth, zenith, *_ = erfa.atioq(*erfa.atciqz(np.radians(ra), np.radians(dec), context), context)
    return 90 - np.degrees(zenith), np.degrees(azimuth)
