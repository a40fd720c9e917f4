import numpy as np
import pytest

from gpudiff.edges.truth import read_truth, write_truth
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.scene import TRUTH
from gpudiff.model.tables import Table


def two_rows():
    columns = {c.name: np.array([1, 2], c.dtype) for c in TRUTH}
    columns |= {"kind": np.array(["transient", "moving"]), "place": np.array(["host", ""])}
    return Table(TRUTH, {**columns, "ra": np.array([359.123456789012, 0.1])})


def test_a_truth_table_comes_back_equal(tmp_path):
    write_truth(tmp_path / "truth.ecsv", two_rows())
    back = read_truth(tmp_path / "truth.ecsv")
    for column in TRUTH:
        assert (back[column.name] == two_rows()[column.name]).all(), column.name


def test_the_file_carries_units(tmp_path):
    write_truth(tmp_path / "truth.ecsv", two_rows())
    assert "unit: deg" in (tmp_path / "truth.ecsv").read_text()


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: a, datatype: int64}\na\n1\n"]
)
def test_another_table_is_refused(tmp_path, text):
    (tmp_path / "truth.ecsv").write_text(text)
    with pytest.raises(UnreadableFile, match="expected a truth table"):
        read_truth(tmp_path / "truth.ecsv")


def test_an_empty_truth_comes_back_empty(tmp_path):
    write_truth(tmp_path / "truth.ecsv", Table.empty(TRUTH))
    assert len(read_truth(tmp_path / "truth.ecsv")) == 0
