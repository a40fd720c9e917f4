"""gpudiff.model.schedule: which announced visits count."""

import dataclasses

import pytest

from gpudiff.model.next_visit import NextVisit
from gpudiff.model.schedule import CANCELLED, EXPIRED, KEPT_S, NOTED, STALE, Plan

NOW = 61000.0
FIRST = NextVisit(visit=7, revision=3, horizon="hour", ra=10.0, dec=-20.0, start_tai=NOW + 0.01, duration_s=34.0)


def plan_of(*visits: NextVisit) -> Plan:
    plan = Plan()
    for visit in visits:
        plan, outcome = plan.take(visit, NOW)
        assert outcome in (NOTED, CANCELLED)
    return plan


def visit(number: int, **values) -> NextVisit:
    return dataclasses.replace(FIRST, visit=number, **values)


@pytest.mark.parametrize("revision", [2, 3])
def test_an_older_or_equal_revision_changes_nothing(revision):
    plan = plan_of(FIRST)
    assert plan.take(dataclasses.replace(FIRST, revision=revision, ra=99.0), NOW) == (plan, STALE)


def test_the_highest_revision_wins():
    assert plan_of(FIRST, visit(7, revision=4, ra=99.0)).visits[7].ra == 99.0


def test_an_expired_announcement_changes_nothing():
    assert Plan().take(visit(7, valid_until=NOW - 1e-6), NOW) == (Plan(), EXPIRED)


def test_a_cancelled_visit_is_gone_and_its_older_revisions_stay_away():
    plan = plan_of(FIRST, visit(7, revision=5, cancelled=True))
    assert plan.visits == {}
    assert plan.take(visit(7, revision=4), NOW)[1] == STALE


def test_a_visit_takes_the_place_of_those_it_supersedes():
    assert list(plan_of(FIRST, visit(8), visit(9, supersedes=(7, 8))).visits) == [9]


def test_visits_come_by_horizon_then_by_start_and_without_a_start_last():
    late, early = visit(1, start_tai=NOW + 2), visit(2, start_tai=NOW + 1)
    plan = plan_of(
        visit(3, start_tai=float("nan")), late, early, visit(4, horizon="next"), visit(5, horizon="night")
    )
    assert [one.visit for one in plan.in_order()] == [4, 2, 1, 3, 5]


def test_a_visit_that_never_came_is_forgotten_after_an_hour():
    plan, end = plan_of(FIRST), FIRST.start_tai + 34 / 86400
    assert plan.at(end + (KEPT_S - 1) / 86400) is plan
    assert plan.at(end + (KEPT_S + 1) / 86400).visits == {}


def test_a_visit_is_forgotten_when_it_is_no_longer_valid():
    assert plan_of(visit(7, valid_until=NOW + 1)).at(NOW + 2).visits == {}


def test_a_visit_of_unknown_time_is_kept():
    assert list(plan_of(visit(7, start_tai=float("nan"))).at(NOW + 99).visits) == [7]
