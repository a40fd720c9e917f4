"""gpudiff.services.known_sky: objects in memory, by place."""

import numpy as np
from batches import a_sources

from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.objects import new_objects
from gpudiff.services.known_sky import KnownSky


def objects(count: int, visit: int = 7, **columns) -> Table:
    return new_objects(a_sources(count, visit, **columns), 0.0)


def found(sky: KnownSky, dec: float, margin: float = 0.5) -> list[int]:
    return sky.near(np.array([dec]), margin)["diaObjectId"].tolist()


def test_objects_in_the_belt_are_found():
    sky = KnownSky(objects(3, dec=np.array([-30.0, 10.0, 10.6])))
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
    assert len(set(found(sky, -30.0))) == len(sky) == 4000
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
    assert found(sky, 0.0, 90.0) == []
    assert found(sky, np.nan) == []
