"""gpudiff devices."""

import json

import pytest

from gpudiff.__main__ import main
from gpudiff.arrays.device import device


def test_the_cpu_is_always_there(capsys):
    assert main(["devices", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["devices"][0]["name"] == "cpu"
    assert said["devices"][0]["cores"] >= 1
    assert said["auto"] == device("auto").name


def test_what_is_missing_is_said_in_words(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cupy", None)
    assert main(["devices"]) == 0
    out = capsys.readouterr().out
    assert 'CuPy is not installed (pip install "gpudiff[gpu]")' in out
    assert "cores" in out


def test_auto_is_the_cpu_where_cupy_finds_no_gpu(monkeypatch):
    from gpudiff.arrays import device as module
    from gpudiff.model.errors import DeviceFailed

    class NoGpu:
        def __init__(self, index):
            raise DeviceFailed("no usable NVIDIA driver")

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert device("auto", NoGpu).name == "cpu"
    with pytest.raises(DeviceFailed, match="no usable NVIDIA driver"):
        device("cuda", NoGpu)
