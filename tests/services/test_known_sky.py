"""gpudiff.services.known_sky: objects in memory, by place."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.edges.object_store import KIND, ObjectStore
from gpudiff.edges.sky_file import write_sky_file
from gpudiff.model.association import MOVING, NEW, TONIGHT, Association
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.objects import new_objects
from gpudiff.services.known_sky import KnownSky


def objects(count: int, visit: int = 7, **columns) -> Table:
    return new_objects(a_sources(count, visit, **columns), 0.0)


def found(sky: KnownSky, dec: float) -> list[int]:
    return sky.near(np.array([150.0]), np.array([dec]))["diaObjectId"].tolist()


def test_objects_in_the_circle_are_found():
    sky = KnownSky(objects(3, ra=150.0, dec=np.array([-30.0, 10.0, 10.6])))
    assert found(sky, 10.0) == objects(3)["diaObjectId"].tolist()[1:2]


def test_an_object_put_again_replaces_the_old():
    sky = KnownSky(objects(2))
    sky.put(objects(2, dec=40.0))
    assert len(sky) == 2
    assert found(sky, -30.0) == []
    assert len(found(sky, 40.0)) == 2


def test_it_grows_from_nothing_to_thousands():
    sky = KnownSky(Table.empty(DIAOBJECT))
    for visit in range(40):
        sky.put(objects(100, visit))
    place = objects(100)
    assert len(set(sky.near(place["ra"], place["dec"])["diaObjectId"].tolist())) == len(sky) == 4000
    assert objects(1, 39)["diaObjectId"][0] in sky


def test_a_removed_object_is_gone_and_may_come_back():
    sky = KnownSky(objects(2))
    one = objects(2)["diaObjectId"].tolist()[0]
    sky.remove([one, 999])
    assert one not in found(sky, -30.0)
    sky.put(objects(1))
    assert found(sky, -30.0).count(one) == 1


def test_objects_without_a_position_are_never_near():
    sky = KnownSky(objects(2, dec=np.nan))
    assert found(sky, 0.0) == []
    assert found(sky, np.nan) == []


@pytest.fixture
def snapshot(tmp_path):
    """100 objects of visit 3, along declination -30 from right ascension 150 on."""
    write_sky_file(tmp_path / "known.sky", KIND, objects(100, 3).columns, {"ledger_until_tai": 61003.0})
    return ObjectStore(tmp_path / "known.sky")


def test_the_snapshot_lies_below_tonights_objects(snapshot):
    sky = KnownSky(objects(1, 7, ra=150.0).replace(validityStartMjdTai=[61007.0]), snapshot)
    near = found(sky, -30.0)
    assert objects(1, 7)["diaObjectId"][0] in near
    assert objects(1, 3)["diaObjectId"][0] in near
    assert len(near) < 20


def test_what_tonight_changed_is_there_once_as_it_is_now(snapshot):
    sky = KnownSky(Table.empty(DIAOBJECT), snapshot)
    changed = objects(1, 3).replace(nDiaSources=[9])
    sky.put(changed)
    near = sky.near(np.array([150.0]), np.array([-30.0]))
    assert near["nDiaSources"].tolist() == [9]
    sky.remove(changed["diaObjectId"].tolist())
    assert sky.near(np.array([150.0]), np.array([-30.0]))["nDiaSources"].tolist() == [1]
    assert sky.before(changed["diaObjectId"].tolist(), changed["ra"], changed["dec"])["nDiaSources"].tolist() == [
        1
    ]


def test_the_ledgers_objects_that_the_snapshot_holds_are_left_to_it(snapshot):
    old = objects(2, 3).replace(validityStartMjdTai=[61002.0, 61004.0])
    assert len(KnownSky(old, snapshot)) == 1


def test_a_prepared_visit_is_read_once_and_few_are_kept(snapshot, monkeypatch):
    read = []
    cone = snapshot.cone
    monkeypatch.setattr(snapshot, "cone", lambda *circle: read.append(circle) or cone(*circle))
    sky = KnownSky(Table.empty(DIAOBJECT), snapshot)
    sky.prepare(150.0, -30.0, 1.75)
    for _ in range(5):
        found(sky, -30.0)
    assert len(read) == 1
    for ra in range(0, 100, 10):
        sky.prepare(ra, 0.0, 1.75)
    assert len(sky._cones) == 4


def test_detections_anywhere_in_a_prepared_visit_need_no_more_of_the_snapshot(snapshot, monkeypatch):
    sky = KnownSky(Table.empty(DIAOBJECT), snapshot)
    sky.prepare(150.0, -30.0, 1.0)
    monkeypatch.setattr(snapshot, "cone", None)
    edge = 0.9999 / np.cos(np.radians(30))
    ra = 150 + edge * np.array([1] * 9 + [-1, 0.5])  # their own circle reaches far beyond the visit's
    assert len(sky.near(ra, np.full(len(ra), -30.0))) > 0


def noted(sky: KnownSky, visit: int, *kinds: int) -> Table:
    sources = a_sources(len(kinds), visit)
    none = np.zeros(len(kinds), int)
    kept = new_objects(sources, 0.0)
    sky.note(sources, Association(np.array(kinds, np.int8), none, none, none, none + 1.0, kept))
    return sources


def test_new_and_moving_detections_are_loose_and_known_ones_are_not():
    sky = KnownSky(Table.empty(DIAOBJECT))
    ids = noted(sky, 7, NEW, MOVING, TONIGHT)["diaSourceId"].tolist()
    assert sky.loose(np.array([150.0]), np.array([-30.0]), 1.0)["diaSourceId"].tolist() == ids[:2]


def test_a_loose_detection_that_is_seen_again_in_its_place_is_loose_no_longer():
    sky = KnownSky(Table.empty(DIAOBJECT))
    first = noted(sky, 7, NEW)
    again = a_sources(1, 8, midpointMjdTai=61007.01)
    none = np.zeros(1, int)
    joined = new_objects(first, 0.0)
    sky.note(again, Association(np.array([TONIGHT], np.int8), none, none, none, none + 1.0, joined))
    assert len(sky.loose(np.array([150.0]), np.array([-30.0]), 1.0)) == 0


def test_loose_detections_of_earlier_hours_are_forgotten():
    sky = KnownSky(Table.empty(DIAOBJECT))
    noted(sky, 7, NEW)
    later = noted(sky, 8, NEW)  # a day later
    left = sky.loose(np.array([150.0]), np.array([-30.0]), 1.0)["diaSourceId"].tolist()
    assert left == later["diaSourceId"].tolist()
