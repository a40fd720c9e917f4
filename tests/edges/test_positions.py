"""gpudiff.edges.positions: known positions from a table."""

import pytest

from gpudiff.edges.positions import known_positions
from gpudiff.model.errors import UnreadableFile

HEAD = "diaObjectId,ra,dec\n"


@pytest.mark.parametrize("name", ["known.csv", "KNOWN.CSV"])
def test_objects_within_a_circle_are_found_across_ra_0_and_at_the_pole(tmp_path, name):
    path = tmp_path / name
    path.write_text(HEAD + "1,359.9,10\n2,0.1,10\n3,1.0,10\n4,77,-89.95\n5,257,-89.95\n")
    cone = known_positions(str(path))
    assert sorted(cone(0.0, 10.0, 0.2)["diaObjectId"].tolist()) == [1, 2]
    assert sorted(cone(10.0, -90.0, 0.1)["diaObjectId"].tolist()) == [4, 5]


def test_ids_of_63_bits_are_kept(tmp_path):
    (tmp_path / "known.csv").write_text(HEAD + f"{2**62 + 1},10,20\n")
    assert known_positions(str(tmp_path / "known.csv"))(10, 20, 1)["diaObjectId"].tolist() == [2**62 + 1]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", HEAD + "x,1,2\n", ""])
def test_a_file_that_is_no_such_table_is_refused(tmp_path, text):
    (tmp_path / "known.csv").write_text(text)
    with pytest.raises(UnreadableFile, match=r"known\.csv"):
        known_positions(str(tmp_path / "known.csv"))


def test_nothing_is_known_without_a_table():
    assert len(known_positions("")(1.0, 2.0, 3.0)) == 0
