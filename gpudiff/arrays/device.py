"""The one door to a GPU: where arrays live, how CUDA kernels are launched.

An operation of `arrays` has a NumPy body, `operation(...)`, and where it is hot a CUDA body,
`operation_cuda(launcher, ...)`, written against `Launcher` alone. Launchers are `Cuda` (CuPy, the default),
`PyCuda` (the same compiled kernels on the shared primary context), and in the tests one that runs the kernels
on the CPU. Nothing is imported or started before `device` is asked for a GPU, so a CPU install needs neither
CuPy nor PyCUDA. `Cuda` and `PyCuda` have not yet been run on a GPU.
"""

import atexit
import importlib.util
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import numpy as np

from gpudiff.arrays.cubin import cubin
from gpudiff.model.errors import DeviceFailed, DeviceFull

OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY and cudaErrorMemoryAllocation

Size = tuple[int, int, int]


class Launcher(Protocol):
    """Memory that CUDA kernels can reach, and a way to start them; for several threads, each on a stream (`on`).

    All raise DeviceFull for memory that is not there, DeviceFailed for a device that failed.  Memory that nobody
    holds any more is given again to the stream on which it was asked for, in that stream's turn: what other
    streams do with an array must have ended before it is let go.
    """

    name: str

    def free(self) -> int:
        """Bytes of its memory that nobody uses."""
        ...

    def upload(self, array: Any, dtype: Any) -> Any:
        """The array in C order with that dtype in device memory; itself where it is that already.

        What lies in pinned memory, as all does that came from `download`, may go up after this has returned: the
        host may write to it once the thread's stream has done what it was given.
        """
        ...

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """Device memory with undefined contents."""
        ...

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any: ...

    def copy(self, array: Any) -> Any:
        """A device array of its own with a device array's values."""
        ...

    def download(self, array: Any) -> np.ndarray:
        """A NumPy array with the device array's values, complete: the kernels that write it have ended."""
        ...

    def launch(
        self,
        stem: str,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[Any],
        shared: int = 0,
        defines: Sequence[str] = (),
    ) -> None:
        """Starts `kernel` of kernels/<stem>.cu, compiled with -D for each of `defines`.

        arguments : device arrays and NumPy scalars of the kernel's exact types
        shared : bytes of dynamic shared memory a block
        """
        ...

    def stream(self) -> Any:
        """What runs beside other streams what it is given, in order."""
        ...

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Copies and kernels that this thread asks for within go to that stream."""
        ...

    def mark(self) -> Any:
        """An event: all that this thread's stream was given before is done."""
        ...

    def after(self, mark: Any) -> None:
        """What this thread's stream is given from now on comes after the event."""
        ...

    def synchronize(self, event: Any) -> None:
        """Let the host wait for the event."""
        ...


class InOrder:
    """A launcher's part of what has one stream: everything is done in the order in which it was asked for."""

    def stream(self) -> None: ...

    def on(self, stream: None) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark(self) -> None: ...

    def after(self, mark: None) -> None: ...

    def synchronize(self, event: None) -> None: ...


class Host(InOrder):
    """The CPU: arrays are NumPy arrays and operations use their NumPy bodies. It launches nothing."""

    name = "cpu"

    def free(self) -> int:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def upload(self, array: Any, dtype: Any) -> np.ndarray:
        return np.ascontiguousarray(array, dtype)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.zeros(shape, dtype)

    def copy(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def download(self, array: np.ndarray) -> np.ndarray:
        return np.asarray(array)


class Cuda:
    """A GPU through CuPy: memory from its pool, which has a part for each stream; kernels on the thread's current
    stream, the device's default one outside `on`."""

    def __init__(self, index: int = 0) -> None:
        self.name = f"cuda:{index}"
        self.cupy = loaded_cupy(self.name, index)
        self.device = self.cupy.cuda.Device(index)
        self.architecture = f"sm_{self.device.compute_capability}"
        self.kernels: dict[tuple, Any] = {}
        self.shared: dict[tuple, int] = {}
        """Bytes of dynamic shared memory that a kernel may have, as many as it was ever started with: it may not
        have all of 48 kB without being asked, some of which are its static ones."""
        self._loading = threading.Lock()

    @contextmanager
    def here(self) -> Iterator[None]:
        """On this device, its errors by our names."""
        cuda = self.cupy.cuda
        try:
            with self.device:
                yield
        except cuda.memory.OutOfMemoryError as error:
            raise DeviceFull(f"device {self.name}: {error}") from error
        except (cuda.runtime.CUDARuntimeError, cuda.driver.CUDADriverError) as error:
            failure = DeviceFull if error.status == OUT_OF_MEMORY else DeviceFailed
            raise failure(f"device {self.name}: {error}") from error

    def free(self) -> int:
        with self.here():
            pool = self.cupy.get_default_memory_pool()
            return int(self.cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())

    def upload(self, array: Any, dtype: Any) -> Any:
        with self.here():
            return self.cupy.asarray(array, dtype, order="C")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.here():
            return self.cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.here():
            return self.cupy.zeros(shape, dtype)

    def copy(self, array: Any) -> Any:
        out = self.empty(array.shape, array.dtype)
        with self.here():  # array.copy() is a kernel, which CuPy would compile first
            out.data.copy_from_device_async(array.data, array.nbytes)
        return out

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Host memory that copies run from and to at the link's full rate, from CuPy's pool of it."""
        count, size = int(np.prod(shape)), np.dtype(dtype).itemsize
        with self.here():
            memory = self.cupy.cuda.alloc_pinned_memory(max(1, count * size))
        return np.frombuffer(memory, dtype, count).reshape(shape)

    def download(self, array: Any) -> np.ndarray:
        out = self.pinned(array.shape, array.dtype)
        with self.here():
            return self.cupy.asnumpy(array, out=out)

    def launch(
        self,
        stem: str,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[Any],
        shared: int = 0,
        defines: Sequence[str] = (),
    ) -> None:
        def start() -> None:
            self._loaded(stem, kernel, shared, defines)(grid, block, tuple(arguments), shared_mem=shared)

        with self.here():
            try:
                start()
            except self.cupy.cuda.driver.CUDADriverError as error:
                if error.status != OUT_OF_MEMORY:
                    raise
                self.cupy.get_default_memory_pool().free_all_blocks()  # it had left none for the kernel's code
                start()

    def _loaded(self, stem: str, kernel: str, shared: int, defines: Sequence[str]) -> Any:
        """The kernel, loaded by whoever asks first; what it may have of shared memory only grows."""
        key = (stem, kernel, *defines)
        with self._loading:
            if key not in self.kernels:
                module = self.cupy.RawModule(path=str(cubin(stem, self.architecture, defines)))
                self.kernels[key] = module.get_function(kernel)
            if shared > self.shared.get(key, 0):
                self.kernels[key].max_dynamic_shared_size_bytes = self.shared[key] = shared
            return self.kernels[key]

    def stream(self) -> Any:
        with self.here():
            return self.cupy.cuda.Stream(non_blocking=True)

    @contextmanager
    def on(self, stream: Any) -> Iterator[None]:
        with self.here(), stream:
            yield

    def mark(self) -> Any:
        with self.here():
            return self.cupy.cuda.get_current_stream().record(self.cupy.cuda.Event(disable_timing=True))

    def after(self, mark: Any) -> None:
        with self.here():
            self.cupy.cuda.get_current_stream().wait_event(mark)

    def synchronize(self, event: Any) -> None:
        with self.here():
            event.synchronize()


class PyCuda(InOrder):
    """A GPU through PyCUDA, on the primary context that CuPy uses too; only for the thread that made it."""

    def __init__(self, index: int = 0) -> None:
        self.name = f"cuda:{index}"
        self.driver, self.gpuarray = _pycuda(self.name)
        gpus = self.driver.Device.count()
        if index >= gpus:
            raise DeviceFailed(f"device {self.name}: this machine has {gpus} GPU(s), numbered from 0")
        gpu = self.driver.Device(index)
        self.context = gpu.retain_primary_context()
        self.context.push()
        atexit.register(self.context.pop)  # PyCUDA aborts the program if one is left
        self.architecture = "sm_{}{}".format(*gpu.compute_capability())
        self.kernels: dict[tuple, Any] = {}
        self.modules: list[Any] = []  # PyCUDA unloads a module that nobody holds

    @contextmanager
    def _here(self) -> Iterator[None]:
        """PyCUDA's errors by our names."""
        try:
            yield
        except self.driver.MemoryError as error:
            raise DeviceFull(f"device {self.name}: {error}") from error
        except self.driver.Error as error:
            raise DeviceFailed(f"device {self.name}: {error}") from error

    def free(self) -> int:
        with self._here():
            return int(self.driver.mem_get_info()[0])

    def upload(self, array: Any, dtype: Any) -> Any:
        with self._here():
            if isinstance(array, self.gpuarray.GPUArray):
                return array.astype(dtype) if array.dtype != dtype else array
            return self.gpuarray.to_gpu(np.ascontiguousarray(array, dtype))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self._here():
            return self.gpuarray.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        out = self.empty(shape, dtype)
        with self._here():  # gpuarray.zeros is a kernel, which PyCUDA would compile with nvcc first
            if out.nbytes:
                self.driver.memset_d8(out.gpudata, 0, out.nbytes)
        return out

    def copy(self, array: Any) -> Any:
        with self._here():
            return array.copy()

    def download(self, array: Any) -> np.ndarray:
        with self._here():
            return array.get()

    def launch(
        self,
        stem: str,
        kernel: str,
        grid: Size,
        block: Size,
        arguments: Sequence[Any],
        shared: int = 0,
        defines: Sequence[str] = (),
    ) -> None:
        with self._here():
            key = (stem, kernel, *defines)
            if key not in self.kernels:
                module = self.driver.module_from_file(str(cubin(stem, self.architecture, defines)))
                self.modules.append(module)
                self.kernels[key] = module.get_function(kernel)
            function = self.kernels[key]
            if shared:
                attribute = self.driver.function_attribute.MAX_DYNAMIC_SHARED_SIZE_BYTES
                function.set_attribute(attribute, shared)
            function(*arguments, grid=grid, block=block, shared=shared)


def device(name: str, launcher: type[Cuda] | type[PyCuda] = Cuda) -> Host | Cuda | PyCuda:
    """The device called `name`: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": "cuda" where that can be used,
    else "cpu".

    Raises DeviceFailed, with one line that says what is missing, for any other name and for a GPU that cannot
    be used.
    """
    if name == "cpu":
        return Host()
    if name == "auto":
        return _first_usable(launcher)
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match is None:
        raise DeviceFailed(f'device "{name}": expected auto, cpu, cuda or cuda:N')
    return launcher(int(match[1] or 0))


def _first_usable(launcher: type[Cuda] | type[PyCuda]) -> Host | Cuda | PyCuda:
    """The first GPU, or the CPU; without CuPy nothing is loaded to find out."""
    if importlib.util.find_spec("cupy") is None:
        return Host()
    try:
        return launcher(0)
    except DeviceFailed:
        return Host()


def loaded_cupy(name: str, index: int) -> Any:
    """CuPy, where it sees so many GPUs; raises DeviceFailed."""
    try:
        import cupy

        runtime = cupy.cuda.runtime  # not there where a folder that happens to have the name is imported
    except (ImportError, AttributeError) as error:
        raise DeviceFailed(f'device {name}: CuPy is not installed (pip install "gpudiff[gpu]")') from error
    try:
        gpus = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise DeviceFailed(f"device {name}: no usable NVIDIA driver ({error})") from error
    if index >= gpus:
        raise DeviceFailed(f"device {name}: this machine has {gpus} GPU(s), numbered from 0")
    return cupy


def _pycuda(name: str) -> tuple[Any, Any]:
    try:
        import pycuda.driver
        import pycuda.gpuarray
    except ImportError as error:
        message = f'device {name}: PyCUDA cannot be imported (pip install "gpudiff[pycuda]"): {error}'
        raise DeviceFailed(message) from error
    try:
        pycuda.driver.init()
    except pycuda.driver.Error as error:
        raise DeviceFailed(f"device {name}: no usable NVIDIA driver ({error})") from error
    return pycuda.driver, pycuda.gpuarray
