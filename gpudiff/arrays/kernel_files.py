"""Where the sources of CUDA kernels are, where compiled ones are kept, and the compiler that is a program."""

import importlib.resources
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from gpudiff.model.errors import DeviceFailed


def kernel_source(stem: str) -> str:
    """The text of kernels/<stem>.cu, from the installed package or from a checkout."""
    installed = Path(str(importlib.resources.files("gpudiff"))) / "kernels"
    folder = installed if installed.is_dir() else installed.parents[1] / "kernels"
    path = folder / f"{stem}.cu"
    if not path.is_file():
        raise DeviceFailed(f"kernel {stem}: expected its source in {path}")
    return path.read_text()


def cache_folder() -> Path:
    """Where compiled kernels are kept between runs; made if it is not there."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "gpudiff"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a file that other processes see whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    Path(name).replace(path)


def compile_with_nvcc(source: str, options: Sequence[str]) -> bytes:
    """Machine code by the toolkit's nvcc on the PATH."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(source)
        command = ["nvcc", "--cubin", *options, "-o", str(path.with_suffix(".cubin")), str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise DeviceFailed(f"nvcc refused a kernel: {done.stderr.strip()}")
        return path.with_suffix(".cubin").read_bytes()
