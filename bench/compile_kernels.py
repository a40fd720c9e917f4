"""Compiles every CUDA kernel for every architecture and prints registers, shared memory and spills.

Needs no GPU: NVRTC (`pip install nvidia-cuda-nvrtc`) or nvcc on the PATH. Ends with status 1 if a kernel
spills registers or uses more of them than its budget.
"""

import argparse
import ctypes
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gpudiff.arrays import measure, normal, psf, score_tiles, subtract_tiles
from gpudiff.arrays.kernel_files import kernel_source

ARCHITECTURES = ("sm_80", "sm_90", "sm_100", "sm_120")
SIDES = (21, 31, 63)
FILTERS = ((1, 31), (21, 31), (49, 63))
"""Sides of whitening filter and PSF."""
PLAIN = (
    "cutouts:32 components:40 mesh:48 peaks:32 resample:96 retouch:40 zone_join:48 quiet_sky:40 streaks:40 "
    "residual_sky:136 star_light:48 trails:56 cosmic_rays:32"
)
"""Budgets of the kernels without options that ask for no shared memory at their launch."""


class Build(NamedTuple):
    """One kernel with its options, the shared memory that its launch asks for, and its register budget."""

    stem: str
    defines: tuple[str, ...]
    shared: int
    budget: int


def builds() -> list[Build]:
    """What is compiled: each kernel, the specialised ones at the sides we use most and at the largest."""
    found = [Build(stem, (), 0, int(budget)) for stem, budget in (one.split(":") for one in PLAIN.split())]
    found += [
        Build("measure", (), measure.shared_bytes(measure.LARGEST), 96),
        Build("moments", (), 16 * 49, 64),
        *(Build("psf", (f"TERMS={terms}",), psf.shared_bytes(65), 128) for terms in (1, 3, 6)),
        *(Build("afar", (f"VALUE={kind}",), 0, 32) for kind in ("float", "unsigned char")),
        *(Build("decode", (f"RAW={kind}",), 0, 64) for kind in ("unsigned short", "float")),
        Build("basis", (), 4 * (49 + 62) * 49, 48),  # the largest stamp with the largest kernel
        Build("normal", (), normal.shared_bytes(38), 48),
    ]
    for side in SIDES:
        warps = subtract_tiles.warps_for(side)
        shared = subtract_tiles.shared_bytes(side, warps)
        found.append(Build("subtract_tiles", (f"K={side}", f"WARPS={warps}"), shared, 128))
    for filter_side, psf_side in FILTERS:
        warps = score_tiles.warps_for(filter_side, psf_side)
        defines = (f"S={filter_side}", f"P={psf_side}", f"WARPS={warps}")
        found.append(Build("score_tiles", defines, score_tiles.shared_bytes(psf_side, 2, warps), 72))
    return found


def nvrtc_path() -> Path | None:
    """The library of the nvidia-cuda-nvrtc wheel, if it is installed."""
    package = importlib.util.find_spec("nvidia")
    for folder in package.submodule_search_locations or () if package else ():
        for path in sorted(Path(folder).glob("**/libnvrtc.so.*")):
            return path
    return None


def log_of_nvrtc(library: Path, source: str, options: Sequence[str]) -> str:
    """The compiler's log with ptxas's report."""
    nvrtc = ctypes.CDLL(str(library))
    program = ctypes.c_void_p()
    nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"kernel.cu", 0, None, None)
    words = [*options, "--ptxas-options=-v"]
    array = (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
    status = nvrtc.nvrtcCompileProgram(program, len(words), array)
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    text = log.value.decode()
    if status:
        sys.exit(f"NVRTC refused: {text}")
    return text


def log_of_nvcc(source: str, options: Sequence[str]) -> str:
    """The same by nvcc."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cu"
        path.write_text(source)
        command = ["nvcc", "-cubin", "-Xptxas", "-v", *options, "-o", f"{path}.cubin", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"nvcc refused: {done.stderr}")
    return done.stderr


def report(build: Build, architecture: str, library: Path | None) -> tuple[int, int, int]:
    """Registers a thread, bytes spilled (stores and loads) and bytes of static shared memory."""
    options = [f"--gpu-architecture={architecture}", "--std=c++17", *(f"-D{define}" for define in build.defines)]
    source = kernel_source(build.stem)
    log = log_of_nvrtc(library, source, options) if library else log_of_nvcc(source, options)
    registers = max(int(n) for n in re.findall(r"Used (\d+) registers", log))
    spilled = sum(int(n) for n in re.findall(r"(\d+) bytes spill", log))
    static = max((int(n) for n in re.findall(r"(\d+) bytes smem", log)), default=0)
    return registers, spilled, static


class Row(NamedTuple):
    """What a compiler said of one kernel for one architecture."""

    build: Build
    architecture: str
    registers: int
    spilled: int
    static: int

    @property
    def bad(self) -> bool:
        """Whether it spills or has more registers than its budget."""
        return self.spilled > 0 or self.registers > self.build.budget

    def __str__(self) -> str:
        options, shared = " ".join(self.build.defines), self.static + self.build.shared
        numbers = f"{self.registers:>10}{self.build.budget:>8}{self.spilled:>9}{shared:>8}"
        return f"{self.build.stem:<16}{options:<22}{self.architecture:<8}{numbers}{'  FAILS' if self.bad else ''}"


HEAD = f"{'kernel':<16}{'options':<22}{'arch':<8}{'registers':>10}{'budget':>8}{'spilled':>9}{'shared':>8}"


def compiler() -> Path | None:
    """NVRTC's library; None for nvcc; ends the program where there is neither."""
    library = nvrtc_path()
    if library is None and shutil.which("nvcc") is None:
        sys.exit("expected NVRTC (pip install nvidia-cuda-nvrtc) or nvcc on the PATH")
    return library


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    library, failed = compiler(), 0
    print(f"compiler: {library or shutil.which('nvcc')}\n{HEAD}")
    for build in builds():
        for architecture in ARCHITECTURES:
            row = Row(build, architecture, *report(build, architecture, library))
            failed += row.bad
            print(row)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
