"""Frames whose pixels lie in shared memory: client, differencer and worker together."""

import dataclasses
import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from serving import TIMEOUT_S, Served, a_frame, serving, until

from gpudiff.edges import control, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.dead_letters import read
from gpudiff.edges.ring import HEADER_BYTES
from gpudiff.edges.ring_writer import Ring, offered
from gpudiff.model.frame import FrameId


@pytest.fixture(scope="module")
def service(tmp_path_factory, associator):
    with serving(tmp_path_factory.mktemp("shm"), associator, lease_s=0.5) as service:
        yield service


@pytest.fixture
def ring(raw):
    raw.dealer.send(control.hello("raw"))
    ring = Ring(offered(control.decode(raw.dealer.receive(TIMEOUT_S))["ring"]), 4)
    yield ring
    ring.close()


def in_ring(ring: Ring, frame) -> list:
    """The message of a frame that lies in the ring."""
    planes = [wire.as_bytes(plane) for plane in wire.planes_of(frame).values()]
    return wire.encode(frame, 1, ring.put(frame.observation.frame, planes))


def test_only_a_header_travels_and_the_detections_are_those_of_the_whole_message(client, associator):
    receipts = [client.send(a_frame(1))]
    assert client.way == "shared memory"
    batch = associator.batches[FrameId(1, 0, 4)]
    with FrameClient(client.endpoint, timeout_s=TIMEOUT_S, ring=False) as other:
        receipts.append(other.send(a_frame(1)))
        assert other.way == "socket"
    assert [receipt.status for receipt in receipts] == ["done", "duplicate"]
    assert batch.fingerprint == a_frame_digest(1)


def a_frame_digest(visit: int) -> str:
    return wire.decode(wire.encode(a_frame(visit)), 1 << 20).digest


def test_many_frames_go_through_few_slots(client):
    receipts = list(client.send_many(a_frame(visit) for visit in range(10, 40)))
    assert {receipt.status for receipt in receipts} == {"done"}


def test_masks_and_variances_lie_there_too(client):
    image = a_frame(2).image
    frame = a_frame(2, mask=np.zeros(image.shape, np.int32), variance=np.ones(image.shape, np.float32))
    assert client.send(frame).status == "done"


def test_full_memory_sends_the_pixels_and_says_so(service, monkeypatch):
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        monkeypatch.setattr(Ring, "put", lambda *_: None)
        assert client.send(a_frame(3)).status == "done"
        assert client.way == "socket: no room in shared memory"


def test_memory_that_the_service_cannot_read_is_no_third_failure_the_pixels_are_sent(service, monkeypatch):
    put = Ring.put

    def out_of_reach(ring, *what):
        placed = put(ring, *what)
        places = [msgspec.structs.replace(one.place, segment="gone.ring") for one in placed]
        return [dataclasses.replace(one, place=place) for one, place in zip(placed, places, strict=True)]

    monkeypatch.setattr(Ring, "put", out_of_reach)
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(611)).status == "done"
        assert client.way.startswith("socket: the service cannot read shared memory")


def test_a_refused_frame_is_kept_with_its_pixels(client, service):
    assert client.send(a_frame(4, fill=np.nan)).error == "NoUsablePixels"
    (path,) = service.differencer.reception.dead_letters.folder.glob("4-0-4-*.json")
    assert wire.decode(read(path).parts, 1 << 20).image.shape == a_frame(4).image.shape


def test_a_slot_written_over_while_it_waits_is_failed_not_taken(raw, ring, tmp_path):
    go = tmp_path / "go"
    raw.dealer.send(in_ring(ring, a_frame(5, unit=f"hold:{go}")))
    until(lambda: raw.dealer.receive(TIMEOUT_S))
    ring.free(FrameId(5, 0, 4))
    ring.put(FrameId(6, 0, 4), [memoryview(bytes(len(a_frame(5).image.tobytes())))])
    go.touch()
    receipt = raw.receipt()
    assert (receipt.status, receipt.retry) == ("failed", True)
    assert receipt.error in ("LostSegment", "ChecksumMismatch")  # before the worker began, or after


@pytest.mark.parametrize(("attempt", "status"), [(1, "failed"), (3, "rejected")])
def test_pixels_that_are_not_what_the_message_says_fail_and_the_third_time_are_rejected(
    raw, ring, attempt, status
):
    parts = in_ring(ring, a_frame(50 + attempt))
    place = json.loads(parts[1])["planes"][0]["shm"]
    with open(ring.folder / place["segment"], "r+b") as file:
        file.seek(place["offset"] + HEADER_BYTES)
        file.write(b"?!")
    header = json.dumps({**json.loads(parts[1]), "attempt": attempt}).encode()
    raw.dealer.send([parts[0], header])
    receipt = raw.receipt()
    assert (receipt.status, receipt.error) == (status, "ChecksumMismatch")


def test_a_hostile_place_is_refused_and_the_service_lives(raw, ring, client):
    parts = in_ring(ring, a_frame(7))
    for place in ({"segment": "../../etc/passwd"}, {"offset": 3}, {"sequence": 0}):
        header = json.loads(parts[1])
        header["planes"][0]["shm"] |= place
        assert raw.ask([parts[0], json.dumps(header).encode()]).error == "BadMessage"
    assert client.send(a_frame(8)).status == "done"


def test_a_place_beyond_the_end_of_its_segment_fails_and_its_pixels_are_taken(raw, ring, client):
    parts = in_ring(ring, a_frame(70))
    header = json.loads(parts[1])
    header["planes"][0]["shm"]["offset"] = 1 << 50
    receipt = raw.ask([parts[0], json.dumps(header).encode()])
    assert (receipt.status, receipt.error, receipt.retry) == ("failed", "LostSegment", True)
    assert client.send(a_frame(70)).status == "done"


def test_a_ring_whose_writer_is_gone_is_removed_when_its_frames_are_through(raw, ring, tmp_path):
    go = tmp_path / "go"
    raw.dealer.send(in_ring(ring, a_frame(9, unit=f"hold:{go}")))
    until(lambda: raw.dealer.receive(TIMEOUT_S))
    path = ring.folder / ring.segment
    ring.close()
    assert path.exists()
    go.touch()
    assert raw.receipt().status == "done"
    until(lambda: not path.exists())
    ring.__init__(ring.folder, 1)


def test_a_service_that_cannot_have_shared_memory_is_served_by_the_socket(tmp_path, associator):
    with (
        serving(tmp_path, associator, ring=str(tmp_path / "absent")) as service,
        FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client,
    ):
        assert client.send(a_frame(50)).status == "done"
        assert client.way == "socket"


def test_a_new_service_at_the_same_place_gets_the_frame_again(tmp_path, associator):
    with serving(tmp_path, associator) as first:
        client = FrameClient(first.endpoint, timeout_s=TIMEOUT_S)
        client.send(a_frame(60))
        endpoint, settings = first.endpoint, first.settings
    with pytest.MonkeyPatch.context() as patch:
        tests = Path(__file__).parents[1]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tests), str(tests.parent)]))
        second = Served(dataclasses.replace(settings, frames=endpoint))
        assert [one.status for one in client.send_many([a_frame(61), a_frame(62)])] == ["done"] * 2
        client.close()
        second.stop()
