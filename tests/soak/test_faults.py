"""Programs killed at random moments: ids in ledger and archive are those of an undisturbed run."""

import pytest
from killing import VICTIMS, Camera, Service, survive

STAGES = [("differencer", "accepted"), ("differencer", "done"), ("associator", "commit")]


def test_nothing_is_lost_or_doubled_when_programs_are_killed(tmp_path):
    night = survive(tmp_path / "night", seed=1, kills=4)
    assert set(night.camera.ends) <= {"done", "duplicate"}
    assert {"noted", "stale"} & set(night.observatory.answers)
    assert {"BadMessage", "ChecksumMismatch"} <= set(night.rogue.receipts)


@pytest.mark.soak
@pytest.mark.parametrize(("program", "event"), STAGES)
@pytest.mark.parametrize("victim", VICTIMS)
def test_nothing_is_lost_when_a_program_is_killed_at_a_stage_of_a_visit(tmp_path, program, event, victim):
    service = Service(tmp_path / "night")
    camera = Camera(service.endpoint, seed=1)
    try:
        for _ in range(3):
            service.wait_for(program, event)
            service.kill(victim)
        camera.wait_for(1, 0.0)
        camera.finish()
        service.check(camera.sent)
    finally:
        camera.give_up()
        service.end()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_nothing_is_lost_or_doubled_in_two_hundred_kills(tmp_path, seed):
    night = survive(tmp_path / "night", seed, kills=50)
    assert set(night.camera.ends) <= {"done", "duplicate"}
