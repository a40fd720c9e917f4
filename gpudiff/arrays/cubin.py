"""CUDA kernels as machine code: the compilers, and what they made before."""

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gpudiff.arrays.kernel_files import cache_folder, kernel_source, write_atomically
from gpudiff.model.errors import DeviceFailed

Compiler = Callable[[str, Sequence[str]], bytes]


def cubin(stem: str, architecture: str, defines: Sequence[str] = (), compiler: Compiler | None = None) -> Path:
    """The file of kernels/<stem>.cu compiled for `architecture` ("sm_90"), made on the first call.

    It is kept under $XDG_CACHE_HOME/gpudiff (or ~/.cache/gpudiff), named by what it depends on: source,
    options with the architecture, compiler.
    Raises DeviceFailed without source or compiler, and where that refuses.
    """
    source = kernel_source(stem)
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{define}" for define in defines)]
    compiler = compiler or cuda_compiler()
    digest = hashlib.sha256(repr((source, options, compiler.__qualname__)).encode()).hexdigest()[:24]
    path = cache_folder() / f"{stem}-{architecture}-{digest}.cubin"
    if not path.exists():
        write_atomically(path, compiler(source, options))
    return path


def compile_with_nvrtc(source: str, options: Sequence[str]) -> bytes:
    """Machine code by NVRTC, which CuPy finds; needs no driver.  Raises DeviceFailed for what it refuses."""
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source, "kernel.cu", (), ())
    try:
        nvrtc.compileProgram(program, tuple(options))
    except nvrtc.NVRTCError as error:
        raise DeviceFailed(f"NVRTC refused a kernel: {nvrtc.getProgramLog(program)}") from error
    return nvrtc.getCUBIN(program)


def compile_with_nvcc(source: str, options: Sequence[str]) -> bytes:
    """Machine code by the toolkit's nvcc on the PATH.  Raises DeviceFailed for what it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(source)
        command = ["nvcc", "--cubin", *options, "-o", str(path.with_suffix(".cubin")), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise DeviceFailed(f"nvcc refused a kernel: {done.stderr.strip()}")
        return path.with_suffix(".cubin").read_bytes()


def cuda_compiler() -> Compiler:
    """NVRTC or nvcc.  Raises DeviceFailed where there is neither."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, OSError, RuntimeError) as error:
        if shutil.which("nvcc") is None:
            message = 'expected NVRTC (pip install "gpudiff[gpu]") or nvcc on the PATH'
            raise DeviceFailed(f"no CUDA compiler: {message}, got: {error}") from error
        return compile_with_nvcc
    return compile_with_nvrtc
