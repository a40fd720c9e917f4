"""gpudiff.services.differencer: whole services on local sockets, with a quick stand-in for the subtraction."""

import json
import os
import signal
import threading
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
from serving import TIMEOUT_S, Raw, Served, SmallAssociator, a_frame, bound, serving, settings_in, until

from gpudiff.edges import control, dead_letters, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.detections import Answer
from gpudiff.model.config import override
from gpudiff.model.errors import MustStop, NoTemplate, StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.services.differencer import Differencer
from gpudiff.services.settings import SUBTRACT, Settings


@pytest.fixture(scope="module")
def service(tmp_path_factory, associator):
    """One service that all the bad messages go to: it must go on."""
    with serving(tmp_path_factory.mktemp("service"), associator, lease_s=1.0) as served:
        yield served


@pytest.fixture
def client(service):
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        yield client


@pytest.fixture
def raw(service):
    raw = Raw(service.endpoint)
    yield raw
    raw.dealer.close()


def changed(visit: int, attempt: int = 1, plane: dict | None = None, **header) -> list:
    """A frame message with header keys, or its image's description, changed; `...` removes a key."""
    parts = wire.encode(a_frame(visit), attempt)
    values = json.loads(parts[1])
    values["planes"][0].update(plane or {})
    values.update(header)
    kept = {key: value for key, value in values.items() if value is not ...}
    return [parts[0], json.dumps(kept).encode(), *parts[2:]]


def dead(served: Served) -> dict[str, str]:
    """Name of each dead letter -> its error."""
    letters = (served.settings.directory / "dead").glob("*.json")
    return {path.stem: dead_letters.read(path).error for path in letters}


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


def test_hello_may_be_said_again(raw):
    for _ in range(2):
        raw.dealer.send(control.hello("me"))
        said = control.decode(raw.dealer.receive(TIMEOUT_S))
        assert set(said.pop("ring")) == {"directory", "token"}
        assert said == {"say": "ready", "credit": 4, "lease_s": 1.0, "max_frame_bytes": 1 << 20}


def test_a_client_that_says_no_hello_is_served_too(raw):
    assert raw.ask(wire.encode(a_frame(131))).status == "done"


# ------------------------------------------------------------------ bad messages
BAD = {
    "a missing key": (lambda: changed(200, gain=...), "MissingKey"),
    "an unknown dtype": (lambda: changed(201, plane={"dtype": "<f8"}), "BadMessage"),
    "a wrong plane size": (lambda: [*changed(202)[:2], b"short"], "BadMessage"),
    "a wrong shape": (lambda: changed(203, plane={"shape": [1, 1]}), "BadMessage"),
    "a place of half a name": (lambda: changed(204, plane={"shm": {"segment": "x"}}), "MissingKey"),
    "more bytes than allowed": (lambda: [*changed(205)[:2], bytes((1 << 20) + 1)], "BadMessage"),
    "too many parts": (lambda: [*changed(206), *[b""] * 50], "BadMessage"),
    "a third wrong checksum": (lambda: changed(207, 3, plane={"xxh3_128": "0" * 32}), "ChecksumMismatch"),
    "a PSF that is none": (lambda: changed(208, psf=[[1, 2]]), "BadPsf"),
    "a WCS that is none": (lambda: changed(209, wcs={"CTYPE1": 5}), "BadWcs"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_message_is_rejected_by_name_and_kept(what, raw, service):
    message, error = BAD[what]
    receipt = raw.ask(message())
    assert (receipt.status, receipt.error) == ("rejected", error)
    assert dead(service)[f"{receipt.visit}-0-4-{error}"] == error


@pytest.mark.parametrize(
    "parts",
    [
        [b"GDF1", b"{ no JSON", b"12"],
        [b"GDF1"],
        [b""],
        [b"GDF1", b'{"visit": "x"}', b""],
        [b"XXXX", b"{}"],
        [b"GDF1\0"],
    ],
)
def test_a_message_without_identity_is_rejected_with_nulls(parts, raw):
    receipt = raw.ask(parts)
    assert (receipt.status, receipt.error, receipt.frame) == ("rejected", "BadMessage", None)


@pytest.mark.parametrize("text", [b"{", b'{"say": "obey"}', b"[]", b'{"say": 5}'])
def test_a_bad_control_message_is_rejected(text, raw):
    assert raw.ask([b"GDC1", text]).error == "BadMessage"


def test_a_wrong_checksum_fails_and_may_be_sent_again(raw, service):
    receipt = raw.ask(changed(210, plane={"xxh3_128": "0" * 32}))
    assert (receipt.status, receipt.error, receipt.retry) == ("failed", "ChecksumMismatch", True)
    assert raw.ask(changed(210, 2)).status == "done"


def test_a_frame_without_pixels_is_rejected_by_the_subtraction(client, service):
    receipt = client.send(a_frame(211, fill=np.nan))
    assert (receipt.status, receipt.error) == ("rejected", "NoUsablePixels")
    assert dead(service)["211-0-4-NoUsablePixels"] == "NoUsablePixels"


def test_a_frame_that_no_template_covers_is_rejected(client):
    far = {"CRVAL1": 10.0, "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL2": 0.0, "CD1_1": 1e-5, "CD2_2": 1e-5}
    parts = json.loads(wire.encode(a_frame(212))[1])
    assert parts["wcs"] != far
    frame = a_frame(212)
    object.__setattr__(frame, "wcs", far)
    assert client.send(frame).error == "NoTemplate"


def test_a_bug_costs_one_frame_after_three_tries(client):
    receipt = client.send(a_frame(213, unit="bug"))
    assert receipt.status == "rejected"
    assert "3 times" in receipt.reason
    assert "ZeroDivisionError: a planted bug" in receipt.reason


def test_the_wrong_moment_is_tried_again(client, tmp_path):
    assert client.send(a_frame(214, unit=f"moment:{tmp_path}/mark")).status == "done"


def test_a_moment_that_stays_wrong_is_a_rejection_by_its_name(client):
    receipt = client.send(a_frame(215, unit="never"))
    assert (receipt.status, receipt.error) == ("rejected", "NeighbourLost")


def test_a_dead_letter_can_be_sent_again(client, raw, service):
    client.send(a_frame(216, fill=np.nan))
    letter = dead_letters.read(service.settings.directory / "dead" / "216-0-4-NoUsablePixels.json")
    assert raw.ask(letter.parts).error == "NoUsablePixels"


def test_after_messages_and_frames_that_are_bad_the_service_goes_on_and_has_counted(client, raw, service):
    before = service.status()
    assert raw.ask([b"XXXX", b"{}"]).error == "BadMessage"
    assert client.send(a_frame(218, fill=np.nan)).error == "NoUsablePixels"
    assert client.send(a_frame(217)).status == "done"
    until(lambda: service.status()["done"] == before["done"] + 1)
    status = service.status()
    assert status["in_flight"] == 0
    for name in ("BadMessage", "NoUsablePixels"):
        assert status["rejected"][name] > before["rejected"].get(name, 0)
    assert status["dead_letters"] == sum(status["rejected"].values())


# ------------------------------------------------------------------ credit, crashes, restarts
def test_more_frames_than_the_credit_fail_for_want_of_it(raw, service, tmp_path):
    gate = tmp_path / "gate"
    for visit in range(300, 304):
        raw.dealer.send(wire.encode(a_frame(visit, unit=f"hold:{gate}")))
    receipt = raw.ask(wire.encode(a_frame(304)))
    assert (receipt.visit, receipt.status, receipt.error, receipt.retry) == (304, "failed", "NoCredit", True)
    until(lambda: service.status()["queued"] == 3)
    status = service.status()
    assert {name: status[name] for name in ("busy", "clients", "credit", "away")} == {
        **{"busy": 1, "clients": 1, "credit": 4, "away": 0}
    }
    assert 4 * 4 * 24 * 32 < status["bytes"] < status["room"]
    assert [one["connected"] for one in status["associators"].values()] == [True]
    gate.touch()
    assert sorted(raw.receipt().visit for _ in range(4)) == list(range(300, 304))


def test_a_long_frame_is_said_to_be_in_work_within_its_lease(raw, tmp_path):
    raw.dealer.send(wire.encode(a_frame(310, unit=f"hold:{tmp_path}/gate")))
    heard = [control.decode(raw.dealer.receive(TIMEOUT_S))["status"] for _ in range(3)]
    assert heard == ["accepted", "busy", "busy"]
    (tmp_path / "gate").touch()
    assert raw.receipt().status == "done"


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


def test_a_dead_letter_that_cannot_be_kept_stops_the_service_and_says_so(tmp_path, associator):
    with serving(tmp_path, associator) as served:
        (tmp_path / "dead").rmdir()
        raw = Raw(served.endpoint)
        receipt = raw.ask(changed(431, gain=...))
        assert (receipt.status, receipt.error, receipt.retry) == ("failed", "StoreFailed", True)
        assert served.joined()
        assert isinstance(served.error, StoreFailed)
        count = served.differencer.metrics.registry.get_sample_value
        assert count("gpudiff_frames_total", {"status": "failed"}) == 1
        raw.dealer.close()


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


def test_a_template_folder_that_is_absent_is_refused(tmp_path):
    with pytest.raises(NoTemplate):
        Differencer(Settings(tmp_path, tmp_path / "absent", "tcp://127.0.0.1:*", "tcp://127.0.0.1:9"))
