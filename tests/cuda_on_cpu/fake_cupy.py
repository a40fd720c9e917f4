"""As much of CuPy as `arrays.device.Cuda` uses, on NumPy arrays; it notes in `log` what it was asked for."""

from types import ModuleType, SimpleNamespace

import numpy as np


class Array(np.ndarray):
    """An array in the fake device's memory."""


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    pass


class Device:
    """The current device within `with`."""

    compute_capability = "90"

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass


def fake_cupy() -> ModuleType:
    """A module to stand in sys.modules as "cupy"; `fails`, when set, is raised by the next call."""
    cupy = ModuleType("cupy")
    cupy.log, cupy.fails = [], None

    def may_fail() -> None:
        if cupy.fails is not None:
            error, cupy.fails = cupy.fails, None
            raise error

    def made(array) -> Array:
        may_fail()
        return np.array(array).view(Array)

    def raw_module(path: str) -> SimpleNamespace:
        def function(grid, block, arguments, shared_mem=0):
            may_fail()
            cupy.log.append(("launch", grid, block, shared_mem))

        return SimpleNamespace(get_function=lambda name: function)

    cupy.asarray = lambda array, dtype=None: made(np.asarray(array, dtype))
    cupy.ascontiguousarray = np.ascontiguousarray
    cupy.empty = lambda shape, dtype: made(np.empty(shape, dtype))
    cupy.zeros = lambda shape, dtype: made(np.zeros(shape, dtype))
    cupy.asnumpy = lambda array: np.array(made(array))
    cupy.RawModule = raw_module
    cupy.get_default_memory_pool = lambda: SimpleNamespace(free_bytes=lambda: 500)
    cupy.cuda = SimpleNamespace(
        Device=Device,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memGetInfo=lambda: (7000, 9000)
        ),
    )
    return cupy
