"""Every CUDA kernel compiles for every architecture, without spills, within its budget of registers."""

import pytest

from bench import compile_kernels
from bench.compile_kernels import ARCHITECTURES, HEAD, Build, Row, builds, compiler, report, shutil

TABLE: list[str] = [HEAD]


@pytest.fixture(scope="module")
def library():
    """The compiler; the environment of the tests has NVRTC."""
    return compiler()


@pytest.fixture(scope="module", autouse=True)
def table(pytestconfig):
    """The rows, printed when all were made."""
    yield
    with pytestconfig.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print("", *TABLE, sep="\n")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("build", builds(), ids=lambda build: "-".join((build.stem, *build.defines)))
def test_a_kernel_compiles_within_its_budget(build, architecture, library):
    row = Row(build, architecture, *report(build, architecture, library))
    TABLE.append(str(row))
    assert row.registers > 0
    assert not row.bad, f"{HEAD}\n{row}"


def test_every_kernel_is_among_them(pytestconfig):
    stems = {path.stem for path in (pytestconfig.rootpath / "kernels").glob("*.cu")}
    assert {build.stem for build in builds()} == stems


SPILLING = """extern "C" __global__ void __launch_bounds__(1024, 2) greedy(float* a) {
    float v[96];
#pragma unroll
    for (int i = 0; i < 96; i++) v[i] = a[i * 1024 + threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 96; i++) a[i * 1024 + threadIdx.x] = v[95 - i] * v[i];
}
"""


def test_a_spill_and_a_budget_that_is_passed_are_seen(monkeypatch, library):
    monkeypatch.setattr(compile_kernels, "kernel_source", lambda stem: SPILLING)
    row = Row(Build("greedy", (), 0, 255), "sm_90", *report(Build("greedy", (), 0, 255), "sm_90", library))
    assert row.spilled > 0
    assert row.bad
    assert row._replace(spilled=0, build=Build("greedy", (), 0, 8)).bad


def test_without_a_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(compile_kernels, "nvrtc_path", lambda: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="expected NVRTC"):
        compiler()
