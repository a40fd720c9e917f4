"""gpudiff.edges.endpoint: addresses of sockets."""

import os

import pytest

from gpudiff.edges.endpoint import IPC_PATH_BYTES, beyond_this_machine, endpoint_in
from gpudiff.model.errors import BadConfiguration


def test_the_directory_is_filled_in(tmp_path):
    assert endpoint_in(tmp_path, "ipc://{directory}/a.ipc") == f"ipc://{tmp_path.resolve()}/a.ipc"


def test_port_zero_is_any_port(tmp_path):
    assert endpoint_in(tmp_path, "tcp://127.0.0.1:0") == "tcp://127.0.0.1:*"


@pytest.mark.parametrize(
    "endpoint",
    [
        "127.0.0.1:5570",
        "tcp://127.0.0.1",
        "tcp://:5570",
        "tcp://127.0.0.1:99999",
        "tcp://h:-1",
        "udp://h:1",
        "inproc://x",
    ],
)
def test_what_is_no_address_to_bind_is_refused(endpoint, tmp_path):
    with pytest.raises(BadConfiguration, match="expected tcp://HOST:PORT"):
        endpoint_in(tmp_path, endpoint)


def test_a_path_too_long_for_a_socket_becomes_a_short_private_one(tmp_path):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    endpoint = endpoint_in(deep, "ipc://{directory}/a.ipc")
    assert len(endpoint) <= IPC_PATH_BYTES
    assert endpoint == endpoint_in(deep, "ipc://{directory}/a.ipc")
    assert endpoint != endpoint_in(deep / "f", "ipc://{directory}/a.ipc")
    folder = os.path.dirname(endpoint.removeprefix("ipc://"))
    assert os.stat(folder).st_mode & 0o077 == 0
    os.rmdir(folder)


@pytest.mark.parametrize(
    ("endpoint", "beyond"),
    [
        ("tcp://127.0.0.1:5570", False),
        ("tcp://127.9.9.9:1", False),
        ("tcp://[::1]:5570", False),
        ("tcp://localhost:5570", False),
        ("ipc:///tmp/x.ipc", False),
        ("tcp://*:5570", True),
        ("tcp://0.0.0.0:5570", True),
        ("tcp://[::]:5570", True),
        ("tcp://eth0:5570", True),
        ("tcp://localhost.example.org:5570", True),
    ],
)
def test_what_lies_beyond_this_machine(endpoint, beyond):
    assert beyond_this_machine(endpoint) == beyond
