"""gpudiff.science.ephemerides: directions of a night, in Chebyshev segments."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import EarthLocation
from astropy.time import Time

from gpudiff.science import ephemerides
from gpudiff.science.ephemerides import AU_A_DAY, AU_KM, TT_TAI, Night, Site, columns_of, observer, predict
from gpudiff.science.orbits import equatorial, propagate, states_of

NIGHT = Night(61001.2, 14.0)
SITE = Site(-70.749, -30.245, 2663.0)
ARCSEC = np.pi / 180 / 3600


def orbits(epoch: float = 61000.0, **elements) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Columns and states of a main-belt orbit, or others."""
    values = {"a": 2.5, "e": 0.2, "i": 10.0, "node": 40.0, "peri": 70.0, "m": 300.0} | elements
    columns = {name: np.atleast_1d(np.asarray(value, float)) for name, value in values.items()}
    count = max(len(column) for column in columns.values())
    columns = {name: np.broadcast_to(column, count) for name, column in columns.items()}
    known = {
        "ssObjectId": np.arange(count) + 1,
        "designation": np.array([b"made up"] * count),
        "epoch": np.full(count, epoch),
        "h": np.full(count, 15.0),
        "g": np.full(count, np.nan),
        "error": np.zeros(count),
    }
    return known, equatorial(states_of(columns))


def direct(states: np.ndarray, mjd_tai: float, site: Site | None) -> np.ndarray:
    """(N, 3) direction without Chebyshev: the light left when it must have, by another integration."""
    here, late = observer(mjd_tai, site), np.zeros(len(states))
    for _ in range(4):
        there = np.stack(
            [
                propagate(states[n : n + 1], 61000.0, np.array([mjd_tai + TT_TAI - late[n]]))[0, 0, :3]
                for n in range(len(states))
            ]
        )
        late = np.linalg.norm(there - here, axis=1) / AU_A_DAY
    return (there - here) / np.linalg.norm(there - here, axis=1)[:, None]


def test_a_prediction_is_the_direct_computation():
    known, states = orbits(a=[2.5, 1.1, 39.0], e=[0.2, 0.3, 0.2])
    columns = columns_of(known, states, NIGHT, SITE)
    for mjd in (NIGHT.middle - 0.29, NIGHT.middle - 0.013, NIGHT.middle + 0.2):
        made = predict(columns, NIGHT, mjd, 30.0)
        expected = direct(states, mjd, SITE)
        ra, dec = np.radians(made["ra"]), np.radians(made["dec"])
        seen = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)
        assert np.linalg.norm(seen - expected, axis=1).max() < 0.002 * ARCSEC


def test_the_observer_stands_where_astropy_puts_him():
    there = EarthLocation.from_geodetic(SITE.longitude * u.deg, SITE.latitude * u.deg, SITE.height * u.m)
    place = there.get_gcrs_posvel(Time(61001.2, format="mjd", scale="tai"))[0].xyz.to_value(u.km)
    ours = (observer(61001.2, SITE) - observer(61001.2, None)) * AU_KM
    assert np.linalg.norm(ours - place) < 0.5  # km: UT1 is taken for UTC


def test_without_a_site_the_error_holds_the_parallax():
    known, states = orbits()
    geocentric, at_site = (columns_of(known, states, NIGHT, site) for site in (None, SITE))
    apart = np.hypot(
        (geocentric["ra"] - at_site["ra"]) * np.cos(np.radians(at_site["dec"])), geocentric["dec"] - at_site["dec"]
    )
    assert 0.1 < apart[0] * 3600 < geocentric["error"][0]
    assert at_site["error"][0] < 0.2


def test_the_trail_is_the_way_between_shutter_open_and_closed():
    known, states = orbits()
    columns = columns_of(known, states, NIGHT, SITE)
    day = 30 / 86400
    first, last = (predict(columns, NIGHT, NIGHT.middle + side * day / 2, 0.0) for side in (-1, 1))
    made = predict(columns, NIGHT, NIGHT.middle, 30.0)
    east = (last["ra"] - first["ra"]) * 3600 * np.cos(np.radians(made["dec"]))
    np.testing.assert_allclose(made["eastTrail"], east, rtol=1e-3)
    np.testing.assert_allclose(made["northTrail"], (last["dec"] - first["dec"]) * 3600, rtol=1e-3)
    assert predict(columns, NIGHT, NIGHT.middle, np.nan)["eastTrail"][0] == 0


def test_old_elements_make_a_larger_error():
    known, states = orbits(epoch=60801.2)
    assert columns_of(known, states, NIGHT, SITE)["error"][0] == pytest.approx(
        0.1 + 200 * ephemerides.DRIFT, rel=1e-3
    )


def test_brightness_at_unit_distances_and_no_phase_is_h():
    one = np.array([1.0])
    sun = np.linalg.norm(observer(NIGHT.middle, None))
    bright = ephemerides.brightness(np.array([15.0]), np.array([0.15]), one * (1 + sun), one, NIGHT)
    assert bright[0] == pytest.approx(15 + 5 * np.log10(1 + sun), abs=1e-6)  # in opposition
    fainter = ephemerides.brightness(np.array([15.0]), np.array([np.nan]), one, one, NIGHT)
    assert 16 < fainter[0] < 18  # 60 degrees of phase


def test_an_object_of_unknown_brightness_has_none():
    known, states = orbits()
    known["h"] = np.array([np.nan])
    assert np.isnan(columns_of(known, states, NIGHT, SITE)["magnitude"][0])
