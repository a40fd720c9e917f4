"""gpudiff.services.handover: detections on their way to the associator."""

import pytest
from batches import a_batch
from serving import SmallAssociator, until

from gpudiff.edges.detections import Answer
from gpudiff.edges.transport import Router, ServerKeys, new_pair
from gpudiff.model.errors import BadMessage, StoreFailed, TryAgain, WrongShape
from gpudiff.services.handover import Handover, error_named


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
