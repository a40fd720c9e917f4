"""gpudiff.science.solar_system against astropy's Earth and Kepler's equation solved here."""

import dataclasses

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import EarthLocation, get_body_barycentric_posvel
from astropy.time import Time
from batches import a_batch
from scipy.optimize import brentq

from gpudiff.model.sky import angles
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.associate import associate
from gpudiff.science.ephemerides import AU_A_DAY, TT_TAI, Night, Site, columns_of, predict
from gpudiff.science.orbits import GAUSS, equatorial, states_of
from gpudiff.science.solar_system import KM_S, Sight, moved, sight, solar_system

NIGHT = Night(61001.2, 14.0)
SITE = Site(-70.749, -30.245, 2663.0)
ELEMENTS = {"a": [2.5, 1.1, 39.0], "e": [0.2, 0.3, 0.2], "i": [10.0, 4.0, 15.0], "node": [40.0, 80.0, 20.0]}
ELEMENTS |= {"peri": [70.0, 10.0, 200.0], "m": [300.0, 20.0, 170.0]}
COUNT = 3
TIMES = [NIGHT.middle - 0.28, NIGHT.middle, NIGHT.middle + 0.25]


@pytest.fixture(scope="module")
def columns():
    """Ephemerides of three orbits whose elements are those of the middle of the night."""
    elements = {name: np.array(values) for name, values in ELEMENTS.items()}
    known = {name: np.full(COUNT, value) for name, value in (("h", 15.0), ("g", 0.15), ("error", 0.0))}
    known |= {"ssObjectId": np.array([7, 5, 9]), "designation": np.array([b"first", b"near", b"far"])}
    known["epoch"] = np.full(COUNT, NIGHT.middle + TT_TAI)
    return columns_of(known, equatorial(states_of(elements)), NIGHT, SITE)


def seen_at(columns, mjd):
    names = columns["designation"].astype(str)
    return Sight(columns["ssObjectId"], names, columns["magnitude"], *sight(columns["state"], NIGHT, SITE, mjd))


def kepler(n, mjd_tt):
    """(3,) heliocentric place of orbit n along the equator's axes, by root finding."""
    a, e, i, node, peri, m = (ELEMENTS[name][n] for name in ("a", "e", "i", "node", "peri", "m"))
    anomaly = np.radians(m) + np.sqrt(GAUSS / a**3) * (mjd_tt - NIGHT.middle - TT_TAI)
    eccentric = brentq(lambda x: x - e * np.sin(x) - anomaly, anomaly - 1, anomaly + 1, xtol=1e-15, rtol=1e-15)
    place = np.array([a * (np.cos(eccentric) - e), a * np.sqrt(1 - e**2) * np.sin(eccentric), 0])
    for angle, axis in ((peri, 2), (i, 0), (node, 2), (84381.448 / 3600, 0)):
        place = turn(np.radians(angle), axis) @ place
    return place


def turn(angle, axis):
    one, other = [n for n in range(3) if n != axis]
    matrix = np.eye(3)
    matrix[one, one] = matrix[other, other] = np.cos(angle)
    matrix[one, other], matrix[other, one] = -np.sin(angle), np.sin(angle)
    return matrix


def astropys_observer(mjd):
    """(3,) heliocentric place, AU."""
    time = Time(mjd, format="mjd", scale="tai")
    earth, sun = (get_body_barycentric_posvel(body, time)[0].xyz.to_value(u.au) for body in ("earth", "sun"))
    where = EarthLocation.from_geodetic(SITE.longitude * u.deg, SITE.latitude * u.deg, SITE.height * u.m)
    return earth - sun + where.get_gcrs_posvel(time)[0].xyz.to_value(u.au)


def independent(n, mjd):
    """Heliocentric place of object n when the light left, and the observer's, AU."""
    here, late = astropys_observer(mjd), 0.0
    for _ in range(6):
        there = kepler(n, mjd + TT_TAI - late)
        late = np.linalg.norm(there - here) / AU_A_DAY
    return there, here


def told(columns, mjd, **changed):
    """The table of sources that lie where the objects are predicted, moved by `east` and `north` arcsec."""
    where = predict(columns, NIGHT, mjd, 30.0)
    dec = where["dec"] + changed.get("north", 0.0) / 3600
    ra = where["ra"] + changed.get("east", 0.0) / 3600 / np.cos(np.radians(where["dec"]))
    sources = a_batch(COUNT, ra=ra % 360, dec=dec).sources
    found = associate(sources, Table.empty(DIAOBJECT), 1.0, 61020.0)
    found = dataclasses.replace(found, ss_object_ids=columns["ssObjectId"])
    return solar_system(sources, found, seen_at(columns, mjd))


@pytest.mark.parametrize("mjd", TIMES)
def test_places_and_distances_are_those_of_astropy_and_kepler(columns, mjd):
    table = told(columns, mjd)
    for n in range(COUNT):
        there, here = independent(n, mjd)
        # ours has the planets' pull: 1e-7 AU in a quarter of a day; float32 has seven digits
        np.testing.assert_allclose([table[f"helio_{c}"][n] for c in "xyz"], there, atol=1e-6, rtol=2e-7)
        np.testing.assert_allclose([table[f"topo_{c}"][n] for c in "xyz"], there - here, atol=1e-6, rtol=2e-7)
        sun, away, base = (np.linalg.norm(one) for one in (there, there - here, here))
        assert table["helioRange"][n] == pytest.approx(sun, rel=1e-6)
        assert table["topoRange"][n] == pytest.approx(away, rel=1e-6)
        phase = np.degrees(np.arccos((sun**2 + away**2 - base**2) / (2 * sun * away)))
        elongation = np.degrees(np.arccos((away**2 + base**2 - sun**2) / (2 * away * base)))
        assert table["phaseAngle"][n] == pytest.approx(phase, abs=1e-4)
        assert table["elongation"][n] == pytest.approx(elongation, abs=1e-4)


@pytest.mark.parametrize("mjd", TIMES)
def test_velocities_are_the_changes_of_the_places(columns, mjd):
    table, step = told(columns, mjd), 0.001
    for n in range(COUNT):
        (before, here), (after, next_here) = (independent(n, mjd + side * step / 2) for side in (-1, 1))
        late = step - (np.linalg.norm(after - next_here) - np.linalg.norm(before - here)) / AU_A_DAY
        velocity, own = (after - before) / late * KM_S, (next_here - here) / step * KM_S
        # a difference over 86 s of an observer who turns with the Earth is good to 1e-6 of 0.4 km/s
        np.testing.assert_allclose([table[f"helio_v{c}"][n] for c in "xyz"], velocity, atol=2e-4)
        np.testing.assert_allclose([table[f"topo_v{c}"][n] for c in "xyz"], velocity - own, atol=1e-3)
        assert table["helio_vtot"][n] == pytest.approx(np.linalg.norm(velocity), abs=2e-4)
        assert table["topo_vtot"][n] == pytest.approx(np.linalg.norm(velocity - own), abs=1e-3)
        there, at = independent(n, mjd)
        assert table["helioRangeRate"][n] == pytest.approx(velocity @ there / np.linalg.norm(there), abs=5e-4)
        off = there - at
        assert table["topoRangeRate"][n] == pytest.approx((velocity - own) @ off / np.linalg.norm(off), abs=2e-3)


def test_the_predicted_place_and_motion_are_those_of_the_chebyshev_segments(columns):
    mjd, step = TIMES[2], 0.01
    table, where = told(columns, mjd), predict(columns, NIGHT, mjd, 0.0)
    np.testing.assert_allclose(table["ephRa"], where["ra"], atol=3e-7)  # a milliarcsecond
    np.testing.assert_allclose(table["ephDec"], where["dec"], atol=3e-7)
    before, after = (predict(columns, NIGHT, mjd + side * step / 2, 0.0) for side in (-1, 1))
    east = (after["ra"] - before["ra"]) / step * np.cos(np.radians(where["dec"]))
    north = (after["dec"] - before["dec"]) / step
    np.testing.assert_allclose(table["ephRateRa"], east, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table["ephRateDec"], north, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table["ephRate"], np.hypot(east, north), rtol=1e-4)


def test_an_offset_is_told_along_and_across_the_motion(columns):
    table = told(columns, TIMES[0], east=2.0, north=-1.0)
    np.testing.assert_allclose(table["ephOffsetRa"], 2, atol=2e-3)  # the prediction itself is 1 mas off
    np.testing.assert_allclose(table["ephOffsetDec"], -1, atol=2e-3)
    np.testing.assert_allclose(table["ephOffset"], np.sqrt(5), atol=2e-3)
    for n in range(COUNT):
        along = np.array([table["ephRateRa"][n], table["ephRateDec"][n]]) / table["ephRate"][n]
        assert table["ephOffsetAlongTrack"][n] == pytest.approx(along @ [2, -1], abs=3e-3)
        assert table["ephOffsetCrossTrack"][n] == pytest.approx(along[0] * -1 - along[1] * 2, abs=3e-3)


def test_a_detection_that_is_not_the_nearest_has_a_lower_rank(columns):
    where = predict(columns, NIGHT, TIMES[1], 30.0)
    ra, dec = where["ra"][[0, 0, 1]], where["dec"][[0, 0, 1]] + np.array([0.0, 0.3, 0.0]) / 3600
    sources = a_batch(3, ra=ra, dec=dec).sources
    found = associate(sources, Table.empty(DIAOBJECT), 1.0, 61020.0)
    found = dataclasses.replace(found, ss_object_ids=np.array([0, 7, 5]))
    table = solar_system(sources, found, seen_at(columns, TIMES[1]))
    assert table["diaDistanceRank"].tolist() == [2, 1]
    assert table["designation"].tolist() == ["first", "near"]


def test_no_detection_ranks_behind_itself():
    count = 200  # the product of two vectors has one ulp more or less, by the order in which it is summed
    there, here = np.random.default_rng(1).normal(0, 3, (count, 6)), np.array([1.0, 0, 0, 0, 0, 0])
    ra, dec = angles(there[:, :3] - here[:3])
    sources, ids = a_batch(count, ra=ra, dec=dec).sources, np.arange(1, count + 1)
    found = associate(sources, Table.empty(DIAOBJECT), 1.0, 61020.0)
    seen = Sight(ids, np.full(count, ""), np.full(count, 20.0), there, here)
    table = solar_system(sources, dataclasses.replace(found, ss_object_ids=ids), seen)
    assert (table["diaDistanceRank"] == 1).all()


def test_what_is_not_in_the_ephemerides_has_its_coordinates_only(columns):
    sources = a_batch(1).sources
    found = associate(sources, Table.empty(DIAOBJECT), 1.0, 61020.0)
    found = dataclasses.replace(found, ss_object_ids=np.array([4]))
    nobody = Sight(np.empty(0, int), np.empty(0, str), np.empty(0), np.empty((0, 6)), np.zeros(6))
    for seen in (None, nobody, seen_at(columns, TIMES[1])):
        table = solar_system(sources, found, seen)
        assert np.isfinite(table["eclLambda"][0])
        assert np.isnan(table["topoRange"][0])
        assert (table["designation"][0], table["diaDistanceRank"][0]) == ("", 0)


def test_an_hour_forth_and_an_hour_back_is_where_it_was(columns):
    there = moved(moved(columns["state"], np.full((COUNT, 1), 0.3)), np.full((COUNT, 1), -0.3))
    np.testing.assert_allclose(there, columns["state"], atol=1e-11)
