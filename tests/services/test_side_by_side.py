"""A worker on a GPU, a stand-in for CuPy here, has several frames at a time."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from serving import Served, SmallAssociator, a_frame, settings_in, until

from gpudiff.edges import wire
from gpudiff.model.config import override

TESTS = Path(__file__).parents[1]
CUPY = f"""import sys
sys.path.append({str(TESTS / "cuda_on_cpu")!r})
from fake_cupy import fake_cupy
sys.modules["cupy"] = fake_cupy()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service with one worker, on a GPU."""
    folder, associator = tmp_path_factory.mktemp("service"), SmallAssociator()
    (folder / "cupy.py").write_text(CUPY)
    settings = settings_in(folder, associator.endpoint)
    configuration = override(settings.configuration, "match", device="cuda", gpu_frames=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, [TESTS, TESTS.parent, folder])))
        service = Served(replace(settings, configuration=configuration))
        yield service
        service.stop()
    associator.close()


def at_work(service, frames, queued):
    """Wait until so many frames are at work, and so many wait."""
    until(lambda: [service.status()[name] for name in ("in_flight", "queued")] == [frames + queued, queued])


def sent(raw, visit, unit):
    raw.dealer.send(wire.encode(a_frame(visit, unit=unit)))


def receipts(raw, count):
    return sorted((one.visit, one.status) for one in (raw.receipt() for _ in range(count)))


def test_a_worker_has_as_many_frames_as_it_may_and_no_more(service, raw, tmp_path):
    for visit in (1, 2, 3):
        sent(raw, visit, f"hold:{tmp_path}/gate")
    at_work(service, frames=2, queued=1)
    assert len(service.status()["workers"]) == 1
    (tmp_path / "gate").touch()
    assert receipts(raw, 3) == [(1, "done"), (2, "done"), (3, "done")]


def test_when_the_device_fails_all_frames_are_taken_over_each_alone(service, raw, tmp_path):
    sent(raw, 4, f"hold:{tmp_path}/gate")
    at_work(service, frames=1, queued=0)
    sent(raw, 5, f"device:{tmp_path}/failed")
    until(lambda: service.status()["worker_restarts"] == 1)
    sent(raw, 6, "adu")
    at_work(service, frames=1, queued=1)  # the other place is free
    (tmp_path / "gate").touch()
    said = [raw.receipt() for _ in range(3)]
    assert {one.status for one in said} == {"done"}
    assert said[-1].visit == 6


@pytest.mark.soak
def test_a_frame_that_kills_every_worker_takes_no_other_along(service, raw, tmp_path):
    restarts = service.status()["worker_restarts"]
    sent(raw, 7, f"hold:{tmp_path}/gate")
    at_work(service, frames=1, queued=0)
    sent(raw, 8, "die")
    until(lambda: service.status()["worker_restarts"] > restarts)
    (tmp_path / "gate").touch()
    sent(raw, 9, "adu")
    assert receipts(raw, 3) == [(7, "done"), (8, "rejected"), (9, "done")]


def test_where_memory_is_short_status_says_that_fewer_frames_are_at_work_at_a_time(service, raw, tmp_path):
    until(lambda: service.status()["at_a_time"] == 2)
    sent(raw, 10, f"full:{tmp_path}/full")
    assert receipts(raw, 1) == [(10, "done")]
    until(lambda: service.status()["at_a_time"] == 1)


def test_the_worker_ends_with_the_service_and_leaves_nothing(service):
    (worker,) = service.status()["workers"]
    service.stop()
    assert not os.path.exists(f"/proc/{worker}")
    assert list(service.settings.directory.glob("*.ipc")) == []
