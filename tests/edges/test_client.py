"""gpudiff.edges.client: FrameClient against a service that says exactly what the test wants."""

import math
import threading
import time

import pytest
from serving import TIMEOUT_S, a_frame, until

from gpudiff.edges import control, wire_header
from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.transport import Router, wait
from gpudiff.model.errors import NeighbourLost, NoCredit


class Script:
    """A service whose answer to each frame is `answers(identity)`: (status, extras) pairs."""

    def __init__(self, answers, credit=2, lease_s=60.0, max_frame_bytes=1 << 20):
        self.answers, self.ready = answers, (credit, lease_s, max_frame_bytes)
        self.router = Router("tcp://127.0.0.1:*")
        self.endpoint = self.router.endpoint
        self.seen: list[tuple[int, int]] = []

        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            if wait([self.router], 0.05) and (message := self.router.receive()):
                if bytes(message.parts[0]) == control.CONTROL:
                    self.router.send(message.sender, control.ready(*self.ready))
                else:
                    self._frame(message)

    def _frame(self, message):
        who = wire_header.identity(message.parts)
        self.seen.append((who.visit, who.attempt))
        for status, extras in self.answers(who):
            receipt = Receipt(who.visit, who.snap, who.detector, who.attempt, status, **extras)
            self.router.send(message.sender, control.receipt(receipt))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(TIMEOUT_S)
        self.router.close()


DONE = [("accepted", {}), ("done", {"sources": 2, "alerts": 1, "fingerprint": "ab"})]


def test_the_final_receipt_comes_back():
    with Script(lambda who: DONE) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        receipt = client.send(a_frame(5))
    assert (receipt.visit, receipt.status, receipt.sources, receipt.alerts) == (5, "done", 2, 1)


def test_every_frame_of_many_gets_its_receipt():
    with Script(lambda who: DONE) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        receipts = list(client.send_many(a_frame(visit) for visit in range(20)))
    assert sorted(receipt.visit for receipt in receipts) == list(range(20))


def test_a_frame_is_taken_only_when_it_can_be_sent():
    taken = []

    def frames():
        for visit in range(6):
            taken.append(visit)
            yield a_frame(visit)

    held = threading.Event()
    with Script(lambda who: DONE if held.wait(TIMEOUT_S) else [], credit=2) as script:
        client = FrameClient(script.endpoint, timeout_s=TIMEOUT_S)
        thread = threading.Thread(target=lambda: list(client.send_many(frames())), daemon=True)
        thread.start()
        until(lambda: script.seen)
        assert taken == [0, 1]
        held.set()
        thread.join(TIMEOUT_S)
        client.close()
    assert len(taken) == 6


def test_a_failed_frame_is_sent_again_with_the_next_attempt():
    def answers(who):
        return DONE if who.attempt == 3 else [("failed", {"error": "ChecksumMismatch", "retry": True})]

    with Script(answers) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(5)).status == "done"
    assert script.seen == [(5, 1), (5, 2), (5, 3)]


def test_the_third_failure_is_the_last():
    answer = [("failed", {"error": "ChecksumMismatch", "retry": True})]
    with Script(lambda who: answer) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(5)).status == "failed"
    assert script.seen == [(5, 1), (5, 2), (5, 3)]


def test_a_frame_that_was_lost_on_the_way_three_times_has_not_failed_yet():
    def answers(who):
        failed = [("failed", {"error": "StoreFailed", "retry": True})]
        return [] if who.attempt <= 3 else failed if who.attempt == 4 else DONE

    with Script(answers, lease_s=0.2) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(5)).status == "done"
    assert script.seen == [(5, attempt) for attempt in range(1, 6)]


def test_want_of_credit_is_no_attempt():
    refusals = iter(range(2))

    def answers(who):
        more = next(refusals, None) is not None
        return [("failed", {"error": "NoCredit", "retry": True})] if more else DONE

    with Script(answers) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(5)).status == "done"
    assert script.seen == [(5, 1)] * 3


def test_a_frame_nothing_is_heard_of_is_sent_again_after_the_lease():
    def answers(who):
        return DONE if who.attempt == 2 else []

    with Script(answers, lease_s=0.2) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(5)).status == "done"
    assert script.seen == [(5, 1), (5, 2)]


def test_a_service_that_never_answers_is_a_lost_neighbour():
    start = time.monotonic()
    with FrameClient("tcp://127.0.0.1:9", timeout_s=0.3) as client, pytest.raises(NeighbourLost, match=r"0\.3 s"):
        client.send(a_frame(5))
    assert time.monotonic() - start < TIMEOUT_S


def test_a_service_may_be_waited_for_for_ever():
    with Script(lambda who: [("done", {})]) as script, FrameClient(script.endpoint, timeout_s=math.inf) as client:
        assert client.send(a_frame(5)).status == "done"


def test_a_service_that_dies_for_good_is_noticed_by_its_endpoint():
    with Script(lambda who: [("accepted", {})]) as script:
        client = FrameClient(script.endpoint, timeout_s=1.0)
        stopped = threading.Thread(target=lambda: (until(lambda: script.seen), script.__exit__()), daemon=True)
        stopped.start()
        start = time.monotonic()
        with pytest.raises(NeighbourLost, match=f"{script.endpoint}.* heard nothing; 2 frames have no final"):
            list(client.send_many([a_frame(5), a_frame(6)]))
    assert time.monotonic() - start < TIMEOUT_S
    client.close()


def test_frames_that_come_seldom_are_not_taken_for_a_silent_service():
    def frames():
        for visit in range(2):
            if visit:
                time.sleep(0.7)  # longer than timeout_s: a camera between two exposures
            yield a_frame(visit)

    with Script(lambda who: DONE) as script, FrameClient(script.endpoint, timeout_s=0.5) as client:
        assert len(list(client.send_many(frames()))) == 2


def test_receipts_come_out_between_frames_that_come_seldom():
    came, before_the_last = [], []

    def frames():
        for visit in range(20):
            until(lambda visit=visit: len(script.seen) == visit)
            before_the_last[:] = came
            yield a_frame(visit)

    with (
        Script(lambda who: DONE, credit=100) as script,
        FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client,
    ):
        for receipt in client.send_many(frames()):
            came.append(receipt.visit)
    assert len(before_the_last) > 0


def test_receipts_that_wait_unread_keep_a_frame_from_being_sent_again():
    def frames():
        yield a_frame(0)
        time.sleep(0.7)  # longer than the lease
        yield a_frame(1)

    script = Script(lambda who: DONE, lease_s=0.5)
    with script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        list(client.send_many(frames()))
    assert script.seen == [(0, 1), (1, 1)]


def test_a_frame_larger_than_the_service_takes_is_not_sent():
    script = Script(lambda who: DONE, max_frame_bytes=100)
    with script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        receipt = client.send(a_frame(5))
    assert (receipt.status, receipt.error, script.seen) == ("rejected", "BadMessage", [])


def test_two_frames_of_one_name_are_sent_one_after_the_other():
    with Script(lambda who: DONE) as script, FrameClient(script.endpoint, timeout_s=TIMEOUT_S) as client:
        receipts = list(client.send_many([a_frame(5), a_frame(5)]))
    assert len(receipts) == 2


def test_nothing_to_send_needs_no_service():
    with FrameClient("tcp://127.0.0.1:9", timeout_s=TIMEOUT_S) as client:
        assert list(client.send_many([])) == []


def test_a_service_without_room_for_too_long_is_named():
    busy = [("failed", {"error": "NoCredit", "retry": True})]
    with (
        Script(lambda who: busy) as script,
        FrameClient(script.endpoint, timeout_s=TIMEOUT_S, patience_s=0.5) as client,
        pytest.raises(NoCredit, match=r"within 0\.5 s, 1 wait"),
    ):
        client.send(a_frame(5))
    assert len(script.seen) > 1


def test_gpudiff_offers_the_client_by_its_name():
    import gpudiff

    assert gpudiff.FrameClient is FrameClient
