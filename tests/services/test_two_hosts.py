"""Sender and service on two hosts: network namespaces, keys, and a link cut in the middle of a visit."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving import TIMEOUT_S

from gpudiff.edges import keys

TESTS = Path(__file__).parents[1]
HERE, THERE = "10.231.77.1", "10.231.77.2"
DETECTORS = 12
SERVICE = """
import dataclasses, sys
from pathlib import Path
from serving import SmallAssociator, settings_in
from gpudiff.edges.keys import server_keys
from gpudiff.model.config import Security
from gpudiff.services.differencer import Differencer
directory, folder, endpoint = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
security = Security(keys=folder)
local = "tcp://127.0.0.1:*"
associator = SmallAssociator(local, server_keys(security, local, "detections"))
settings = settings_in(directory, associator.endpoint, lease_s=1.0)
configuration = dataclasses.replace(settings.configuration, security=security)
differencer = Differencer(dataclasses.replace(settings, frames=endpoint, configuration=configuration))
differencer.stop_on_signals()
differencer.run(lambda bound: print("ready", bound, flush=True))
print(len(associator.batches), associator.received, flush=True)
associator.close()
"""
SENDER = """
import json, sys
from dataclasses import asdict
from serving import a_frame
from gpudiff.edges.client import FrameClient
with FrameClient(sys.argv[1], timeout_s=30, keys=sys.argv[2], ring=False) as client:
    def frames():
        for number in range(int(sys.argv[3])):
            if number == 6:
                input()  # until the link is cut
            yield a_frame(7, detector=number)
    for receipt in client.send_many(frames()):
        print(json.dumps(asdict(receipt)), flush=True)
"""


def ip(*words: str) -> bool:
    """Whether `ip` did it."""
    try:
        return subprocess.run(["ip", *words], capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Names of two network namespaces with a wire between them."""
    one, other = (f"gd{os.getpid()}{side}" for side in "ab")
    links = f"v{os.getpid()}a", f"v{os.getpid()}b"
    try:
        if not (ip("netns", "add", one) and ip("netns", "add", other)):
            pytest.skip("network namespaces are not permitted here (they need root and iproute2)")
        made = ip("link", "add", links[0], "netns", one, "type", "veth", "peer", "name", links[1], "netns", other)
        if not made:
            pytest.skip("virtual network links are not permitted here")
        for host, link, address in ((one, links[0], HERE), (other, links[1], THERE)):
            assert ip("-n", host, "address", "add", f"{address}/24", "dev", link)
            assert ip("-n", host, "link", "set", link, "up")
            assert ip("-n", host, "link", "set", "lo", "up")
        yield one, other
    finally:
        ip("netns", "del", one)
        ip("netns", "del", other)


@pytest.fixture
def on() -> Iterator[Callable[..., subprocess.Popen]]:
    """on(host, code, *arguments) runs a Python program there; none outlives the test."""
    started: list[subprocess.Popen] = []

    def start(*words: object) -> subprocess.Popen:
        started.append(program(*words))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate(timeout=TIMEOUT_S)


def program(host: str, code: str, *arguments: object) -> subprocess.Popen:
    """A Python program on a host."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    command = ["ip", "netns", "exec", host, sys.executable, "-c", code, *map(str, arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env=environment, **pipes)


@pytest.fixture
def camera_key(tmp_path) -> Path:
    keys.make(tmp_path / "service", "service")
    secret, public = keys.make(tmp_path / "camera", "camera")
    keys.allow(tmp_path / "service", public)
    (tmp_path / "camera" / "service.key").write_bytes((tmp_path / "service" / "service.key").read_bytes())
    return secret


def test_a_link_cut_in_the_middle_of_a_visit_loses_and_doubles_nothing(hosts, camera_key, on, tmp_path):
    one, other = hosts
    link = f"v{os.getpid()}a"
    directory = tmp_path / "night"
    directory.mkdir()
    service = on(one, SERVICE, directory, tmp_path / "service", f"tcp://{HERE}:5570")
    assert service.stdout.readline().startswith("ready")
    sender = on(other, SENDER, f"tcp://{HERE}:5570", camera_key, DETECTORS)
    said = [sender.stdout.readline() for _ in range(2)]
    assert ip("-n", one, "link", "set", link, "down")
    sender.stdin.write("\n")
    sender.stdin.flush()
    threading.Event().wait(1.5)  # longer than the lease: frames are sent again into the void
    assert sender.poll() is None
    assert ip("-n", one, "link", "set", link, "up")
    said += sender.communicate(timeout=TIMEOUT_S)[0].splitlines()
    receipts = [json.loads(line) for line in said]
    assert sorted(receipt["detector"] for receipt in receipts) == list(range(DETECTORS))
    assert {receipt["status"] for receipt in receipts} <= {"done", "duplicate"}
    service.terminate()
    committed, _ = service.communicate(timeout=TIMEOUT_S)[0].split()
    assert int(committed) == DETECTORS
