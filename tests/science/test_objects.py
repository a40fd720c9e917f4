"""gpudiff.science.objects: positions and counts after one more detection."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.model.tables import concatenate
from gpudiff.science.objects import covariance, new_objects, rebuild, update

ARCSEC = 1 / 3600


def seen(ra: float, dec: float, error: float, visit: int, **columns):
    return a_sources(1, visit, ra=ra, dec=dec, raErr=error * ARCSEC, decErr=error * ARCSEC, **columns)


def test_a_detection_with_half_the_error_weighs_four_times_as_much():
    first, second = seen(10.0, 0.0, 0.2, 1), seen(10.0, 0.5 * ARCSEC, 0.1, 2)
    after = update(new_objects(first, 0.0), second, 0.0)
    assert after["dec"][0] == pytest.approx(0.4 * ARCSEC, rel=1e-6)  # errors are float32
    assert after["decErr"][0] == pytest.approx(ARCSEC / np.sqrt(125), rel=1e-6)


def test_counts_and_times_follow_the_detections_in_any_order():
    after = update(new_objects(seen(10, 0, 0.1, 5), 0.0), seen(10, 0, 0.1, 2), 61020.0)
    assert after["nDiaSources"].tolist() == [2]
    assert (after["firstDiaSourceMjdTai"][0], after["lastDiaSourceMjdTai"][0]) == (61002.0, 61005.0)
    assert after["validityStartMjdTai"][0] == 61020.0


def test_an_unknown_time_leaves_first_and_last_seen():
    after = update(new_objects(seen(10, 0, 0.1, 5), 0.0), seen(10, 0, 0.1, 6, midpointMjdTai=np.nan), 0.0)
    assert after["lastDiaSourceMjdTai"][0] == 61005.0


@pytest.mark.parametrize("dec", [0.0, 60.0, -89.9999, 90.0])
def test_the_mean_of_equal_detections_lies_half_way(dec):
    first, second = seen(0.0, dec, 0.1, 1), seen(180.0 if abs(dec) > 89 else 1e-4, dec, 0.1, 2)
    after = update(new_objects(first, 0.0), second, 0.0)
    middle = {0.0: (5e-5, 0.0), 60.0: (5e-5, 60.0), -89.9999: (0.0, -90.0), 90.0: (0.0, 90.0)}[dec]
    assert after["dec"][0] == pytest.approx(middle[1], abs=1e-8)
    if abs(dec) < 89:
        assert after["ra"][0] == pytest.approx(middle[0], abs=1e-8)


@pytest.mark.parametrize("error", [0.0, np.nan, np.inf, -1.0])
def test_a_useless_error_counts_as_unknown(error):
    made = covariance(a_sources(1, raErr=error, decErr=1 * ARCSEC, ra_dec_Cov=np.nan))
    np.testing.assert_allclose(made[0], [[0.09, 0], [0, 1]], rtol=1e-6)  # errors are float32


def test_a_covariance_is_always_positive_definite():
    made = covariance(a_sources(1, raErr=ARCSEC, decErr=ARCSEC, ra_dec_Cov=5 * ARCSEC**2))
    assert np.all(np.linalg.eigvalsh(made) > 0)


def test_rebuilding_from_all_detections_gives_the_same_objects():
    one, two, three = seen(10, 0, 0.1, 1), seen(10, 1e-5, 0.2, 2), seen(20, 0, 0.1, 2, detector=9)
    straight = update(new_objects(one, 0.0), two, 0.0)
    owner = np.array([one["diaSourceId"][0], three["diaSourceId"][0], one["diaSourceId"][0]])
    made = rebuild(concatenate([one, three, two]), owner, 0.0)
    assert made["diaObjectId"].tolist() == sorted(set(owner.tolist()))
    assert made["nDiaSources"].tolist() == [2, 1]
    for name in ("ra", "dec", "raErr", "lastDiaSourceMjdTai"):
        assert made[name][0] == pytest.approx(straight[name][0], rel=1e-12)


def test_rebuilding_from_no_detections_gives_no_objects():
    assert len(rebuild(a_sources(0), np.empty(0, int), 0.0)) == 0


def test_rebuilding_begins_with_the_snapshot_and_adds_what_came_later():
    before = new_objects(seen(10, 0, 0.1, 5), 0.0).replace(nDiaSources=[40], diaObjectId=[3])
    left = concatenate([seen(10, 0, 0.1, 4), seen(10, 0, 0.1, 6)])  # the first is in the snapshot already
    made = rebuild(left, np.array([3, 3]), 0.0, before=before)
    assert made["nDiaSources"].tolist() == [41]
