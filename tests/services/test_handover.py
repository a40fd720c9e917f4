"""gpudiff.services.handover: detections on their way to the associator."""

import dataclasses
import threading

import msgspec
import pytest
from batches import WCS, a_batch
from serving import TIMEOUT_S, SmallAssociator, a_frame, until

from gpudiff.edges import wire
from gpudiff.edges.detections import Answer, encode_answer
from gpudiff.edges.transport import Router, ServerKeys, new_pair, wait
from gpudiff.edges.wire_header import decode_header
from gpudiff.model.errors import AssociatorAway, BadMessage, StoreFailed, TryAgain, WrongShape
from gpudiff.model.regions import Region, Regions
from gpudiff.services.handover import Handover, error_named, route


@pytest.fixture
def associator():
    associator = SmallAssociator()
    yield associator
    associator.close()


@pytest.fixture
def handover(associator):
    handover = Handover(associator.endpoint, silence_s=0.2)
    yield handover
    handover.close()


def test_a_batch_is_committed_once(handover, associator):
    assert handover.commit(a_batch(2)).status == "committed"
    assert handover.commit(a_batch(2)).status == "duplicate"
    assert len(associator.batches) == 1


def test_an_empty_batch_is_sent_too(handover, associator):
    assert handover.commit(a_batch(0)).status == "committed"


def test_a_batch_without_an_answer_is_sent_again(handover, associator):
    silent = iter([None, None])
    associator.answer = lambda batch: next(silent, associator.commit(batch))
    assert handover.commit(a_batch(2)).status in ("committed", "duplicate")
    assert associator.received >= 3


def test_answers_to_other_frames_are_passed_over(handover, associator):
    def answer(batch):
        if associator.received == 1:
            return Answer([99, 0, 4], "committed", alerts=99)
        return associator.commit(batch)

    associator.answer = answer
    assert handover.commit(a_batch(2)).alerts == 2


def test_a_second_answer_is_not_taken_for_that_to_what_is_asked_next():
    router = Router("tcp://127.0.0.1:*")
    handover = Handover(router.endpoint, silence_s=0.1)
    alerts: list[int] = []

    def received() -> bytes:
        until(lambda: wait([router], 0.1))
        return router.receive().sender

    def answer(sender: bytes, number: int) -> None:
        router.send(sender, encode_answer(Answer([7, 0, 4], "committed", alerts=number)))

    def ask() -> threading.Thread:
        thread = threading.Thread(target=lambda: alerts.append(handover.commit(a_batch(1)).alerts))
        thread.start()
        return thread

    asking = ask()
    first, second = received(), received()
    handover.silence_s = TIMEOUT_S
    answer(first, 1)
    asking.join()
    while router.receive():
        pass  # the third time, on a machine that is slow
    asking = ask()
    third = received()
    answer(second, 2)
    answer(third, 3)
    asking.join()
    assert alerts == [1, 3]
    handover.close()
    router.close()


@pytest.mark.parametrize("error", [StoreFailed, BadMessage])
def test_a_failure_is_raised_by_its_name(error, handover, associator):
    associator.answer = lambda batch: Answer([7, 0, 4], "failed", error=error.__name__, reason="because")
    with pytest.raises(error, match="because"):
        handover.commit(a_batch(2))


def test_errors_are_found_by_name_and_unknown_ones_are_tried_again():
    assert error_named("WrongShape") is WrongShape
    assert error_named("ZeroDivisionError") is TryAgain
    assert error_named("__doc__") is TryAgain


def test_an_associator_that_does_not_let_us_in_is_named(capfd):
    public, secret = new_pair()
    router = Router("tcp://127.0.0.1:*", keys=ServerKeys(public, secret, lambda key: False))
    handover = Handover(router.endpoint)
    until(lambda: handover._dealer.receive(0.1) or handover._dealer.refused)
    handover._complain()
    assert "not let in (no key)" in capfd.readouterr().err
    handover.close()
    router.close()


def test_one_of_several_associators_that_is_gone_or_hangs_is_given_up():
    router = Router("tcp://127.0.0.1:*")
    hanging = Handover(router.endpoint, hangs_s=0.5)
    with pytest.raises(AssociatorAway, match="none for"):
        hanging.commit(a_batch(1))
    hanging.close()
    router.close()
    gone = Handover(router.endpoint, away_s=0.5)
    with pytest.raises(AssociatorAway, match="none for"):
        gone.commit(a_batch(1))
    gone.close()


HALVES = Regions((Region("east", (0, 180)), Region("west", (180, 360))))


def header(**said):
    """The header of a frame at ra 150 by its WCS."""
    observation = dataclasses.replace(a_frame(7).observation, **said)
    return decode_header(wire.encode(dataclasses.replace(a_frame(7), observation=observation))[1])


def test_a_frame_belongs_to_the_associator_of_its_visits_boresight():
    assert route(HALVES, header(boresight_ra=181.0, boresight_dec=0.0)) == "west"
    assert route(HALVES, header(boresight_ra=179.0, boresight_dec=0.0)) == "east"


def test_a_frame_without_boresight_belongs_to_the_associator_of_its_middle():
    split = Regions((Region("west", (0, WCS["CRVAL1"])), Region("east", (WCS["CRVAL1"], 360))))
    for column, side in (
        (-40.0, "west"),
        (40.0, "east"),
    ):  # where the WCS has the border; right ascension falls with x
        assert route(split, msgspec.structs.replace(header(), wcs={**WCS, "CRPIX1": column})) == side


@pytest.mark.parametrize("wcs", [None, {}, {"CTYPE1": "RA---TAN", "CRVAL1": "zero"}])
def test_a_frame_without_a_place_belongs_to_the_first(wcs):
    assert route(HALVES, msgspec.structs.replace(header(), wcs=wcs)) == "east"
