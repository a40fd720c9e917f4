"""gpudiff.science.tracklets: lines through one night's loose detections, and how seldom chance makes one."""

import numpy as np
import pytest
from batches import a_sources

from gpudiff.arrays.zone_join import zone_join
from gpudiff.model.tables import LOOSE, Table
from gpudiff.science import tracklets
from gpudiff.science.tracklets import LinkLimits, link

ARCSEC = 1 / 3600
MINUTE = 1 / 1440


def seen(east, north, minute: float, visit: int) -> Table:
    """Sources some arcsec from (0, 0), with errors of 0.1 arcsec, some minutes after MJD 61000."""
    east, north = np.atleast_1d(east), np.atleast_1d(north)
    errors = {"raErr": 0.1 * ARCSEC, "decErr": 0.1 * ARCSEC, "midpointMjdTai": 61000 + minute * MINUTE}
    return a_sources(len(east), visit, ra=east * ARCSEC, dec=north * ARCSEC, **errors)


def loose(*tables: Table, tracklet: int = 0) -> Table:
    names = [c.name for c in LOOSE if c.name != "trackletId"]
    columns = {name: np.concatenate([table[name] for table in tables]) for name in names}
    return Table(LOOSE, {**columns, "trackletId": np.full(len(columns["ra"]), tracklet)})


def mover(minute: float, visit: int, rate: float = 0.5) -> Table:
    return seen(rate * minute, -0.3 * minute, minute, visit)


def test_three_detections_on_a_line_are_a_tracklet_under_the_first_ones_id():
    first, second, third = mover(0, 1), mover(20, 2), mover(45, 3)
    assert link(third, loose(first, second), LinkLimits()).tolist() == first["diaSourceId"].tolist()


def test_a_detection_of_unknown_time_hides_no_other():
    timeless = mover(10, 4).replace(midpointMjdTai=[np.nan])
    earlier = loose(mover(0, 1), timeless, mover(20, 2))
    assert link(mover(45, 3), earlier, LinkLimits()).tolist() == mover(0, 1)["diaSourceId"].tolist()


def test_a_fourth_detection_keeps_the_tracklets_id():
    earlier = loose(mover(20, 2), mover(45, 3), tracklet=77)
    assert link(mover(60, 4), earlier, LinkLimits()).tolist() == [77]


def test_three_detections_off_a_line_are_none():
    bent = seen(10.0, -5.0, 20, 2)
    assert link(mover(45, 3), loose(mover(0, 1), bent), LinkLimits()).tolist() == [0]


def test_two_detections_are_a_tracklet_only_where_they_move_slowly():
    slow, fast = mover(0, 1, 0.05).replace(dec=[0.0]), mover(0, 1)
    assert link(seen(1.0, 0.0, 20, 2), loose(slow), LinkLimits()).tolist() == slow["diaSourceId"].tolist()
    assert link(mover(20, 2), loose(fast), LinkLimits()).tolist() == [0]


def test_what_is_too_fast_too_old_or_at_rest_is_not_linked():
    first, second = mover(0, 1), mover(20, 2)
    third, both = mover(45, 3), loose(first, second)
    assert not link(third, both, LinkLimits(fastest=0.4)).any()
    assert not link(third, both, LinkLimits(window=30)).any()
    still = [seen(0.0, 0.0, minute, visit) for visit, minute in ((1, 0), (2, 20), (3, 45))]
    assert not link(still[2], loose(*still[:2]), LinkLimits()).any()


def test_false_links_are_as_rare_as_was_asked():
    generator = np.random.default_rng(2)
    field = [seen(*generator.uniform(-2000, 2000, (2, 1500)), 15 * n, n + 1) for n in range(5)]
    linked = link(field[4], loose(*field[:4]), LinkLimits(chance=1e-2))
    # 1500 detections, 15 false links allowed; twice that is four sigma
    assert np.count_nonzero(linked) <= 30


def test_movers_among_strangers_are_found():
    generator = np.random.default_rng(3)
    start, rate = generator.uniform(-1500, 1500, (2, 100)), generator.uniform(-0.6, 0.6, (2, 100))
    frames = []
    for n, minute in enumerate((0, 20, 45)):
        place = start + rate * minute + generator.normal(scale=0.1, size=(2, 100))
        frames.append(seen(*np.concatenate([place, generator.uniform(-2000, 2000, (2, 200))], 1), minute, n + 1))
    linked = link(frames[2], loose(*frames[:2]), LinkLimits(chance=1e-2))
    assert np.count_nonzero(linked[:100] == frames[0]["diaSourceId"][:100]) >= 90
    assert np.count_nonzero(linked[100:]) <= 6


def test_no_pair_is_looked_at_that_is_too_far_apart_for_the_time_between(monkeypatch):
    reached = []
    monkeypatch.setattr(tracklets, "zone_join", lambda *given: reached.append(given[-1]) or zone_join(*given))
    link(mover(20, 2), loose(mover(0, 1), seen(0.0, 0.0, 10, 3)), LinkLimits(fastest=3.0, window=90.0))
    link(mover(200, 2), loose(mover(0, 1)), LinkLimits(fastest=3.0, window=90.0))
    assert reached == [pytest.approx(3.0 * 20 * 1.01), 3.0 * 90.0]


def test_nothing_links_with_nothing():
    assert link(a_sources(0), Table.empty(LOOSE), LinkLimits()).size == 0
    assert link(mover(0, 1), Table.empty(LOOSE), LinkLimits()).tolist() == [0]
