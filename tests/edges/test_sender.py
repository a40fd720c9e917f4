"""gpudiff.edges.sender: one contract for the client with a real service and for the double."""

import dataclasses

import numpy as np
import pytest
from serving import TIMEOUT_S, SmallAssociator, a_frame, serving

from gpudiff.edges.client import FrameClient
from gpudiff.edges.client_double import FrameClientDouble
from gpudiff.model.errors import BadMessage, NeighbourLost, NoCredit, NoStars
from gpudiff.model.frame import FrameId


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory):
    associator = SmallAssociator()
    with serving(tmp_path_factory.mktemp("sender"), associator) as served:
        yield served.endpoint
    associator.close()


@pytest.fixture(params=["client", "double"])
def sender(request, endpoint):
    double = FrameClientDouble(max_frame_bytes=1 << 20)
    made = double if request.param == "double" else FrameClient(endpoint, timeout_s=TIMEOUT_S)
    with made as sender:
        yield sender


def test_a_frame_is_done_and_the_same_again_is_a_duplicate(sender):
    first, again = sender.send(a_frame(1)), sender.send(a_frame(1))
    assert first.status in ("done", "duplicate")  # the service is shared by these tests
    assert (again.status, again.fingerprint) == ("duplicate", first.fingerprint)
    assert again.good
    assert again.final


def test_other_pixels_under_one_name_are_taken_too(sender):
    sender.send(a_frame(2))
    assert sender.send(a_frame(2, fill=3.0)).good


def test_what_the_contract_forbids_is_rejected_by_name(sender):
    receipt = sender.send(a_frame(3, psf=np.full((3, 3), np.inf, np.float32)))
    assert (receipt.status, receipt.error) == ("rejected", "BadPsf")
    assert receipt.reason


def test_a_frame_larger_than_is_taken_is_rejected(sender):
    frame = dataclasses.replace(a_frame(4), image=np.zeros((1024, 1024), np.float32))
    assert sender.send(frame).error == "BadMessage"


def test_a_visit_is_reported_as_a_whole(sender):
    report = sender.send_visit(a_frame(5, detector=number) for number in range(6))
    assert (report.visit, len(report.receipts), report.good) == (5, 6, True)
    assert {receipt.detector for receipt in report.receipts} == set(range(6))
    assert str(report).startswith("visit 5: 6 frames, 0 refused")


def test_a_visit_with_a_bad_frame_says_which(sender):
    frames = [a_frame(6, detector=0), a_frame(6, detector=1, unit="ü")]
    report = sender.send_visit(frames)
    assert [receipt.detector for receipt in report.refused] == [1]
    assert not report.good


def test_a_frame_of_another_visit_is_not_sent(sender):
    with pytest.raises(BadMessage, match="expected a frame of visit 7"):
        sender.send_visit([a_frame(7), a_frame(8)])


def test_an_empty_visit_is_none(sender):
    assert sender.send_visit([]).receipts == ()


def test_a_planned_rejection_comes_once():
    double = FrameClientDouble({FrameId(1, 0, 4): [NoStars("few")]})
    assert [double.send(a_frame(1)).status for _ in range(2)] == ["rejected", "done"]


def test_planned_failures_cost_attempts_and_the_third_is_the_last():
    double = FrameClientDouble({FrameId(visit, 0, 4): [NoCredit("full")] * (visit + 1) for visit in (1, 2)})
    first, second = double.send(a_frame(1)), double.send(a_frame(2))
    assert (first.status, first.attempt) == ("done", 3)
    assert (second.status, second.attempt, second.error) == ("failed", 3, "NoCredit")


def test_a_planned_silence_is_raised():
    double = FrameClientDouble({FrameId(1, 0, 4): [NeighbourLost("gone")]})
    with pytest.raises(NeighbourLost):
        double.send(a_frame(1))
    assert FrameId(1, 0, 4) not in double.sent
