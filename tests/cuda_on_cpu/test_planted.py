"""The layer that runs CUDA kernels on the CPU finds each planted fault, and none where there is none."""

import re
from pathlib import Path

import numpy as np
import pytest
from emulated import Emulated, KernelFault

PLANTED = Path(__file__).with_name("planted.cu")
ORDERS = [0, 1, 7]


def run(kernel: str, build: str, order: int = 0, blocks: int = 1) -> np.ndarray:
    """What the kernel leaves in 64 zeros."""
    launcher = Emulated(build, order, PLANTED)
    out = launcher.zeros((64,), np.float32)
    launcher.launch("planted", kernel, (blocks, 1, 1), (64, 1, 1), [out, np.int32(1)], shared=64 * 4)
    return out


def line_of(kernel: str) -> tuple[int, int]:
    """The first and last line of a kernel in planted.cu."""
    lines = PLANTED.read_text().splitlines()
    starts = [i for i, line in enumerate(lines, 1) if line.startswith("extern")]
    first = next(i for i in starts if f" {kernel}(" in lines[i - 1])
    return first, min((i for i in starts if i > first), default=len(lines) + 1) - 1


def fault(kernel: str, build: str, order: int = 0) -> str:
    """The report of a launch that must fail and name a line of the kernel."""
    with pytest.raises(KernelFault) as caught:
        run(kernel, build, order)
    report = str(caught.value)
    first, last = line_of(kernel)
    named = [int(line) for line in re.findall(r"planted\.cu:(\d+)|at line (\d+)", report) for line in line if line]
    assert any(first <= line <= last for line in named), report
    return report


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("build", ["check", "asan", "tsan"])
def test_a_right_kernel_passes_every_build_in_every_order(build, order):
    np.testing.assert_array_equal(run("right", build, order, blocks=3)[:1], 1)


@pytest.mark.parametrize("kernel", ["writes_beyond_an_array", "reads_before_an_array"])
def test_address_sanitizer_finds_access_outside_an_array(kernel):
    assert "heap-buffer-overflow" in fault(kernel, "asan")


def test_sanitizers_find_a_write_beyond_static_shared_memory():
    assert re.search("out of bounds|buffer-overflow", fault("writes_beyond_shared", "asan"))


def test_address_sanitizer_finds_a_write_beyond_dynamic_shared_memory():
    assert "heap-buffer-overflow" in fault("writes_beyond_dynamic_shared", "asan")


def test_undefined_behaviour_sanitizer_finds_overflow_and_misalignment():
    assert "signed integer overflow" in fault("overflows", "asan")
    assert "misaligned address" in fault("is_misaligned", "asan")


@pytest.mark.parametrize("order", ORDERS)
def test_a_missing_barrier_shows_as_nan_in_the_check_build(order):
    assert np.isnan(run("reads_before_the_barrier", "check", order)).any()


@pytest.mark.parametrize(
    "kernel",
    [
        "reads_before_the_barrier",
        "writes_after_read",
        "counts_without_atomics",
        "trusts_a_shuffle_to_order_memory",
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_thread_sanitizer_finds_a_race_in_every_order(kernel, order):
    assert "data race" in fault(kernel, "tsan", order)


def test_a_race_shows_as_a_result_that_depends_on_the_order_of_threads():
    assert len({run("writes_after_read", "check", order).tobytes() for order in ORDERS}) > 1


def test_a_result_that_depends_on_the_order_of_blocks_shows():
    results = {run("depends_on_the_order_of_blocks", "check", order, blocks=5)[0] for order in ORDERS}
    assert len(results) > 1


def test_a_barrier_that_some_threads_never_reach_is_an_error():
    assert "7 thread(s) have exited" in fault("some_threads_exit", "check")


def test_a_barrier_that_diverges_is_an_error():
    assert "divergent __syncthreads" in fault("diverges", "check")


def test_a_warp_operation_that_diverges_is_an_error():
    assert "a warp operation" in fault("diverges_within_a_warp", "check")


def test_a_kernel_called_with_the_wrong_number_of_arguments_is_an_error():
    launcher = Emulated("check", 0, PLANTED)
    with pytest.raises(KernelFault, match="expected 2 arguments, got 1"):
        launcher.launch("planted", "right", (1, 1, 1), (64, 1, 1), [launcher.zeros((64,), np.float64)])


def test_a_kernel_called_with_an_array_of_the_host_is_an_error():
    with pytest.raises(AssertionError, match="no array on the device"):
        Emulated("check", 0, PLANTED).launch("planted", "right", (1, 1, 1), (64, 1, 1), [np.zeros(64)])


@pytest.mark.parametrize("grid", [(0, 1, 1), (1, 0, 1), (1, 65536, 1), (1, 1, 65536), (2**31, 1, 1)])
def test_a_grid_that_no_gpu_takes_is_an_error(grid):
    with pytest.raises(KernelFault, match="expected a grid of 1 to"):
        Emulated("check", 0, PLANTED).launch("planted", "right", grid, (64, 1, 1), [])


def test_more_shared_memory_than_each_gpu_has_is_an_error():
    with pytest.raises(KernelFault, match="expected at most 98304 bytes of shared memory, got 98305"):
        Emulated("check", 0, PLANTED).launch("planted", "right", (1, 1, 1), (64, 1, 1), [], 98305)
