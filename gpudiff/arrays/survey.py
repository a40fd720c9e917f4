"""What could compute on this machine, and what is missing for the rest."""

import os
from typing import Any

from gpudiff.arrays.cubin import compile_with_nvrtc, cuda_compiler
from gpudiff.arrays.device import Cuda, PyCuda, loaded_cupy
from gpudiff.model.errors import DeviceFailed


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
        return "NVRTC" if cuda_compiler() is compile_with_nvrtc else "nvcc"
    except DeviceFailed as error:
        return str(error).partition(": ")[2]


def _gpus() -> list[dict[str, Any]]:
    """The GPUs that CuPy sees."""
    try:
        cupy = loaded_cupy("cuda", 0)
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
