"""CUDA kernels on the CPU: builds a .cu file with g++ and launches its kernels on NumPy arrays.

Each launch is a process of its own, so a sanitizer's report ends that launch alone, and nothing is preloaded.
"""

import functools
import hashlib
import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.arrays.device import Host
from gpudiff.arrays.kernel_files import cache_folder, kernel_source

HERE = Path(__file__).parent
RUNTIME = ("fiber", "block", "main")
COMMON = ["-std=c++17", "-g1", "-O1", "-Wall", "-Wno-unknown-pragmas", f"-I{HERE}"]
ADDRESS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]
# How each build compiles the kernel, compiles the layer itself, and links. The layer is not under test: what
# ThreadSanitizer would say about its bookkeeping is no fault of the kernel's.
BUILDS = {
    "check": ([], [], []),
    "asan": ([*ADDRESS, "-fsanitize-sections=gpu_shared"], [*ADDRESS, "-DCPU_ASAN"], ADDRESS),
    "tsan": (["-fsanitize=thread"], ["-DCPU_TSAN"], ["-fsanitize=thread"]),
}
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:exitcode=4",
    "UBSAN_OPTIONS": "print_stacktrace=0:exitcode=4",
    "TSAN_OPTIONS": "halt_on_error=0:exitcode=4",
}
TIMEOUT = 120  # seconds; a launch of the tests takes well under one
LARGEST_GRID = (2**31 - 1, 65535, 65535)  # CUDA C++ guide, compute capabilities
LARGEST_SHARED = 96 << 10  # bytes a block: kernels/README.md


class KernelFault(Exception):
    """A kernel did what is not allowed; the message is the layer's or the sanitizer's report."""


class OnDevice(np.ndarray):
    """An array in the emulated device's memory: the host's own arrays are none, as on a GPU."""


class Emulated(Host):
    """A Launcher that runs kernels on the CPU; `empty` gives memory full of NaN, so unwritten pixels show.

    Its memory is apart from the host's: what goes up or comes down is copied, kernels take nothing else.

    build : "check" (barriers, order), "asan" (bounds, overflow, alignment) or "tsan" (races within a block)
    order : of threads and blocks; 0 ascending, 1 descending, else the seed of a shuffle
    source : the .cu file, instead of the one that the package has under the launch's stem
    """

    def __init__(self, build: str = "check", order: int = 0, source: Path | None = None) -> None:
        self.name = f"emulated-{build}-{order}"
        self.build, self.order, self.source = build, order, source

    def upload(self, array: Any, dtype: Any) -> OnDevice:
        if isinstance(array, OnDevice) and array.dtype == dtype and array.flags.c_contiguous:
            return array
        return np.array(array, dtype, order="C").view(OnDevice)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> OnDevice:
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(0xFF)
        return array.view(OnDevice)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> OnDevice:
        return np.zeros(shape, dtype).view(OnDevice)

    def copy(self, array: Any) -> OnDevice:
        return array.copy().view(OnDevice)

    def download(self, array: Any) -> np.ndarray:
        assert isinstance(array, OnDevice), "expected an array on the device"
        return np.array(array)

    def launch(
        self,
        stem: str,
        kernel: str,
        grid: tuple[int, int, int],
        block: tuple[int, int, int],
        arguments: Sequence[Any],
        shared: int = 0,
        defines: Sequence[str] = (),
    ) -> None:
        if not all(1 <= blocks <= most for blocks, most in zip(grid, LARGEST_GRID, strict=True)):
            raise KernelFault(f"{kernel}: expected a grid of 1 to {LARGEST_GRID} blocks, got {grid}")
        if not 0 <= shared <= LARGEST_SHARED:
            raise KernelFault(f"{kernel}: expected at most {LARGEST_SHARED} bytes of shared memory, got {shared}")
        source = self.source.read_text() if self.source else kernel_source(stem)
        program = build_program(source, stem, self.build, defines)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "arguments"
            file.write_bytes(b"".join(packed(argument) for argument in arguments))
            words = [str(file), kernel, self.order, shared, *grid, *block]
            run_program([str(program), *map(str, words)])
            unpack(file.read_bytes(), arguments)


def packed(argument: Any) -> bytes:
    """One argument as main.cpp reads it."""
    assert isinstance(argument, OnDevice | np.generic), f"{type(argument)} is no array on the device, no CUDA type"
    content = argument.tobytes()
    return struct.pack("=QQ", isinstance(argument, np.ndarray), len(content)) + content


def unpack(content: bytes, arguments: Sequence[Any]) -> None:
    """Copies what the kernel left into the arrays it was given."""
    offset = 0
    for array in (argument for argument in arguments if isinstance(argument, np.ndarray)):
        array[...] = np.frombuffer(content, array.dtype, array.size, offset).reshape(array.shape)
        offset += array.nbytes


def run_program(command: list[str]) -> None:
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    if "unexpected memory mapping" in done.stderr:  # ThreadSanitizer of GCC < 14 where addresses are very random
        command = ["setarch", os.uname().machine, "--addr-no-randomize", *command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    if done.returncode:
        raise KernelFault(done.stderr.strip() or f"{command[0]} ended with status {done.returncode}")


def build_program(source: str, stem: str, build: str, defines: Sequence[str]) -> Path:
    """The program that launches the kernels of one .cu file, made on the first call and kept in the cache."""
    for_kernel, for_layer, for_link = BUILDS[build]
    layer = [build_object((HERE / f"{name}.cpp").read_text(), name, for_layer) for name in RUNTIME]
    options = [*for_kernel, *(f"-D{define}" for define in defines)]
    kernel = build_object(translation_unit(source, stem), stem, options)
    return compiled([str(kernel), *map(str, layer)], [*for_link, *map(str, [kernel, *layer])], stem, ".program")


def build_object(text: str, stem: str, options: Sequence[str]) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{stem}.cpp"
        path.write_text(text)
        headers = "".join(header.read_text() for header in sorted(HERE.glob("*.h")))
        return compiled([text, headers], [*COMMON, *options, "-c", str(path)], stem, ".o")


def compiled(inputs: list[str], options: list[str], stem: str, suffix: str) -> Path:
    """What g++ makes, kept under a name that depends on inputs and options; safe in parallel."""
    stable = [option for option in options if not option.endswith(".cpp")]
    digest = hashlib.sha256(repr((inputs, stable, compiler_version())).encode()).hexdigest()[:24]
    folder = cache_folder() / "cuda_on_cpu"
    folder.mkdir(exist_ok=True)
    path = folder / f"{stem}-{digest}{suffix}"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            made = Path(fresh) / path.name
            run_compiler([*options, "-o", str(made)])
            made.replace(path)
    return path


def run_compiler(options: Sequence[str]) -> str:
    try:
        done = subprocess.run(["g++", *options], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError("the tests of CUDA kernels need g++ (Debian: apt install g++)") from error
    if "cannot find -l" in done.stderr or "cannot find lib" in done.stderr:
        raise RuntimeError(f"g++ has no sanitizer runtime (libasan, libubsan, libtsan): {done.stderr.strip()}")
    if done.returncode:
        raise RuntimeError(f"g++ refused: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def compiler_version() -> str:
    return run_compiler(["--version"])


def translation_unit(source: str, stem: str) -> str:
    """The .cu file as C++: header before it, an entry for each kernel behind it, its own line numbers kept.

    Two declarations are rewritten: `extern __shared__ T name[];`, which no C++ spelling can mean, and templates of
    functions, to static ones: their shared arrays are then of one kind with all others, as g++ 14 and later want
    of what shares a section.
    """
    kernels = re.findall(
        r'extern\s+"C"\s+__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(', source
    )
    dynamic = r"extern\s+__shared__\s+(\w+)\s+(\w+)\[\];"
    source = re.sub(dynamic, r"\1* \2 = (\1*)cpu::dynamic_shared();", source)
    source = re.sub(r"(template <[^>]*>) (__device__)", r"\1 static \2", source)
    entries = "".join(f"CPU_ENTRY({kernel})\n" for kernel in kernels)
    return f'#include "cuda_cpu.h"\n#line 1 "{stem}.cu"\n{source}\n{entries}'
