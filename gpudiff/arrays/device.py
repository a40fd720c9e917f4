"""The one door to a GPU: where arrays live, how CUDA kernels are compiled, kept and launched.

An operation of `arrays` has a NumPy body, `operation(...)`, and where it is hot a CUDA body,
`operation_cuda(launcher, ...)`, written against `Launcher` alone. Launchers are `Cuda` (CuPy, the default),
`PyCuda` (the same compiled kernels on the shared primary context), and in the tests one that runs the kernels
on the CPU. Nothing is imported or started before `device` is asked for a GPU, so a CPU install needs neither
CuPy nor PyCUDA. `Cuda` and `PyCuda` have not yet been run on a GPU.
"""

import atexit
import hashlib
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gpudiff.arrays.kernel_files import cache_folder, compile_with_nvcc, kernel_source, write_atomically
from gpudiff.model.errors import DeviceFailed, DeviceFull

LARGEST_STATIC_SHARED = 48 << 10  # bytes a block may have without asking for more (CUDA C++ guide, 20.7.3)

Size = tuple[int, int, int]
Compiler = Callable[[str, Sequence[str]], bytes]


class Launcher(Protocol):
    """Memory that CUDA kernels can reach, and a way to start them.

    All raise DeviceFull for memory that is not there, DeviceFailed for a device that failed.
    """

    name: str

    def free(self) -> int:
        """Bytes of its memory that nobody uses."""
        ...

    def upload(self, array: Any, dtype: Any) -> Any:
        """The array in C order with that dtype in device memory; itself where it is that already."""
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


class Host:
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
    """A GPU through CuPy: memory from its pool, kernels on its current stream."""

    def __init__(self, index: int = 0) -> None:
        self.name = f"cuda:{index}"
        self.cupy = _cupy(self.name, index)
        self.device = self.cupy.cuda.Device(index)
        self.architecture = f"sm_{self.device.compute_capability}"
        self.kernels: dict[tuple, Any] = {}

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
            raise DeviceFailed(f"device {self.name}: {error}") from error

    def free(self) -> int:
        with self.here():
            pool = self.cupy.get_default_memory_pool()
            return int(self.cupy.cuda.runtime.memGetInfo()[0]) + int(pool.free_bytes())

    def upload(self, array: Any, dtype: Any) -> Any:
        with self.here():
            return self.cupy.ascontiguousarray(self.cupy.asarray(array, dtype))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.here():
            return self.cupy.empty(shape, dtype)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        with self.here():
            return self.cupy.zeros(shape, dtype)

    def copy(self, array: Any) -> Any:
        with self.here():
            return array.copy()

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
        with self.here():
            key = (stem, kernel, *defines)
            if key not in self.kernels:
                module = self.cupy.RawModule(path=str(cubin(stem, self.architecture, defines)))
                self.kernels[key] = module.get_function(kernel)
            function = self.kernels[key]
            if shared > LARGEST_STATIC_SHARED:
                function.max_dynamic_shared_size_bytes = shared
            function(grid, block, tuple(arguments), shared_mem=shared)


class PyCuda:
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
        with self._here():
            return self.gpuarray.zeros(shape, dtype)

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
            if shared > LARGEST_STATIC_SHARED:
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


def survey() -> dict[str, Any]:
    """What is here: {"software": {name: version, or what is missing}, "devices": [{"name", ...}, ...]}.

    Sizes are GB (1e9 bytes).  Nothing raises: what cannot be used is said in words.
    """
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    cpu = {"name": "cpu", "cores": len(os.sched_getaffinity(0)), "memory_gb": pages / 1e9}
    software = {"CuPy": _said(Cuda), "PyCUDA": _said(PyCuda), "compiler": _compiler_said()}
    return {"software": software, "devices": [cpu, *_gpus()]}


def _said(launcher: type[Cuda] | type[PyCuda]) -> str:
    """The version of what a launcher needs, or why it cannot launch."""
    from importlib.metadata import version  # slow to import

    name = "cupy" if launcher is Cuda else "pycuda"
    try:
        launcher(0)
    except DeviceFailed as error:
        return f"not usable: {str(error).partition(': ')[2]}"
    return version(_distribution(name))


def _distribution(module: str) -> str:
    """The installed package that a module belongs to: CuPy has one for each major version of CUDA."""
    from importlib.metadata import packages_distributions

    return packages_distributions()[module][0]


def _compiler_said() -> str:
    try:
        return "NVRTC" if _compiler() is compile_with_nvrtc else "nvcc"
    except DeviceFailed as error:
        return str(error).partition(": ")[2]


def _gpus() -> list[dict[str, Any]]:
    """The GPUs that CuPy sees."""
    try:
        cupy = _cupy("cuda", 0)
    except DeviceFailed:
        return []
    runtime, found = cupy.cuda.runtime, []
    driver = runtime.driverGetVersion()
    for index in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(index)
        with cupy.cuda.Device(index):
            free, total = runtime.memGetInfo()
        found.append(
            {
                "name": f"cuda:{index}",
                "model": properties["name"].decode(),
                "memory_gb": total / 1e9,
                "free_gb": free / 1e9,
                "capability": f"{properties['major']}.{properties['minor']}",
                "driver": f"{driver // 1000}.{driver % 1000 // 10}",
            }
        )
    return found


def cubin(stem: str, architecture: str, defines: Sequence[str] = (), compiler: Compiler | None = None) -> Path:
    """The file of kernels/<stem>.cu compiled for `architecture` ("sm_90"), made on the first call.

    It is kept under $XDG_CACHE_HOME/gpudiff (or ~/.cache/gpudiff), named by what it depends on: source,
    options with the architecture, compiler.
    """
    source = kernel_source(stem)
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{define}" for define in defines)]
    compiler = compiler or _compiler()
    digest = hashlib.sha256(repr((source, options, compiler.__qualname__)).encode()).hexdigest()[:24]
    path = cache_folder() / f"{stem}-{architecture}-{digest}.cubin"
    if not path.exists():
        write_atomically(path, compiler(source, options))
    return path


def compile_with_nvrtc(source: str, options: Sequence[str]) -> bytes:
    """Machine code by NVRTC, which CuPy finds; needs no driver."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, tuple(options))
    except nvrtc.NVRTCError as error:
        raise DeviceFailed(f"NVRTC refused a kernel: {nvrtc.getProgramLog(program)}") from error
    return nvrtc.getCUBIN(program)


def _compiler() -> Compiler:
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        if shutil.which("nvcc") is None:
            message = 'expected NVRTC (pip install "gpudiff[gpu]") or nvcc on the PATH'
            raise DeviceFailed(f"no CUDA compiler: {message}, got: {error}") from error
        return compile_with_nvcc
    return compile_with_nvrtc


def _cupy(name: str, index: int) -> Any:
    try:
        import cupy
    except ImportError as error:
        raise DeviceFailed(f'device {name}: CuPy is not installed (pip install "gpudiff[gpu]")') from error
    try:
        gpus = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
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
