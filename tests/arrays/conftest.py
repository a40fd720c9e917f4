"""Every way to launch a CUDA kernel that this machine has."""

import pytest
from emulated import Emulated
from launchers import gpu_launchers

from gpudiff.arrays.device import Launcher

# (build, order): each build, and threads and blocks in each of three orders.
EMULATED = [("check", 0), ("asan", 1), ("tsan", 20261122)]


LAUNCHERS: list[Launcher] = [*(Emulated(*kind) for kind in EMULATED), *gpu_launchers()]


@pytest.fixture(params=LAUNCHERS, ids=lambda launcher: f"{type(launcher).__name__}-{launcher.name}")
def launcher(request) -> Launcher:
    return request.param
