"""gpudiff.services.intake: frames in hand."""

import dataclasses

import numpy as np
import pytest
from serving import SHAPE, a_frame

from gpudiff.edges import wire
from gpudiff.edges.control import Receipt
from gpudiff.model.errors import BadMessage, NoCredit
from gpudiff.services.intake import Intake

SIZE = 4 * SHAPE[0] * SHAPE[1]


def take(intake: Intake, client: bytes, visit: int, attempt: int = 1, fill=None) -> Receipt:
    """The receipt for a frame that comes from a client."""
    parts = wire.encode(a_frame(visit, fill=fill), attempt)
    return intake.take(client, wire.open_envelope(parts, 1 << 20), parts)


def finish(intake: Intake, visit: int, status: str = "done") -> None:
    """End the frame that is next."""
    intake.finish(intake.next(), Receipt(visit, 0, 4, None, status, alerts=3))


def test_a_new_frame_is_accepted_and_queued():
    intake = Intake(2, 1 << 20)
    assert take(intake, b"a", 1).status == "accepted"
    assert intake.next().frame.visit == 1
    assert intake.next() is None


def test_a_frame_that_must_be_alone_is_waited_with_and_those_behind_it_too():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    take(intake, b"a", 2)
    held = intake.next()
    held.alone = True
    intake.again(held)
    assert intake.next(alone=False) is None
    assert [intake.next().frame.visit, intake.next(alone=False).frame.visit] == [1, 2]


def test_a_client_holds_no_more_than_its_credit():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    take(intake, b"a", 2)
    with pytest.raises(NoCredit, match="at most 2"):
        take(intake, b"a", 3)
    assert take(intake, b"b", 3).status == "accepted"


def test_credit_comes_back_with_the_end_of_a_frame():
    intake = Intake(1, 1 << 20)
    take(intake, b"a", 1)
    finish(intake, 1)
    assert take(intake, b"a", 2).status == "accepted"


def test_the_service_holds_no_more_bytes_than_it_may():
    intake = Intake(9, 3 * SIZE)
    take(intake, b"a", 1)
    take(intake, b"b", 2)
    with pytest.raises(NoCredit, match="bytes of room"):
        take(intake, b"c", 3)


def test_a_frame_sent_again_while_in_hand_is_queued_once_and_told_to_both():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    take(intake, b"b", 1, attempt=2)
    assert intake.next().waiters == {b"a": 1, b"b": 2}
    assert intake.next() is None


def test_other_pixels_under_a_name_in_hand_are_refused():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    with pytest.raises(BadMessage, match="1/0/4"):
        take(intake, b"a", 1, fill=3.0)


def test_a_finished_frame_is_a_duplicate_with_its_first_receipt():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    finish(intake, 1)
    receipt = take(intake, b"b", 1, attempt=2)
    assert (receipt.status, receipt.attempt, receipt.alerts) == ("duplicate", 2, 3)
    assert not intake.held


def test_the_same_pixels_with_another_gain_are_not_a_duplicate():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    finish(intake, 1)
    parts = wire.encode(dataclasses.replace(a_frame(1), gain=2.5))
    assert intake.take(b"a", wire.open_envelope(parts, 1 << 20), parts).status == "accepted"


def test_a_rejected_frame_may_come_again():
    intake = Intake(2, 1 << 20)
    take(intake, b"a", 1)
    finish(intake, 1, "rejected")
    assert take(intake, b"a", 1).status == "accepted"


def test_a_frame_put_back_is_next_and_its_tries_are_counted():
    intake = Intake(3, 1 << 20)
    take(intake, b"a", 1)
    take(intake, b"a", 2)
    held = intake.next()
    intake.again(held)
    assert intake.next() is held
    assert held.tries == 2


def test_a_frame_larger_than_all_room_is_taken_when_nothing_else_is_in_hand():
    intake = Intake(3, 10)
    assert take(intake, b"a", 1, fill=np.nan).status == "accepted"


def by_visit(header) -> str:
    """The associator of even visits, or of odd ones."""
    return "odd" if header.visit % 2 else "even"


def test_frames_whose_associator_is_away_wait_and_others_go_on_in_order():
    intake = Intake(9, 1 << 20, by_visit)
    for visit in range(1, 5):
        take(intake, b"a", visit)
    intake.closed = frozenset(["odd"])
    assert intake.waiting() == 2
    assert [intake.next().frame.visit, intake.next().frame.visit, intake.next()] == [2, 4, None]
    intake.closed = frozenset()
    assert [intake.next().frame.visit, intake.next().frame.visit] == [1, 3]


def test_frames_that_wait_for_an_associator_that_is_away_take_no_credit_and_say_so():
    intake = Intake(1, 1 << 20, by_visit)
    intake.closed = frozenset(["odd"])
    assert [take(intake, b"a", visit).error for visit in (1, 3, 2)] == ["AssociatorAway", "AssociatorAway", None]
    with pytest.raises(NoCredit, match="at most 1"):
        take(intake, b"a", 4)
    assert intake.report()["free"] == 0
    intake.closed = frozenset()
    finish(intake, 1)
    assert intake.report()["free"] == 0  # two are in hand where one may be
    with pytest.raises(NoCredit, match="at most 1"):
        take(intake, b"a", 4)


def test_frames_whose_associator_is_away_get_half_of_the_room():
    intake = Intake(9, 5 * SIZE, by_visit)
    intake.closed = frozenset(["odd"])
    take(intake, b"a", 1)
    take(intake, b"a", 3)
    with pytest.raises(NoCredit, match="associator is away"):
        take(intake, b"a", 5)
    assert take(intake, b"b", 2).status == "accepted"


def test_what_was_let_in_before_its_associator_went_away_makes_room_again():
    intake = Intake(9, 5 * SIZE, by_visit)
    for visit in (1, 3, 5, 7):
        take(intake, b"a", visit)
    assert list(intake.crowd()) == []
    intake.closed = frozenset(["odd"])
    crowd = list(intake.crowd())
    assert [held.frame.visit for held, _ in crowd] == [5, 7]
    assert {error.name for _, error in crowd} == {"NoCredit"}
    assert list(intake.crowd()) == []


def test_an_associator_that_is_behind_gets_one_frame_at_a_time_and_the_others_all():
    intake = Intake(9, 1 << 20, by_visit)
    intake.narrow = frozenset(["even"])
    assert take(intake, b"a", 2).status == "accepted"
    with pytest.raises(NoCredit, match="behind"):
        take(intake, b"a", 4)
    assert [take(intake, b"a", visit).status for visit in (1, 3)] == ["accepted"] * 2
    finish(intake, 2)
    assert take(intake, b"a", 4).status == "accepted"
