"""gpudiff.services.load: steps in order, each counted, all off when nothing waits; the differencer follows."""

import fastavro
import msgspec
import numpy as np
import pytest
from batches import a_batch
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, a_known_object, serving, until

from gpudiff.edges import wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.detections import Answer, decode_answer, encode, encode_control
from gpudiff.edges.sinks.memory import Memory
from gpudiff.edges.transport import Dealer, Router, wait
from gpudiff.model.config import Configuration
from gpudiff.services import log
from gpudiff.services.associator import Associator
from gpudiff.services.associator_loop import step
from gpudiff.services.associator_metrics import AssociatorMetrics
from gpudiff.services.load import STEPS, Level, Load
from gpudiff.services.metrics import Metrics


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def levels(*waits: tuple[float, bool]) -> tuple[list[int], Load]:
    """The level after each (time, whether more waits)."""
    clock = Clock()
    load, made = Load(clock, patience_s=2.0), []
    for clock.seconds, waiting in waits:
        load.note(waiting)
        made.append(load.level)
    return made, load


def test_steps_begin_in_order_while_batches_wait():
    assert levels((1, True), (3, True), (5, True), (9, True), (17, True))[0] == [0, 1, 2, 3, 4]


def test_all_steps_end_when_nothing_waits():
    assert levels((9, True), (10, False), (11, True))[0] == [3, 0, 0]


def test_each_step_is_counted_when_it_begins():
    load = levels((5, True), (6, False), (9, True))[1]
    assert load.report() == {"level": 1, "left_out": [STEPS[0]], "times": {STEPS[0]: 2, STEPS[1]: 1}}


def test_flagged_alerts_leave_out_their_cutouts_and_the_others_do_not(tmp_path):
    associator = Associator(tmp_path, Configuration(), clock=lambda: 61030.0)
    associator.load.level = 3
    associator.take(a_batch(2, flagged=np.array([True, False])))
    with open(tmp_path / "alerts" / "7.avro", "rb") as file:
        cutouts = [alert["cutoutScience"] for alert in fastavro.reader(file)]
    assert [cutouts[0] is None, cutouts[1] is None] == [True, False]
    assert associator.counts["alerts without cutouts"] == 1
    associator.close()


def test_a_change_is_noted_once():
    clock = Clock()
    load = Load(clock, patience_s=2.0)
    clock.seconds = 3.0
    assert [load.note(True), load.note(True), load.note(False), load.note(False)] == [True, False, True, False]


def test_what_is_left_out_is_logged(tmp_path, capsys):
    log.start("associator", "text")
    clock = Clock()
    associator = Associator(tmp_path, Configuration(), monotonic=clock)
    clock.seconds = 3.0
    associator.burdened(True)
    associator.close()
    assert capsys.readouterr().err.endswith("info associator load steps=1\n")


def test_full_alerts_wait_at_the_second_step(tmp_path):
    clock, full = Clock(), Memory(tier="full")
    associator = Associator(tmp_path, Configuration(), sinks=[full], monotonic=clock)
    clock.seconds = 5.0
    associator.burdened(True)
    associator.take(a_batch(1))
    assert associator.publisher.followers[0].deferred
    associator.burdened(False)
    until(lambda: associator.tick() or not associator.ledger.pending())
    associator.close()


def test_each_answer_says_how_much_is_left_out(tmp_path):
    associator = Associator(tmp_path, Configuration(), clock=lambda: 61030.0)
    associator.load.level = 3
    router = Router("tcp://127.0.0.1:*")
    dealer = Dealer(router.endpoint)
    said = [encode(a_batch(1)), encode(a_batch(1)), encode_control("load"), [b"rubbish"]]
    for parts in said:
        dealer.send(parts)
    told = []
    while len(told) < len(said):
        assert wait([router, dealer], TIMEOUT_S)
        step(associator, router)
        while (message := dealer.receive(0.0)) is not None:
            answer = decode_answer(message)
            told.append((answer.status, answer.load))
        associator.load.level = 3
    assert sorted(told) == [("committed", 3), ("done", 3), ("duplicate", 3), ("failed", 3)]
    dealer.close()
    router.close()
    associator.close()


class Loaded(SmallAssociator):
    """Says with each answer, also to a control message, that so many steps are left out."""

    level = 0

    def commit(self, batch):
        return msgspec.structs.replace(super().commit(batch), load=self.level)

    def control(self, parts):
        return Answer(None, "done", load=self.level)


@pytest.fixture
def behind():
    associator = Loaded()
    associator.answer = associator.commit
    yield associator
    associator.close()


def send(served: Served, *visits: int) -> set[str]:
    """The statuses of a frame of each visit."""
    with FrameClient(served.endpoint, timeout_s=TIMEOUT_S) as client:
        return {receipt.status for receipt in client.send_many(a_frame(visit) for visit in visits)}


def test_the_differencer_defers_forced_photometry_from_the_first_step_until_it_ends(tmp_path, behind):
    behind.level = 1
    with serving(tmp_path, behind, forced_objects=a_known_object(tmp_path)) as served:
        assert send(served, 1) == {"done"}
        until(lambda: served.status()["load"] == {"level": 1, "left_out": [STEPS[0]], "times": {STEPS[0]: 1}})
        assert send(served, 2) == {"done"}
        until(lambda: served.status()["done"] == 2)
        assert served.status()["forced_deferred"] == 1  # of the second: nobody had said so before the first
        behind.level = 0
        until(lambda: served.status()["load"]["level"] == 0)  # nothing is sent: the differencer asks
        assert send(served, 3) == {"done"}
        until(lambda: served.status()["done"] == 3)
        assert served.status()["forced_deferred"] == 1
        until(lambda: served.status()["forced_made_up"] == 1)


def test_the_differencer_takes_one_frame_at_a_time_at_the_last_step_and_loses_none(tmp_path, behind):
    behind.level = 4
    with serving(tmp_path, behind) as served:
        assert send(served, 1) == {"done"}
        raw, gate = Raw(served.endpoint), tmp_path / "gate"
        raw.dealer.send(wire.encode(a_frame(2, unit=f"hold:{gate}")))
        until(lambda: served.status()["in_flight"] == 1)
        refused = raw.ask(wire.encode(a_frame(3)))
        assert (refused.status, refused.error, refused.retry) == ("failed", "NoCredit", True)
        assert "behind" in refused.reason
        gate.touch()
        assert raw.receipt().status == "done"
        raw.dealer.close()
        assert send(served, 3, 4, 5) == {"done"}
        assert len(behind.batches) == 5
        behind.level = 0
        until(lambda: served.status()["load"]["level"] == 0)
        assert not served.differencer.intake.narrow


def test_both_programs_count_the_steps_that_begin():
    for metrics, note in ((one := Metrics(""), one.load), (two := AssociatorMetrics(), two.loaded)):
        level = Level()
        for steps in (2, 0, 1):
            level.set(steps)
            note(level)
        value = metrics.registry.get_sample_value
        assert value("gpudiff_load_level") == 1
        assert [value("gpudiff_load_steps_total", {"step": step}) for step in STEPS] == [2, 1, 0, 0]
