"""The predicted floors, and the table of them in kernels/README.md."""

import re

import pytest

from bench import predicted
from bench.predicted import Work


def test_a_floor_is_the_larger_of_bytes_and_operations_over_their_rates():
    assert Work(3.35e12).seconds() == (pytest.approx(1), "memory")
    assert Work(3.35e12, single=134e12).seconds() == (pytest.approx(2), "float32")
    assert Work(3.35e12, single=67e12, double=102e12).seconds() == (pytest.approx(3), "float64")


def test_the_matching_convolution_takes_four_products_a_pixel_of_the_kernel():
    one = predicted.work((1000, 1000), half=10)["subtract_tiles"]
    assert one.single == 1e6 * 21 * 21 * 4 * 2
    assert one.bytes == 23e6  # two images and two masks in, three planes and one mask out


def test_whitening_fills_the_rims_of_the_tiles_too():
    assert predicted.grown((200, 200), 0, 0) == 1
    assert predicted.grown((210, 210), 15, 8) == pytest.approx((240 / 210) ** 2)


def test_every_kernel_has_a_prediction(pytestconfig):
    sources = [path.read_text() for path in (pytestconfig.rootpath / "kernels").glob("*.cu")]
    start = r'extern "C" __global__ void __launch_bounds__\([^)]*\)\s*(\w+)\('
    names = {name for source in sources for name in re.findall(start, source)}
    assert names == {part for name in predicted.work() for part in name.split(", ")}


def test_the_table_in_the_kernels_readme_is_todays():
    document = predicted.README.read_text()
    assert predicted.replaced(document) == document, "run bench/predicted.py --write"


def test_it_writes_nothing_unasked(monkeypatch, capsys):
    before = predicted.README.stat().st_mtime_ns
    monkeypatch.setattr("sys.argv", ["predicted.py"])
    assert predicted.main() == 0
    assert "| subtract_tiles |" in capsys.readouterr().out
    assert predicted.README.stat().st_mtime_ns == before
