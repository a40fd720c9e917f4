"""What a differencer tells its associator beside detections."""

import math
import time

from serving import bound

from gpudiff.edges.detections import Answer, decode_control, encode_answer
from gpudiff.edges.transport import Router, wait
from gpudiff.model.frame import FrameId
from gpudiff.model.next_visit import NextVisit
from gpudiff.services.herald import Herald


def told(say):
    """The control messages that `say(herald)` sends, in order."""
    router = Router("tcp://127.0.0.1:*")
    herald = Herald(router.endpoint)
    try:
        say(herald)
        herald.failed(FrameId(0, 0, 0), "the last")
        heard = []
        while not heard or heard[-1].get("reason") != "the last":
            assert wait([router], 10.0)
            message = router.receive()
            heard.append(decode_control(message.parts))
            router.send(message.sender, encode_answer(Answer(None, "done")))
        herald.listen()
        return heard[:-1]
    finally:
        herald.close()
        router.close()


def a_visit(**more):
    return NextVisit(**{"visit": 7, "revision": 1, "horizon": "next", "ra": 150.0, "dec": 2.0, **more})


def test_the_next_visit_is_announced_with_its_place_and_the_end_of_its_readout():
    [said] = told(lambda one: one.visit(a_visit(detectors=(3, 4), start_tai=61000.0, duration_s=34.0, images=2)))
    assert (said["say"], said["visit"], said["detectors"], said["snaps"]) == ("announce", 7, [3, 4], 2)
    assert math.isclose(said["readout_end_tai"], 61000 + 34 / 86400)
    assert (said["ra"], said["dec"]) == (150.0, 2.0)


def test_a_visit_without_times_is_announced_without_an_end():
    [said] = told(lambda one: one.visit(a_visit()))
    assert "readout_end_tai" not in said


def test_tonights_later_visits_expect_no_detectors_yet():
    assert told(lambda one: one.visit(a_visit(horizon="night"))) == []


def test_what_is_cancelled_or_superseded_is_told_by_its_state():
    said = told(lambda one: one.visit(a_visit(cancelled=True, supersedes=(5, 6))))
    assert [(one["visit"], one["state"]) for one in said] == [
        (5, "SUPERSEDED"),
        (6, "SUPERSEDED"),
        (7, "CANCELLED"),
    ]


def test_a_frame_given_up_is_told_by_name():
    [said] = told(lambda one: one.failed(FrameId(7, 0, 3), "NoStars: none"))
    assert said == {"say": "failed", "visit": 7, "snap": 0, "detector": 3, "reason": "NoStars: none"}


def test_an_associator_that_comes_and_goes_is_told_again():
    first = Router("tcp://127.0.0.1:*")
    herald, endpoint = Herald(first.endpoint), first.endpoint
    herald.failed(FrameId(1, 0, 0), "")
    assert wait([first], 10.0)
    first.close()
    second = bound(lambda: Router(endpoint))
    heard = 0
    last = time.monotonic() + 10
    while not heard and time.monotonic() < last:
        herald.failed(FrameId(2, 0, 0), "")
        heard = len(wait([second], 0.1))
        herald.listen()
    assert heard
    assert not herald._dealer.came_back()  # listen has taken note
    herald.close()
    second.close()
