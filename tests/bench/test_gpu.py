"""The GPU script goes through all its steps, with the kernels executed on the CPU."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from emulated import Emulated
from scipy import ndimage

from gpudiff.arrays.device import Cuda, PyCuda, device


def test_every_step_runs_and_agrees(bench, monkeypatch, capsys):
    options = ["--emulated", "--no-tests", "--size", "96", "--half", "4", "--repeats", "1", "--detectors", "2"]
    monkeypatch.setattr("sys.argv", ["gpu.py", *options])
    assert bench("gpu").main() == 0
    out = capsys.readouterr().out
    assert re.search(r"'sources': [1-9]", out)
    assert "'agrees': True" in out
    assert "'bit_identical_again': True" in out
    once = (
        "separate mix grams models count_pairs write_pairs fit_points forced aperture line_powers moments "
        "light middle judge keep solve"
    )
    for kernel in once.split():
        assert out.count(f"'kernel': '{kernel}'") == 1
    twice = (
        "subtract_tiles whiten score tops weighed decode take_sky lift rescale blank bright spread "
        "cell_sums fitted changed sigmas packed columns joined for_length farthest pixels stamps lattice "
        "beyond cell_means light_round put mark cutouts clipped_mesh peaks resample"
    )
    for kernel in twice.split():
        assert out.count(f"'kernel': '{kernel}'") == 2  # one detector, and a raft
    assert out.count("'detectors': 2") == 2  # the kernels alone, and the whole engine
    assert re.search(r"'tops': [1-9]", out)
    assert re.search(r"'measured': [1-9]", out)


def test_a_share_is_that_of_the_ceiling_that_is_nearer(bench):
    ceilings = {"fma_tflop_s": 60.0, "copy_gb_s": 3000.0}
    assert bench("gpu").share({"tflop_s": 30.0, "double_tflop_s": 0.0, "gb_s": 600.0}, ceilings) == {"share": 0.5}
    assert bench("gpu").share({"tflop_s": 3.0, "double_tflop_s": 0.0, "gb_s": 2400.0}, ceilings) == {"share": 0.8}
    assert bench("gpu").share({"tflop_s": 0.0, "double_tflop_s": 27.0, "gb_s": 600.0}, ceilings) == {"share": 0.9}
    assert bench("gpu").share({"tflop_s": 3.0, "double_tflop_s": 0.0, "gb_s": 2400.0}, {}) == {}


def test_without_sfft_it_says_so(bench, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench("_gpu_peers").sfft(512) == {"said": "sfft is not installed"}


def test_without_cucim_it_says_so(bench, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench("_gpu_peers").labels(Emulated(), 64) == {"said": "cuCIM is not installed"}


def test_the_tops_are_checked_against_labels(bench, monkeypatch):
    """With SciPy's label in the place of cuCIM's."""
    here = Emulated()

    def label(mask, connectivity):
        return here.upload(ndimage.label(mask, np.ones((3, 3)))[0], np.int32)

    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "cucim.skimage.measure", SimpleNamespace(label=label))
    monkeypatch.setitem(sys.modules, "cupyx.scipy.ndimage", ndimage)
    found = bench("_gpu_peers").labels(here, 200)
    assert 20 < found["components"] <= found["tops"]


@pytest.mark.parametrize(
    ("y", "x"),
    [([4], [4]), ([4, 12], [5, 12]), ([4, 12, 0], [4, 12, 19])],
    ids=["none in a component", "not the brightest", "one outside"],
)
def test_a_wrong_list_of_tops_does_not_agree_with_the_labels(bench, y, x):
    score = np.zeros((20, 20), np.float32)
    score[4, 4], score[4, 5], score[12, 12] = 9, 6, -7
    labels = ndimage.label(ndimage.maximum_filter(np.abs(score), 5) >= 5, np.ones((3, 3)))[0]
    check = bench("_gpu_others").check_labels
    assert check(labels, score, np.array([4, 12]), np.array([4, 12])) == 2
    with pytest.raises(AssertionError):
        check(labels, score, np.array(y), np.array(x))


def test_a_step_that_fails_says_why_and_the_others_go_on(bench, capsys):
    done, document = bench("gpu")._done, {}
    assert not done(document, "visit", lambda: [][0])
    assert not done(document, "parity", lambda: {"agrees": False})
    assert done(document, "engine", lambda: [{"detectors": 2}])
    assert document["visit"] == {"failed": "IndexError: list index out of range"}
    assert document["engine"] == [{"detectors": 2}]
    assert "{'detectors': 2}" in capsys.readouterr().out


@pytest.mark.skipif(device("auto").name != "cpu", reason="there is a GPU")
def test_no_kernel_that_is_executed_on_the_cpu_is_among_the_tests_on_a_gpu(bench, pytestconfig):
    arguments = pytestconfig.rootpath / "tests" / "arrays" / "test_cutouts.py", "-k", bench("gpu").ON_GPU
    assert bench("gpu").pytest(["--collect-only", *arguments])["said"].startswith("no tests collected")


def test_the_tests_on_a_gpu_have_its_launchers_in_their_ids(bench, pytestconfig):
    source = (pytestconfig.rootpath / "tests" / "arrays" / "conftest.py").read_text()
    assert 'f"{type(launcher).__name__}-{launcher.name}"' in source
    for launcher in (Cuda, PyCuda):
        assert f"{launcher.__name__}-cuda:0".endswith(bench("gpu").ON_GPU)


def test_without_what_the_tests_need_it_says_so(bench, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "hypothesis" else object())
    assert bench("gpu").pytest(["tests/arrays"]) == {"status": None, "said": "hypothesis not installed"}


def test_tests_that_take_too_long_leave_time_to_measure(bench, monkeypatch):
    monkeypatch.setattr(bench("gpu"), "PATIENCE_S", 0)
    assert bench("gpu").pytest(["tests/arrays"]) == {"status": None, "said": "not done after 0 s"}


@pytest.mark.skipif(device("auto").name != "cpu", reason="there is a GPU")
def test_without_a_gpu_it_says_why_it_measures_nothing(bench, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert bench("gpu").main() == 0
    assert "nothing measured: device cuda:0: " in capsys.readouterr().out
