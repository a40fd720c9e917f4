"""Every way to launch a CUDA kernel that this machine has."""

import sys
from pathlib import Path

import pytest

from gpudiff.arrays.device import Cuda, Launcher, PyCuda, device
from gpudiff.model.errors import DeviceFailed

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_on_cpu"))

from emulated import Emulated

# (build, order): the check build in three orders of threads and blocks, then the sanitizers.
EMULATED = [("check", 0), ("check", 1), ("check", 20261122), ("asan", 0), ("tsan", 0)]


def gpu_launchers() -> list[Launcher]:
    found: list[Launcher] = []
    for launcher in (Cuda, PyCuda):
        try:
            found.append(device("cuda", launcher))
        except DeviceFailed:
            continue  # the tests of device.py state that this is an error; here it means one launcher fewer
    return found


LAUNCHERS: list[Launcher] = [*(Emulated(*kind) for kind in EMULATED), *gpu_launchers()]


@pytest.fixture(params=LAUNCHERS, ids=lambda launcher: f"{type(launcher).__name__}-{launcher.name}")
def launcher(request) -> Launcher:
    return request.param
