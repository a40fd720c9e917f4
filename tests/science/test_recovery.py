import numpy as np
import pytest

from gpudiff.model.recovery import PUBLISHED
from gpudiff.model.scene import TRUTH
from gpudiff.model.tables import Table
from gpudiff.science.recovery import distances, recover

DEFAULTS = {
    "objectId": 1,
    "kind": "transient",
    "place": "field",
    "visit": 1,
    "flux": 100.0,
    "snr": 20.0,
    "usable": 1.0,
}


def truth(*rows):
    full = [{**{c.name: 0 for c in TRUTH}, **DEFAULTS, **row} for row in rows]
    return Table(TRUTH, {c.name: [row[c.name] for row in full] for c in TRUTH})


def alerts(*rows):
    full = [{**{c.name: 0 for c in PUBLISHED}, "visit": 1, "diaSourceId": n, **row} for n, row in enumerate(rows)]
    return Table(PUBLISHED, {c.name: [row[c.name] for row in full] for c in PUBLISHED})


def test_an_alert_within_three_pixels_finds_a_change():
    made = recover(truth({"x": 10, "y": 10}), alerts({"x": 12, "y": 11}))
    assert made.found.tolist() == [True]
    assert made.false.tolist() == [False]
    assert made.share_found == 1


def test_an_alert_farther_off_is_false_and_the_change_missed():
    made = recover(truth({"x": 10, "y": 10}), alerts({"x": 13, "y": 11}))
    assert made.missed.tolist() == [True]
    assert made.false.tolist() == [True]


def test_the_sign_must_agree():
    made = recover(truth({"flux": -100.0}), alerts({}, {"isNegative": True}))
    assert made.truth_of.tolist() == [-1, 0]


def test_another_frame_does_not_count():
    made = recover(truth({}), alerts({"visit": 2}, {"detector": 1}))
    assert made.false.all()
    assert made.missed.all()


def test_two_alerts_for_one_change_are_one_find_and_one_false():
    made = recover(truth({}), alerts({"x": 2}, {"x": 1}))
    assert made.truth_of.tolist() == [-1, 0]
    assert made.alert_of.tolist() == [1]


def test_an_unflagged_alert_is_preferred_to_a_nearer_flagged_one():
    made = recover(truth({}), alerts({"x": 2}, {"x": 1, "flagged": True}))
    assert made.alert_of.tolist() == [0]
    assert made.found.all()


def test_a_change_seen_only_by_a_flagged_alert_is_neither_found_nor_missed():
    made = recover(truth({}), alerts({"flagged": True}))
    assert (made.found.any(), made.missed.any(), made.only_flagged.all()) == (False, False, True)


def test_a_change_too_faint_to_see_is_not_missed_but_may_be_found():
    made = recover(truth({"snr": 4.0}, {"snr": 4.5, "x": 50}), alerts({"x": 50}))
    assert not made.missed.any()
    assert made.found.tolist() == [False, True]
    assert np.isnan(made.share_found)


def test_a_trail_is_found_anywhere_along_it():
    streak = truth({"x": 100, "y": 100, "trailLength": 20, "trailAngle": 90.0})
    away = distances(streak, np.array([100.0, 100.0, 102.0]), np.array([109.0, 115.0, 95.0]))[:, 0]
    assert away == pytest.approx([0, 5, 2], abs=1e-4)  # the table keeps angles in float32


def test_the_same_object_in_a_later_visit_is_associated_right():
    two = truth({"visit": 1}, {"visit": 2})
    assert recover(two, alerts({"diaObjectId": 7}, {"visit": 2, "diaObjectId": 7})).right == 1
    assert recover(two, alerts({"diaObjectId": 7}, {"visit": 2, "diaObjectId": 8})).wrong == 1


def test_what_moves_is_not_judged_by_its_association():
    two = truth({"visit": 1, "kind": "moving"}, {"visit": 2, "kind": "moving"})
    made = recover(two, alerts({"diaObjectId": 7}, {"visit": 2, "diaObjectId": 8}))
    assert (made.right, made.wrong) == (0, 0)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"usable": 0.6}, "40% of it lies on bad or saturated pixels"),
        ({"snr": 5.1}, "at the threshold"),
        ({"place": "near-star"}, "beside a star"),
        ({"trailLength": 9.0}, "trailed"),
        ({}, "unknown"),
    ],
)
def test_a_missed_change_has_its_reason(row, reason):
    assert recover(truth(row), alerts()).why_missed[0].startswith(reason)


def test_a_change_on_a_frame_that_was_not_taken_says_so():
    made = recover(truth({}), alerts(), frozenset({(1, 0)}))
    assert made.why_missed[0] == "its frame was not taken"


def test_a_false_alert_on_a_cosmic_ray_is_explained_by_it():
    made = recover(truth({"kind": "cosmic-ray", "x": 5}), alerts({"x": 8}, {"x": 100}))
    assert made.why_false.tolist() == ["cosmic ray", "unknown"]
    assert len(made.truth) == 0


def test_the_visits_add_up_to_the_night():
    both = truth({"visit": 1}, {"visit": 2, "x": 9}, {"visit": 2, "x": 90})
    made = recover(both, alerts({"x": 0}, {"visit": 2, "x": 9, "flagged": True}, {"visit": 2, "x": 50}))
    parts = [made.of_visit(visit) for visit in (1, 2)]
    for fact in ("found", "missed", "only_flagged", "false", "detectable"):
        assert sum(getattr(part, fact).sum() for part in parts) == getattr(made, fact).sum(), fact


def test_a_night_without_alerts_is_all_missed():
    made = recover(truth({}, {"visit": 2}), alerts())
    assert made.missed.all()
    assert made.of_visit(2).missed.sum() == 1
