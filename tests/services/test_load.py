"""gpudiff.services.load: steps in order, each counted, all off when nothing waits."""

import fastavro
import numpy as np
from batches import a_batch
from serving import until

from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator
from gpudiff.services.load import STEPS, Load


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def levels(*waits: tuple[float, bool]) -> tuple[list[int], Load]:
    """The level after each (time, whether more waits)."""
    clock = Clock()
    load, made = Load(clock), []
    for clock.seconds, waiting in waits:
        made.append(load.note(waiting))
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


def test_answers_say_how_much_is_to_be_left_out_and_full_alerts_wait(tmp_path):
    clock, full = Clock(), Memory(tier="full")
    associator = Associator(tmp_path, Configuration(), sinks=[full], monotonic=clock)
    clock.seconds = 5.0
    associator.burdened(True)
    assert associator.take(a_batch(1)).load == 2
    assert associator.publisher.followers[0].deferred
    associator.burdened(False)
    until(lambda: associator.tick() or not associator.ledger.pending())
    assert associator.take(a_batch(1, visit=8)).load == 0
    associator.close()
