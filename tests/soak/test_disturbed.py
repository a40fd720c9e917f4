"""A full disk, a torn archive, a jumping clock, a client that dies within a frame: nothing is lost or doubled."""

import socket

import pytest
from batches import a_batch
from killing import Camera, Service
from serving import TIMEOUT_S, a_frame, until

from gpudiff.edges import archive
from gpudiff.edges.client import FrameClient
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator

LIMITED = """
import resource, sys
from gpudiff.__main__ import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
sys.exit(main(sys.argv[1:]))
"""
GREETING = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(16 + 1 + 31)  # mechanism padded to 20, as-server, filler
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
HALF = b"\x01\x04GDF1\x03\x00\x00\x00\x00\x00\x00\x01\x26{"
"""A client's side of ZMTP 3.0 (rfc.zeromq.org/spec/23): greeting, READY, and a frame that stops in its header."""


@pytest.fixture
def service(tmp_path):
    made = Service(tmp_path / "night")
    yield made
    made.end()


def send(service: Service, visits: range) -> set:
    """Send a frame of each visit; all must be done."""
    frames = [a_frame(visit) for visit in visits]
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        assert {receipt.status for receipt in client.send_many(frames)} <= {"done", "duplicate"}
    return {frame.observation.frame for frame in frames}


def test_a_file_that_cannot_grow_ends_the_associator_and_loses_nothing(service):
    assert service.associator.stop() == 0
    largest = max(path.stat().st_size for path in service.directory.glob("ledger*"))
    unlimited = service.associator.command
    service.associator.command = ["-c", LIMITED.format(limit=largest + 30_000), *unlimited[2:]]
    service.associator.start()
    camera = Camera(service.endpoint, seed=1)
    until(lambda: service.associator.process.poll() is not None)
    assert service.associator.process.returncode == 4
    service.associator.command = unlimited
    service.associator.start()
    camera.wait_for(1, 0.0)
    camera.finish()
    service.check(camera.sent)


def test_a_torn_tail_of_the_archive_is_cut_off(service):
    sent = send(service, range(1, 4))
    for path in (service.directory / "alerts").glob("*.avro"):
        with open(path, "ab") as file:
            file.write(b"half a block")
    service.associator.kill()
    again = [a_frame(visit, detector=5) for visit in range(1, 4)]
    with FrameClient(service.endpoint, timeout_s=TIMEOUT_S) as client:
        assert {receipt.status for receipt in client.send_many(again)} == {"done"}
    service.check(sent | {frame.observation.frame for frame in again})


def test_a_client_that_dies_within_a_frame_is_forgotten(service):
    address = ("127.0.0.1", int(service.endpoint.rsplit(":", 1)[1]))
    for cut in (10, len(GREETING), len(GREETING + READY) + 3, len(GREETING + READY + HALF)):
        with socket.create_connection(address, TIMEOUT_S) as client:
            client.sendall((GREETING + READY + HALF)[:cut])
    sent = send(service, range(1, 4))
    service.check(sent)


def test_a_clock_that_jumps_changes_no_id(tmp_path):
    times = iter([61007.001, 61006.0, 61300.0, 60000.0] * 100)
    associator = Associator(tmp_path, Configuration(), clock=lambda: next(times))
    for detector in range(4):
        assert associator.take(a_batch(3, detector=detector)).status == "committed"
        assert associator.take(a_batch(3, detector=detector)).status == "duplicate"
    associator.close()
    expected = sorted(one for detector in range(4) for one in a_batch(3, detector=detector).sources["diaSourceId"])
    files = (tmp_path / "alerts").glob("*.avro")
    assert sorted(alert["diaSourceId"] for file in files for alert in archive.read(file)) == expected
