"""The GPU script goes through all its steps, with the kernels executed on the CPU."""

import pytest

from gpudiff.arrays.device import device


def test_every_step_runs_and_agrees(bench, monkeypatch, capsys):
    options = ["--emulated", "--no-tests", "--size", "96", "--half", "4", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", ["gpu.py", *options])
    assert bench("gpu").main() == 0
    out = capsys.readouterr().out
    assert "'sources_equal': True, 'bit_identical_again': True" in out
    for kernel in ("subtract_tiles", "whiten", "score"):
        assert out.count(f"'kernel': '{kernel}'") == 2  # one detector, and a raft


@pytest.mark.skipif(device("auto").name != "cpu", reason="there is a GPU")
def test_without_a_gpu_it_says_why_it_measures_nothing(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert bench("gpu").main() == 0
    assert "nothing measured: device cuda:0: " in capsys.readouterr().out
