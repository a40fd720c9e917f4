"""What a command of two seconds does to begin sooner and in less memory: allocation, and the order of imports."""

import contextlib
import ctypes
import gc
import importlib.util
import sys
import types

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8
"""Of glibc's mallopt (malloc.h)."""
OF_A_TILE = 32 << 20
"""Bytes up to which freed memory is kept for what comes next: a tile's arrays, not planes (glibc's most)."""


def share_memory() -> None:
    """Let all threads allocate from one arena, so that one takes up what another frees; only glibc has several.

    For a few threads that compute more than they allocate; it saves a tenth of the memory of a large pair.  What
    is freed stays, but for planes: memory that is new from the kernel costs an FFT of a tile twice its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, OF_A_TILE)
        mallopt(M_TRIM_THRESHOLD, 8 * OF_A_TILE)


def load_engine() -> None:
    """Import what the rest of the command imports.

    The garbage collector rests meanwhile, and leaves alone what was loaded: it would look at it again and again.
    """
    gc.disable()
    put_off("numpy.f2py", "numpy.testing")  # which SciPy would load with all names of numpy, and nobody here uses
    import gpudiff.edges.reliability_model
    import gpudiff.science.reliability
    import gpudiff.science.subtract  # noqa: F401

    gc.freeze()
    gc.enable()


def leave_out_units() -> None:
    """Import what astropy's FITS needs of astropy.utils without astropy.units, a tenth of a second.

    Two types are all that it takes from there, for a disk's free space in units of the caller's choice.  Who
    imports astropy.units later gets them all.
    """
    if "astropy.units" in sys.modules:
        return
    sys.modules["astropy.units"] = stand_in = types.ModuleType("astropy.units")
    stand_in.Quantity = stand_in.UnitBase = type("LeftOut", (), {})  # type: ignore[attr-defined]
    with contextlib.suppress(ImportError, AttributeError):  # one that needs more gets it with the next import
        import astropy.utils.data  # noqa: F401
    del sys.modules["astropy.units"]


def put_off(*names: str) -> None:
    """Import modules of packages that are loaded when something in them is first used, and not before."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None or name in sys.modules:
            continue
        loader = spec.loader = importlib.util.LazyLoader(spec.loader)
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        loader.exec_module(module)
        package, _, own = name.rpartition(".")
        setattr(sys.modules[package], own, module)
