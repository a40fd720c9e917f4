"""The door to a GPU: names, what is missing, and launching."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec

import numpy as np
import pytest
from fake_cupy import DEFAULT, CUDADriverError, CUDARuntimeError, OutOfMemoryError, fake_cupy

from gpudiff.arrays import device as door
from gpudiff.arrays.device import Cuda, PyCuda, device
from gpudiff.model.errors import DeviceFailed, DeviceFull


def test_the_cpu_keeps_arrays_where_they_are():
    host, array = device("cpu"), np.ones((2, 3), np.float32)
    assert host.name == "cpu"
    assert host.upload(array, np.float32) is array
    assert host.download(array) is array


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "", "CPU"])
def test_an_unknown_name_is_refused_with_what_was_expected(name):
    with pytest.raises(DeviceFailed, match="expected auto, cpu, cuda or cuda:N"):
        device(name)


def test_a_gpu_without_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(DeviceFailed, match=r"device cuda:1: CuPy is not installed \(pip install"):
        device("cuda:1")


def test_a_folder_named_cupy_is_no_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", module_from_spec(ModuleSpec("cupy", None)))
    with pytest.raises(DeviceFailed, match="CuPy is not installed"):
        device("cuda")
    assert device("auto").name == "cpu"


def test_a_gpu_without_pycuda_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    with pytest.raises(DeviceFailed, match=r"device cuda:0: PyCUDA cannot be imported \(pip install"):
        device("cuda", PyCuda)


# ---------------------------------------------------------------- CuPy's part, on a stand-in for CuPy
@pytest.fixture
def cupy(monkeypatch, tmp_path):
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(
        door, "cubin", lambda stem, architecture, defines: tmp_path / f"{stem}-{architecture}.cubin"
    )
    return cupy


def launch(cuda):
    cuda.launch("cutouts", "cutouts", (1, 1, 1), (256, 1, 1), [np.int32(1)])


OPERATIONS = {
    "upload": lambda cuda: cuda.upload(np.ones(3), np.float32),
    "empty": lambda cuda: cuda.empty((3,), np.float32),
    "zeros": lambda cuda: cuda.zeros((3,), np.float32),
    "download": lambda cuda: cuda.download(np.ones(3)),
    "launch": launch,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_memory_that_is_not_there_and_a_device_that_failed_have_names(cupy, operation):
    cuda = Cuda()
    OPERATIONS[operation](cuda)
    cupy.fails = OutOfMemoryError("Out of memory allocating 64 bytes")
    with pytest.raises(DeviceFull, match="device cuda:0: Out of memory allocating 64 bytes"):
        OPERATIONS[operation](cuda)
    for error in (CUDARuntimeError("illegal address"), CUDADriverError("illegal address")):
        cupy.fails = error
        with pytest.raises(DeviceFailed, match="device cuda:0: illegal address"):
            OPERATIONS[operation](cuda)


def full():
    error = CUDADriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    error.status = 2
    return error


def test_memory_that_the_driver_lacks_for_a_kernels_code_is_taken_from_the_pool(cupy):
    cuda, freed = Cuda(), []
    cupy.get_default_memory_pool().free_all_blocks = lambda: freed.append(True)
    cupy.fails = full()
    launch(cuda)
    assert len(freed) == len(cupy.log) == 1


def test_memory_that_the_driver_lacks_all_the_same_is_not_there(cupy):
    def fail():
        cupy.fails = full()

    cuda = Cuda()
    cupy.get_default_memory_pool().free_all_blocks = fail
    fail()
    with pytest.raises(DeviceFull, match="device cuda:0: CUDA_ERROR_OUT_OF_MEMORY: out of memory"):
        launch(cuda)


def test_what_comes_down_lies_in_pinned_memory(cupy):
    asked, pool = [], cupy.cuda.alloc_pinned_memory
    cupy.cuda.alloc_pinned_memory = lambda size: (asked.append(size), pool(size))[1]
    cuda = Cuda()
    there = cuda.upload(np.arange(6).reshape(2, 3), np.float32)
    np.testing.assert_array_equal(cuda.download(there), [[0, 1, 2], [3, 4, 5]])
    assert asked == [24]


def test_free_memory_is_the_drivers_and_what_the_pool_keeps_unused(cupy):
    assert Cuda().free() == 7500


def test_more_shared_memory_than_is_left_of_every_blocks_is_asked_for(cupy):
    cuda, sizes = Cuda(), (1000, 48 << 10, 60_000)
    for shared in sizes:
        cuda.launch("cutouts", "cutouts", (2, 1, 1), (256, 1, 1), [np.int32(1)], shared)
    assert cupy.log == [("launch", (2, 1, 1), (256, 1, 1), shared) for shared in sizes]
    assert cuda.kernels["cutouts", "cutouts"].max_dynamic_shared_size_bytes == 60_000


def test_a_kernel_may_have_the_most_shared_memory_that_was_asked_for(cupy):
    cuda = Cuda()
    for shared in (90_000, 60_000):
        cuda.launch("cutouts", "cutouts", (2, 1, 1), (256, 1, 1), [np.int32(1)], shared)
    assert cuda.kernels["cutouts", "cutouts"].max_dynamic_shared_size_bytes == 90_000


def test_threads_that_launch_a_kernel_at_once_load_it_once(cupy):
    cuda, loaded, module = Cuda(), [], cupy.RawModule
    together, never = threading.Barrier(2, timeout=20), threading.Barrier(2, timeout=0.1)

    def load(path):
        loaded.append(path)
        with suppress(threading.BrokenBarrierError):
            never.wait()  # for a second one that loads
        return module(path)

    def work():
        together.wait()
        launch(cuda)

    cupy.RawModule = load
    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 1
    assert len(cupy.log) == 2


def test_each_thread_has_the_stream_that_it_is_on_and_waits_there(cupy):
    cuda = Cuda()
    first, second = cuda.stream(), cuda.stream()
    with cuda.on(first):
        mark = cuda.mark()
        with ThreadPoolExecutor(1) as other, cuda.on(second):
            cuda.after(mark)
            assert other.submit(cupy.cuda.get_current_stream).result() is DEFAULT
        assert cupy.cuda.get_current_stream() is first
    assert first.given == [("record", mark)]
    assert second.given == [("wait", mark)]
