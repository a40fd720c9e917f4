"""gpudiff.services.loose: what is loose near a place, however much is loose elsewhere."""

import numpy as np
import pytest

from gpudiff.model.sky import within
from gpudiff.model.tables import LOOSE, Table
from gpudiff.services.loose import DAYS, SWEEP, Loose

PLACES = [(150.0, -30.0), (0.01, 10.0), (359.99, -10.0), (40.0, 89.7), (10.0, -90.0), (180.0, 0.0)]


def detections(ids, ra, dec, when: float = 61000.0) -> Table:
    values = {c.name: np.zeros(len(ids), c.dtype) for c in LOOSE}
    when = np.full(len(ids), when)
    return Table(LOOSE, {**values, "diaSourceId": ids, "ra": ra, "dec": dec, "midpointMjdTai": when})


def scattered(rng: np.random.Generator, first: int, when: float) -> Table:
    """20 about each of PLACES and 50 anywhere."""
    near = [(ra + rng.normal(0, 0.6, 20), np.clip(dec + rng.normal(0, 0.6, 20), -90, 90)) for ra, dec in PLACES]
    ra = np.concatenate([*(one for one, _ in near), rng.uniform(0, 360, 50)]) % 360
    dec = np.concatenate([*(one for _, one in near), rng.uniform(-90, 90, 50)])
    return detections(first + np.arange(len(ra)), ra, dec, when)


def near(loose: Loose, ra: float, dec: float, radius: float) -> Table:
    return loose.near(np.array([ra]), np.array([dec]), radius)


@pytest.mark.parametrize("radius", [0.01, 0.7, 3.0, 40.0])
def test_all_in_the_circle_are_found(radius):
    rng, loose, rows = np.random.default_rng(1), Loose(), []
    for number in range(12):
        some = scattered(rng, 1000 * number, 61000.0 + 0.001 * number)
        loose.add(some)
        gone = rng.choice(some["diaSourceId"], 30, replace=False)
        loose.forget(gone.tolist())
        rows.append(some.take(~np.isin(some["diaSourceId"], gone)))
    for place in PLACES:
        expected = [one["diaSourceId"][within(one["ra"], one["dec"], *place, radius)] for one in rows]
        found = near(loose, *place, radius)
        assert set(found["diaSourceId"].tolist()) >= set(np.concatenate(expected).tolist())
        assert len(np.unique(found["diaSourceId"])) == len(found)
    assert len(loose) == sum(map(len, rows))


def test_one_that_comes_again_is_where_it_is_now():
    loose = Loose()
    loose.add(detections([1, 2], [10.0, 10.0], [5.0, 5.0]))
    loose.add(detections([1], [10.0], [40.0]))
    assert near(loose, 10.0, 5.0, 0.5)["diaSourceId"].tolist() == [2]
    assert near(loose, 10.0, 40.0, 0.5)["diaSourceId"].tolist() == [1]
    assert len(loose) == 2


def test_what_is_forgotten_and_added_again_is_there_once():
    loose = Loose()
    loose.add(detections([1], [10.0], [5.0]))
    loose.forget([1, 99])
    loose.add(detections([1], [10.0], [5.0]))
    assert len(near(loose, 10.0, 5.0, 0.5)) == 1


def test_those_of_earlier_hours_are_let_go_everywhere():
    loose = Loose()
    for number in range(100):
        loose.add(detections([number], [3.0 * number], [5.0], 61000.0 + number * DAYS / 20))
        assert len(loose) <= 23  # 20 are young enough; those that are not go with the next clearing, two later
    assert len(near(loose, 150.0, 5.0, 90.0)) <= 20


@pytest.mark.parametrize("days", [-2 * DAYS, 5000.0])
def test_a_frame_that_is_late_or_misdated_makes_no_other_old(days):
    loose = Loose()
    loose.add(detections([1], [10.0], [5.0], 61000.0))
    loose.add(detections([2], [10.0], [5.0], 61000.0 + days))
    loose.add(detections([3], [10.0], [5.0], 61000.0 + DAYS / 100))
    assert near(loose, 10.0, 5.0, 0.5)["diaSourceId"].tolist() == [1, 3]
    for number in (4, 5):  # frames follow each other closely
        loose.add(detections([number], [10.0], [5.0], 61000.0 + (number - 3) * 0.9 * SWEEP * DAYS))
    assert near(loose, 10.0, 5.0, 0.5)["diaSourceId"].tolist() == [1, 3, 4, 5]
    assert len(loose) == 4


def test_a_frame_that_is_dated_an_hour_or_two_ahead_makes_no_other_old():
    loose, when = Loose(), 61000.0 + np.arange(30) * DAYS / 20
    for number in range(30):
        loose.add(detections([number], [10.0], [5.0], when[number]))
        if number == 20:
            loose.add(detections([99], [10.0], [5.0], when[number] + 0.9 * DAYS))
    found = near(loose, 10.0, 5.0, 0.5)["diaSourceId"]
    assert np.isin(np.flatnonzero(when > when[-1] - DAYS), found).all()


def test_a_misdated_detection_that_is_undone_leaves_those_of_tonight_young():
    loose = Loose()
    loose.add(detections([1], [150.0], [-30.0]))
    loose.begin()
    loose.add(detections([2], [150.0], [-30.0], 61100.0))
    loose.undo()
    assert loose.near(np.array([150.0]), np.array([-30.0]), 0.1)["diaSourceId"].tolist() == [1]
