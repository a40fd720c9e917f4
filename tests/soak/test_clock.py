"""The wall clock of all programs jumps in the middle of visits: every id is that of an undisturbed run."""

import json
from pathlib import Path

import numpy as np
import pytest
from killing import CLOSING, Camera, Service
from serving import until
from wall_clock import WallClock

from gpudiff.edges.ledger_reader import LedgerReader


@pytest.fixture
def clock(tmp_path, monkeypatch):
    """Of the programs that the test starts from now on; its own, and its camera's, stays right."""
    made = WallClock(tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


def closed(service: Service) -> set[int]:
    """The visits whose books are closed."""
    path = service.directory / "visits.jsonl"
    return {json.loads(line)["visit"] for line in path.read_text().splitlines()} if path.exists() else set()


def night(directory: Path, clock: WallClock, jumps: list[float]) -> list[float]:
    """Frames come while the clock jumps, so many hours from the right time each; then check.

    Returns the times, MJD TAI, of the ledger's transitions in the order in which they were written.
    """
    service, camera = Service(directory, CLOSING), None
    try:
        camera = Camera(service.endpoint, seed=1)
        for hours in jumps:
            camera.wait_for(2, 0.02)
            clock.jump(hours)
        camera.wait_for(2, 0.0)
        camera.finish()
        until(
            lambda: closed(service) == {frame.visit for frame in camera.sent}
        )  # in seconds, whatever the clock says
        said = json.loads((directory / "status.json").read_text())
        service.check(camera.sent)
    finally:
        service.end()
        if camera is not None:
            camera.give_up()
    assert (said["worker_restarts"], said["failed"], said["dead_letters"]) == (0, 0, 0)
    ledger = LedgerReader(directory / "ledger.sqlite")
    times = [row["at_tai"] for frame in camera.sent for row in ledger.transitions(frame.visit)]
    ledger.close()
    return times


def test_a_wall_clock_that_jumps_by_hours_changes_no_id_and_holds_up_nothing(tmp_path, clock):
    times = night(tmp_path / "night", clock, [5.0, -11.0, 72.0])
    assert max(times) - min(times) > 3  # days: the programs did go by it


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_a_wall_clock_that_jumps_all_the_time_changes_no_id(tmp_path, clock, seed):
    rng = np.random.default_rng(seed)
    jumps = [float(rng.choice([-1, 1]) * 10 ** rng.uniform(-3, 4)) for _ in range(100)]
    night(tmp_path / "night", clock, jumps)
