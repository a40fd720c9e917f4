"""The launchers of CUDA kernels that this machine has."""

from gpudiff.arrays.device import Cuda, Launcher, PyCuda, device
from gpudiff.model.errors import DeviceFailed


def gpu_launchers() -> list[Launcher]:
    """CuPy's and PyCUDA's, where there is a GPU."""
    found: list[Launcher] = []
    for launcher in (Cuda, PyCuda):
        try:
            found.append(device("cuda", launcher))
        except DeviceFailed:
            continue  # the tests of device.py state that this is an error; here it means one launcher fewer
    return found
