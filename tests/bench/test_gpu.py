"""The GPU script goes through all its steps, with the kernels executed on the CPU."""

import re

import pytest

from gpudiff.arrays.device import device


def test_every_step_runs_and_agrees(bench, monkeypatch, capsys):
    options = ["--emulated", "--no-tests", "--size", "96", "--half", "4", "--repeats", "1", "--detectors", "3"]
    monkeypatch.setattr("sys.argv", ["gpu.py", *options])
    assert bench("gpu").main() == 0
    out = capsys.readouterr().out
    assert re.search(r"'sources': [1-9]", out)
    assert "'sources_equal': True, 'bit_identical_again': True" in out
    for kernel in ("separate", "mix", "grams", "models"):
        assert out.count(f"'kernel': '{kernel}'") == 1
    planes = ("subtract_tiles", "whiten", "score", "tops", "decode", "take_sky", "rescale")
    for kernel in (*planes, "clipped_mesh", "peaks", "resample", "put", "mark", "cutouts"):
        assert out.count(f"'kernel': '{kernel}'") == 2  # one detector, and a raft
    assert "'detectors': 3" in out
    assert re.search(r"'tops': [1-9]", out)


def test_a_share_is_that_of_the_ceiling_that_is_nearer(bench):
    ceilings = {"fma_tflop_s": 60.0, "copy_gb_s": 3000.0}
    assert bench("gpu").share({"tflop_s": 30.0, "double_tflop_s": 0.0, "gb_s": 600.0}, ceilings) == {"share": 0.5}
    assert bench("gpu").share({"tflop_s": 3.0, "double_tflop_s": 0.0, "gb_s": 2400.0}, ceilings) == {"share": 0.8}
    assert bench("gpu").share({"tflop_s": 0.0, "double_tflop_s": 27.0, "gb_s": 600.0}, ceilings) == {"share": 0.9}
    assert bench("gpu").share({"tflop_s": 3.0, "double_tflop_s": 0.0, "gb_s": 2400.0}, {}) == {}


def test_without_sfft_it_says_so(bench, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench("gpu").sfft(512) == {"said": "sfft is not installed"}


@pytest.mark.skipif(device("auto").name != "cpu", reason="there is a GPU")
def test_without_a_gpu_it_says_why_it_measures_nothing(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert bench("gpu").main() == 0
    assert "nothing measured: device cuda:0: " in capsys.readouterr().out
