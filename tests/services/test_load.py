"""gpudiff.services.load: steps in order, each counted, all off when nothing waits."""

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
