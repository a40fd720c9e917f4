"""As much of CuPy as `arrays.device.Cuda` uses, on NumPy arrays; it notes in `log` what it was asked for."""

from ctypes import memmove
from threading import local
from types import ModuleType, SimpleNamespace

import numpy as np


class Array(np.ndarray):
    """An array in the fake device's memory; `data` is its address."""

    @property
    def data(self):
        return Pointer(self)


class Pointer:
    """A memory pointer whose copies happen at once."""

    def __init__(self, array: Array) -> None:
        self.address, self.size = array.ctypes.data, array.nbytes

    def copy_from_host_async(self, host: int, size: int, stream) -> None:
        self._copy(self.address, host, size, stream)

    def copy_to_host_async(self, host: int, size: int, stream) -> None:
        self._copy(host, self.address, size, stream)

    def copy_from_device_async(self, source: "Pointer", size: int) -> None:
        self._copy(self.address, source.address, size, get_current_stream())

    def _copy(self, to: int, source: int, size: int, stream) -> None:
        assert isinstance(stream, Stream)
        assert size <= self.size
        memmove(to, source, size)


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        assert disable_timing

    def record(self, stream) -> None:
        stream.record(self)

    def synchronize(self) -> None:
        pass


class Stream:
    """One whose work is done when it is given.  current : of each thread, as in CuPy"""

    current = local()

    def __init__(self, non_blocking: bool = False) -> None:
        assert non_blocking  # else every copy would wait for the default stream
        self.given: list = []

    def __enter__(self):
        self.before = get_current_stream()
        Stream.current.stream = self
        return self

    def __exit__(self, *_) -> None:
        Stream.current.stream = self.before

    def record(self, event) -> Event:
        assert isinstance(event, Event)
        self.given.append(("record", event))
        return event

    def wait_event(self, event) -> None:
        assert isinstance(event, Event)
        self.given.append(("wait", event))


DEFAULT = Stream(non_blocking=True)


def get_current_stream() -> Stream:
    return getattr(Stream.current, "stream", DEFAULT)


STATIC_SHARED = 400
"""Bytes that a kernel has of its own; of 48 kB the others may be asked for without leave."""


class OutOfMemoryError(MemoryError):
    pass


class CUDARuntimeError(RuntimeError):
    status = 700


class CUDADriverError(RuntimeError):
    status = 700


class Device:
    """The current device within `with`."""

    compute_capability = "90"

    def __init__(self, index: int = 0) -> None:
        self.index = index

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        pass

    def synchronize(self) -> None:
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
            if shared_mem > function.max_dynamic_shared_size_bytes:
                raise CUDADriverError("invalid argument")
            cupy.log.append(("launch", grid, block, shared_mem))

        function.max_dynamic_shared_size_bytes = (48 << 10) - STATIC_SHARED

        return SimpleNamespace(get_function=lambda name: function)

    cupy.asarray = lambda array, dtype=None, order=None: made(np.asarray(array, dtype, order))
    cupy.empty = lambda shape, dtype: made(np.empty(shape, dtype))
    cupy.zeros = lambda shape, dtype: made(np.zeros(shape, dtype))

    def asnumpy(array, out) -> np.ndarray:
        np.copyto(out, made(array))
        return out

    cupy.asnumpy = asnumpy
    cupy.RawModule = raw_module
    pool = SimpleNamespace(free_bytes=lambda: 500, total_bytes=lambda: 2500, free_all_blocks=lambda: None)
    cupy.get_default_memory_pool = lambda: pool
    cupy.cuda = SimpleNamespace(
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_current_stream=get_current_stream,
        alloc_pinned_memory=bytearray,
        memory=SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        driver=SimpleNamespace(CUDADriverError=CUDADriverError),
        runtime=SimpleNamespace(
            CUDARuntimeError=CUDARuntimeError, getDeviceCount=lambda: 1, memGetInfo=lambda: (7000, 9000)
        ),
    )
    return cupy
