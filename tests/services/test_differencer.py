"""gpudiff.services.differencer: whole services on local sockets, with a quick stand-in for the subtraction."""

import os
import signal
import threading
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, bound, serving, settings_in, until

from gpudiff.edges import wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.detections import Answer
from gpudiff.model.config import override
from gpudiff.model.errors import BadConfiguration, MustStop, NoTemplate, StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import SUBTRACT, Settings


# ------------------------------------------------------------------ the good way
def test_a_frame_is_done_when_its_detections_are_committed(client, associator):
    receipt = client.send(a_frame(100))
    assert (receipt.status, receipt.sources, receipt.alerts) == ("done", 2, 2)
    assert FrameId(100, 0, 4) in associator.batches


def test_the_batch_holds_cutouts_of_difference_science_and_template(client, associator):
    frame = a_frame(101)
    client.send(frame)
    difference, science, template = associator.batches[FrameId(101, 0, 4)].cutouts[0]
    np.testing.assert_array_equal(science, frame.image[7:12, 6:11])
    np.testing.assert_array_equal(difference, science - template)


def test_the_batch_holds_variance_and_mask_of_the_difference(client, associator):
    client.send(a_frame(901))
    batch = associator.batches[FrameId(901, 0, 4)]
    assert np.all(batch.variance == 2)
    assert not batch.mask.any()


def test_science_and_template_have_planes_where_the_configuration_says_so(tmp_path, associator):
    with serving(tmp_path, associator, cutout_planes="all") as served, FrameClient(served.endpoint) as client:
        client.send(a_frame(902))
    own = associator.batches[FrameId(902, 0, 4)].own
    assert own.variance.shape == (2, 2, 5, 5)
    assert np.isfinite(own.variance).all()


def test_the_receipt_carries_the_fingerprint_and_the_latency(client, associator):
    receipt = client.send(a_frame(102))
    assert receipt.fingerprint == associator.batches[FrameId(102, 0, 4)].fingerprint
    assert 0 < receipt.latency_s < TIMEOUT_S


def test_a_frame_sent_twice_is_a_duplicate_and_is_computed_once(client, associator):
    client.send(a_frame(103))
    received = associator.received
    receipt = client.send(a_frame(103))
    assert (receipt.status, receipt.alerts, associator.received) == ("duplicate", 2, received)


def test_many_frames_each_get_their_receipt(client):
    receipts = list(client.send_many(a_frame(visit) for visit in range(110, 130)))
    assert sorted(receipt.visit for receipt in receipts) == list(range(110, 130))
    assert {receipt.status for receipt in receipts} == {"done"}


# ------------------------------------------------------------------ crashes, restarts
def test_a_worker_killed_in_the_middle_of_a_frame_loses_nothing(client, service, tmp_path):
    restarts = service.status()["worker_restarts"]
    frames = [a_frame(visit, unit=f"die-once:{tmp_path}/{visit}") for visit in (320, 321)]
    assert {receipt.status for receipt in client.send_many(frames)} == {"done"}
    until(lambda: service.status()["worker_restarts"] == restarts + 2)


def test_a_worker_killed_from_outside_loses_nothing(client, service, tmp_path):
    receipts: list[Receipt] = []
    frame = a_frame(322, unit=f"hold:{tmp_path}/gate")
    thread = threading.Thread(target=lambda: receipts.append(client.send(frame)), daemon=True)
    thread.start()
    until(lambda: service.status()["in_flight"] == 1 and service.status()["queued"] == 0)
    (worker,) = service.status()["workers"]
    os.kill(worker, signal.SIGKILL)
    until(lambda: service.status()["workers"] != [worker])
    (tmp_path / "gate").touch()
    thread.join(TIMEOUT_S)
    assert receipts[0].status == "done"


def test_a_worker_whose_device_failed_ends_and_another_takes_its_frame(client, service, tmp_path):
    restarts = service.status()["worker_restarts"]
    assert client.send(a_frame(325, unit=f"device:{tmp_path}/failed")).status == "done"
    assert service.status()["worker_restarts"] == restarts + 1


@pytest.mark.skipif(find_spec("cupy") is not None, reason="there may be a GPU")
def test_without_the_device_that_was_asked_for_no_worker_takes_a_frame_and_the_service_stops(tmp_path, associator):
    settings = settings_in(tmp_path, associator.endpoint)
    configuration = override(settings.configuration, "match", device="cuda")
    served = Served(replace(settings, configuration=configuration))
    assert served.joined()
    assert isinstance(served.error, MustStop)
    assert "3 died while starting, status 3" in str(served.error)


def test_a_frame_that_kills_every_worker_is_rejected_the_third_time(client, service):
    receipt = client.send(a_frame(323, unit="die"))
    assert (receipt.status, receipt.error) == ("rejected", "NeighbourLost")
    assert "exit status -9" in receipt.reason
    assert client.send(a_frame(324)).status == "done"


def test_a_client_lives_through_a_restart_of_the_service(tmp_path, associator):
    receipts: list[Receipt] = []
    with serving(tmp_path, associator) as first, FrameClient(first.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(400)).status == "done"
        first.stop()
        frames = [a_frame(visit) for visit in (400, 401, 402)]
        thread = threading.Thread(target=lambda: receipts.extend(client.send_many(frames)), daemon=True)
        thread.start()
        second = Served(first.settings.__class__(**{**vars(first.settings), "frames": first.endpoint}))
        thread.join(TIMEOUT_S)
        second.stop()
    assert sorted((receipt.visit, receipt.status) for receipt in receipts) == [
        (400, "duplicate"),
        (401, "done"),
        (402, "done"),
    ]


def test_stopping_finishes_the_frames_in_hand(tmp_path, associator):
    with serving(tmp_path, associator) as served:
        raw = Raw(served.endpoint)
        raw.dealer.send(wire.encode(a_frame(410, unit=f"hold:{tmp_path}/gate")))
        until(lambda: served.status()["in_flight"] == 1)
        served.differencer.stop()
        (tmp_path / "gate").touch()
        assert raw.receipt().status == "done"
        assert served.joined()
        assert served.status()["state"] == "stopped"
        raw.dealer.close()


def test_a_frame_that_cannot_be_finished_is_handed_back_when_the_service_stops(tmp_path):
    associator = SmallAssociator()
    associator.answer = lambda batch: None
    with serving(tmp_path, associator, lease_s=1.0) as served:
        raw = Raw(served.endpoint)
        raw.dealer.send(wire.encode(a_frame(415)))
        until(lambda: associator.received)
        served.differencer.stop()
        receipt = raw.receipt()
        assert (receipt.status, receipt.error, receipt.retry) == ("failed", "NeighbourLost", True)
        assert served.joined()
        raw.dealer.close()
    associator.close()


def test_an_associator_that_is_away_is_waited_for(tmp_path):
    first = SmallAssociator()
    first.answer = lambda batch: None
    with serving(tmp_path, first) as served:
        raw = Raw(served.endpoint)
        raw.dealer.send(wire.encode(a_frame(420)))
        until(lambda: first.received)
        first.close()
        second = bound(lambda: SmallAssociator(first.endpoint))
        assert raw.receipt().status == "done"
        raw.dealer.close()
        second.close()


def test_a_store_that_failed_stops_the_service_and_hands_the_frames_back(tmp_path):
    associator = SmallAssociator()
    associator.answer = lambda batch: Answer([430, 0, 4], "failed", error="StoreFailed", reason="disk full")
    with serving(tmp_path, associator) as served:
        raw = Raw(served.endpoint)
        receipt = raw.ask(wire.encode(a_frame(430)))
        assert (receipt.status, receipt.error, receipt.retry) == ("failed", "StoreFailed", True)
        assert served.joined()
        assert isinstance(served.error, StoreFailed)
        raw.dealer.close()
    associator.close()


def test_ready_is_said_once_when_every_worker_is(tmp_path, associator):
    settings = settings_in(tmp_path, associator.endpoint, workers=2)
    served, ready = Differencer(replace(settings, process=SUBTRACT)), []
    thread = threading.Thread(target=served.run, args=[lambda endpoint: ready.append((endpoint, states()))])

    def states() -> list[bool]:
        return [one.ready for one in served.pool.workers]

    thread.start()
    until(lambda: ready)
    served.stop()
    thread.join(TIMEOUT_S)
    assert ready == [(served.endpoint, [True, True])]


def test_workers_end_with_the_service_and_leave_nothing(tmp_path, associator):
    with serving(tmp_path, associator) as served:
        until(lambda: served.status()["workers"])
        (worker,) = served.status()["workers"]
    assert not os.path.exists(f"/proc/{worker}")
    assert list(tmp_path.glob("*.ipc")) == []


def test_the_command_line_of_a_worker_shows_no_password(tmp_path, associator):
    with serving(tmp_path, associator, sinks=["kafka://host:9092/secret"]) as service:
        (pid,) = service.status()["workers"]
        assert b"secret" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_directory_that_another_differencer_has_is_refused(service):
    with pytest.raises(StoreFailed, match="expected no other differencer"):
        Differencer(service.settings)


@pytest.mark.parametrize(("section", "key"), [("service", "calibrations"), ("reliability", "model")])
def test_what_workers_are_to_read_and_is_absent_is_refused_at_the_start(tmp_path, section, key):
    settings = settings_in(tmp_path, "tcp://127.0.0.1:9")
    named = override(settings.configuration, section, **{key: str(tmp_path / "absent")})
    with pytest.raises(BadConfiguration, match="absent"):
        Differencer(replace(settings, configuration=named))


def test_a_template_folder_that_is_absent_is_refused(tmp_path):
    with pytest.raises(NoTemplate):
        Differencer(Settings(tmp_path, tmp_path / "absent", "tcp://127.0.0.1:*", "tcp://127.0.0.1:9"))
