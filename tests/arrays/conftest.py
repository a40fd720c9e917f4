"""Every way to launch a CUDA kernel that this machine has."""

import pytest
from emulated import Emulated
from launchers import gpu_launchers

from gpudiff.arrays.device import Launcher

# (build, order): the check build in three orders of threads and blocks, then the sanitizers.
EMULATED = [("check", 0), ("check", 1), ("check", 20261122), ("asan", 0), ("tsan", 0)]


LAUNCHERS: list[Launcher] = [*(Emulated(*kind) for kind in EMULATED), *gpu_launchers()]


@pytest.fixture(params=LAUNCHERS, ids=lambda launcher: f"{type(launcher).__name__}-{launcher.name}")
def launcher(request) -> Launcher:
    return request.param
