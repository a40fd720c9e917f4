"""What is installed: the wheel's files, and that a CPU install asks for nothing of CUDA."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CUDA = re.compile(r"cupy|cuda|cucim|nvidia|numba", re.IGNORECASE)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of this checkout, built without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=60)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    """The wheel's METADATA."""
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return HeaderParser().parsestr(wheel.read(name).decode())


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "gpudiff").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert files <= set(wheel.namelist())


def test_the_wheel_holds_every_cuda_kernel_byte_for_byte(wheel):
    kernels = sorted((ROOT / "kernels").glob("*.cu"))
    assert kernels
    for kernel in kernels:
        assert wheel.read(f"gpudiff/kernels/{kernel.name}") == kernel.read_bytes()


@pytest.mark.parametrize("ending", ["/LICENSE", "WIRE.md", "ALGORITHMS.md", ".html.j2"])
def test_the_wheel_holds_the_licence_the_texts_and_the_report_page(wheel, ending):
    assert [name for name in wheel.namelist() if name.endswith(ending)]


def test_the_wheel_holds_no_tests_and_no_benchmarks(wheel):
    assert {name.split("/")[0].split("-")[0] for name in wheel.namelist()} == {"gpudiff"}


def test_a_plain_install_asks_for_no_cuda_package(metadata):
    plain = [one for one in metadata.get_all("Requires-Dist") if "extra ==" not in one]
    assert any(one.startswith("numpy") for one in plain)
    assert not [one for one in plain if CUDA.search(one)]


@pytest.mark.parametrize(
    ("extra", "package"),
    [("gpu", "cupy-cuda13x"), ("gpu", "cucim-cu13"), ("pycuda", "pycuda"), ("test", "pytest"), ("lint", "ruff")],
)
def test_an_extra_asks_for_its_package(metadata, extra, package):
    asked = [one for one in metadata.get_all("Requires-Dist") if re.search(f"extra == ['\"]{extra}['\"]", one)]
    assert any(one.startswith(package) for one in asked)


def test_the_wheel_is_of_the_version_that_the_command_prints(metadata):
    version = subprocess.run(
        [sys.executable, "-m", "gpudiff", "--version"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert version.split() == ["gpudiff", metadata["Version"]]


def test_the_wheel_asks_for_the_python_that_is_supported(metadata):
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert metadata["Requires-Python"] == asked == ">=3.11"


def test_an_install_that_pip_cannot_do_ends_with_one_line_that_says_what_is_needed(tmp_path):
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\ncase "$*" in *" install "*) echo "ERROR: no network" >&2; exit 1;; esac\n')
    python.chmod(0o755)
    command = ["sh", str(ROOT / ".ci/venv"), str(tmp_path / "venv")]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    *pips, last = ended.stderr.splitlines()
    assert (ended.returncode, pips) == (1, ["ERROR: no network"])
    assert "package index" in last
