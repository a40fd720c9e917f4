"""gpudiff.services.schedule: a night of announcements, in any order, changed all the time."""

import dataclasses

import pytest

from gpudiff.edges.next_visit import decode, encode, read_visits
from gpudiff.model.clock import tai_now
from gpudiff.model.next_visit import NextVisit
from gpudiff.services.schedule import Schedule


def visit(number: int, **values) -> NextVisit:
    start = tai_now() + 0.01
    return dataclasses.replace(NextVisit(number, 1, "next", 10.0, -20.0, start_tai=start), **values)


def test_the_first_frame_says_whether_its_visit_was_announced():
    schedule = Schedule()
    schedule.hear(visit(7))
    assert [schedule.frame_came(number) for number in (7, 7, 8, 8)] == ["announced", None, "unannounced", None]


def test_a_visit_that_has_come_is_no_longer_planned_and_is_the_last():
    schedule = Schedule()
    schedule.hear(visit(7))
    schedule.frame_came(7)
    assert schedule.plan.visits == {}
    assert schedule.last.visit == 7


def test_a_change_is_told_and_a_stale_message_is_none():
    schedule = Schedule()
    schedule.hear(visit(7))
    before = schedule.version
    schedule.hear(visit(7, revision=0))
    assert schedule.version == before
    schedule.hear(visit(7, revision=2))
    assert schedule.version == before + 1


@pytest.mark.real_data
def test_a_night_that_changes_with_every_visit_is_followed(real_data):
    """Each visit is announced, changed twice, and comes; one in 20 is cancelled, one in 30 never announced."""
    night = list(read_visits(real_data / "pointings" / "baseline_v2.0_night_60483.csv"))
    later = [dataclasses.replace(one, start_tai=one.start_tai + tai_now() - 60483.5) for one in night]
    schedule, came = Schedule(), []
    for one in later:
        if one.visit % 30:
            schedule.hear(one)
    for one in later:
        for revision, horizon in ((3, "next"), (2, "hour")):
            changed = dataclasses.replace(one, revision=revision, horizon=horizon, cancelled=one.visit % 20 == 0)
            if one.visit % 30:
                schedule.hear(decode(encode(changed)))
        came.append(schedule.frame_came(one.visit))
    assert len(night) == 1058
    expected = ["announced" if n.visit % 30 and n.visit % 20 else "unannounced" for n in night]
    assert came == expected
    assert schedule.plan.visits == {}
