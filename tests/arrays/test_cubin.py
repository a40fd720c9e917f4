"""gpudiff.arrays.cubin: the cache of compiled kernels, and what is missing."""

import sys

import pytest

from gpudiff.arrays.cubin import cubin
from gpudiff.model.errors import DeviceFailed


def test_a_kernel_is_compiled_once_for_each_architecture_and_option(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def compiler(source, options):
        calls.append(options)
        return b"code %d" % len(calls)

    for _ in range(2):
        first = cubin("cutouts", "sm_90", compiler=compiler)
        second = cubin("cutouts", "sm_120", compiler=compiler)
        third = cubin("cutouts", "sm_90", ["K=3"], compiler=compiler)
    assert [path.read_bytes() for path in (first, second, third)] == [b"code 1", b"code 2", b"code 3"]
    assert calls[2] == ["--gpu-architecture=sm_90", "--std=c++17", "-DK=3"]


def test_without_any_compiler_the_error_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setitem(sys.modules, "cupy.cuda", None)
    with pytest.raises(DeviceFailed, match="no CUDA compiler: expected NVRTC"):
        cubin("cutouts", "sm_90")
