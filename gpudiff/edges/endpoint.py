"""Endpoints: addresses of sockets as ZeroMQ writes them, tcp:// and ipc://."""

import hashlib
import ipaddress
import os
import re
import tempfile
from pathlib import Path

from gpudiff.model.errors import BadConfiguration

IPC_PATH_BYTES = 107
"""Longest path of a Unix socket: sun_path of unix(7), less its final zero."""
MAX_PORT = (1 << 16) - 1


def beyond_this_machine(endpoint: str) -> bool:
    """Whether others than this machine can reach the endpoint: tcp on anything but a loopback address."""
    if not endpoint.startswith("tcp://"):
        return False
    host = endpoint[6:].rpartition(":")[0].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def endpoint_in(directory: Path, endpoint: str) -> str:
    """Where to bind: `{directory}` filled in, port 0 as `*`, and a Unix socket's path made short enough.

    A path beyond the system's limit becomes one under the temporary folder, named after the directory, in a
    folder that only this user can read: every program that is given the same directory finds the same one.
    Raises BadConfiguration for what is neither tcp://HOST:PORT nor ipc://PATH.
    """
    filled = endpoint.replace("{directory}", str(directory.resolve()))
    port = re.fullmatch(r"tcp://\S+:(\d{1,5}|\*)", filled)
    if not filled.startswith("ipc://") and (port is None or (port[1].isdigit() and int(port[1]) > MAX_PORT)):
        raise BadConfiguration(f"{endpoint}: expected tcp://HOST:PORT, PORT at most {MAX_PORT}, or ipc://PATH")
    if filled.startswith("tcp://") and filled.endswith(":0"):
        return filled[:-1] + "*"
    if not filled.startswith("ipc://") or len(os.fsencode(filled[6:])) <= IPC_PATH_BYTES:
        return filled
    path = Path(filled[6:])
    short = hashlib.blake2b(os.fsencode(path.parent), digest_size=8).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"gpudiff-{os.getuid()}-{short}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise BadConfiguration(f"{folder}: expected a folder that only this user can read")
    return f"ipc://{folder / path.name}"
