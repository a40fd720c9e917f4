"""gpudiff.science.alert: what an alert says, in published units."""

import dataclasses

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from batches import a_batch

from gpudiff.model.provenance import extend
from gpudiff.model.tables import DIAOBJECT, FORCED_SOURCE, Table
from gpudiff.science.alert import latency, make_alerts, provenance, published, published_forced
from gpudiff.science.associate import associate
from gpudiff.science.solar_system import solar_system

SCALE = 5.5e-5 * 3600
"""Arcsec a pixel of the batches' WCS, whose axes are turned by 0.1 degrees."""


def test_a_zero_point_turns_fluxes_into_nanojansky():
    made = published(a_batch(1, zero_point=8.9, psfFluxErr=1e-3))  # magnitude 8.9 is 1 Jy (AB)
    assert made["psfFlux"][0] == pytest.approx(1000e9, rel=2e-3)  # 8.9 is rounded
    assert made["psfFluxErr"][0] == pytest.approx(1e6, rel=2e-3)


def test_without_a_zero_point_fluxes_stay():
    batch = a_batch(2)
    np.testing.assert_array_equal(published(batch)["psfFlux"], batch.sources["psfFlux"])


def test_an_image_in_nanojansky_is_published_as_it_is():
    batch = dataclasses.replace(a_batch(2, zero_point=27.0), unit="nJy")
    np.testing.assert_array_equal(published(batch)["psfFlux"], batch.sources["psfFlux"])
    made = make_alerts(batch, associate(batch.sources, Table.empty(DIAOBJECT), 1.0, 61020.0), 0, "", 61020.0)
    assert made.common["fluxUnit"] == "nJy"


@pytest.mark.parametrize(("angle", "bearing"), [(90.0, 0.0), (0.0, 90.0), (45.0, 135.0)])
def test_a_trail_is_told_in_arcsec_from_north_to_east(angle, bearing):
    # x runs west in this WCS: a trail along +x is one along east
    made = published(a_batch(1, trailLength=10.0, trailAngle=angle))
    assert made["trailLength"][0] == pytest.approx(10 * SCALE, rel=1e-3)
    assert (made["trailAngle"][0] - bearing + 90) % 180 - 90 == pytest.approx(0, abs=0.2)  # turned by 0.1


@pytest.mark.parametrize(("angle", "bearing"), [(90.0, 0.0), (180.0, 90.0), (-90.0, 180.0), (0.0, 270.0)])
def test_a_dipole_is_told_in_arcsec_from_north_to_east_and_has_a_direction(angle, bearing):
    made = published(a_batch(1, dipoleLength=2.0, dipoleAngle=angle))
    assert made["dipoleLength"][0] == pytest.approx(2 * SCALE, rel=1e-3)
    assert (made["dipoleAngle"][0] - bearing + 180) % 360 - 180 == pytest.approx(0, abs=0.2)


def test_moments_are_told_in_square_arcsec():
    assert published(a_batch(1, ixx=4.0))["ixx"][0] == pytest.approx(4 * SCALE**2, rel=1e-3)


def test_without_a_wcs_arcsec_are_unknown():
    made = published(dataclasses.replace(a_batch(1, trailLength=3.0), wcs={}))
    assert np.isnan(made["trailLength"][0])


def test_no_sources_are_published_as_none():
    assert len(published(a_batch(0))) == 0


def test_the_fingerprint_follows_from_the_one_before():
    batch = a_batch(1)
    fingerprint, steps = provenance(batch, "c" * 32)
    assert [step["step"] for step in steps] == ["calibrate", "associate", "encode"]
    assert fingerprint == extend(batch.fingerprint, steps[1:])
    assert fingerprint != provenance(batch, "d" * 32)[0]


def test_latency_counts_from_readout_end_or_else_arrival_or_is_unknown():
    batch = a_batch(1)
    unread = dataclasses.replace(batch.observation, readout_end_tai=np.nan)
    arrived = dataclasses.replace(batch, observation=unread)
    now = 61007.001
    assert latency(batch, now) == pytest.approx(0.0008 * 86400, abs=1e-3)  # MJD resolves a microsecond
    assert latency(arrived, now) == pytest.approx(0.0007 * 86400, abs=1e-3)
    assert latency(dataclasses.replace(arrived, received_tai=np.nan), now) is None


def test_forced_fluxes_are_published_in_the_unit_of_the_detections():
    forced = Table(FORCED_SOURCE, {c.name: np.ones(2, c.dtype) for c in FORCED_SOURCE})
    batch = dataclasses.replace(a_batch(1, zero_point=8.9), forced=forced)
    made = published_forced(batch)
    assert made["psfFlux"][0] == pytest.approx(1e9, rel=2e-3)  # 8.9 is 1 Jy, rounded
    assert made["ra"][0] == 1


def test_a_solar_system_object_is_told_in_ecliptic_and_galactic_coordinates():
    sources = a_batch(3, ra=[10.0, 200.0, 300.0], dec=[-80.0, 3.0, 45.0]).sources
    found = associate(sources, Table.empty(DIAOBJECT), 1.0, 61020.0)
    table = solar_system(sources, dataclasses.replace(found, ss_object_ids=np.array([5, 0, 6])))
    assert table["ssObjectId"].tolist() == [5, 6]
    assert table["diaSourceId"].tolist() == sources["diaSourceId"][[0, 2]].tolist()
    there = SkyCoord([10.0, 300.0], [-80.0, 45.0], unit="deg")
    ecliptic = there.transform_to("barycentricmeanecliptic")
    # astropy's ecliptic is that of IAU 2006 and its ICRS is turned by the frame bias: together below 0.1 arcsec
    np.testing.assert_allclose(table["eclLambda"], ecliptic.lon.deg, atol=3e-4)
    np.testing.assert_allclose(table["eclBeta"], ecliptic.lat.deg, atol=3e-5)
    np.testing.assert_allclose(table["galLon"], there.galactic.l.deg, atol=3e-5)
    np.testing.assert_allclose(table["galLat"], there.galactic.b.deg, atol=3e-5)
