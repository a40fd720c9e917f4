"""gpudiff.edges.orbits: orbit tables."""

import numpy as np
import pytest

from gpudiff.edges.orbits import SAMPLE, read_orbits
from gpudiff.model.errors import UnreadableFile

HEAD = "Principal_desig,Name,Epoch,a,e,i,Node,Peri,M,H,G\n"


def written(tmp_path, text: str):
    (tmp_path / "orbits.csv").write_text(text)
    return tmp_path / "orbits.csv"


def test_the_sample_is_a_dozen_orbits():
    made = read_orbits(SAMPLE)
    assert len(made.columns["epoch"]) == 12
    assert made.columns["designation"][0] == b"(1) Ceres"
    assert len(set(made.columns["ssObjectId"].tolist())) == 12


def test_names_in_any_case_and_julian_dates_are_read(tmp_path):
    made = read_orbits(written(tmp_path, HEAD + "K20A,Someone,2461000.5,2.5,0.1,1,2,3,4,15.0,\n"))
    assert made.columns["epoch"].tolist() == [61000.0]
    assert made.elements["node"].tolist() == [2.0]
    assert made.columns["h"].tolist() == [15.0]
    assert np.isnan(made.columns["g"][0])


def test_states_are_read(tmp_path):
    made = read_orbits(written(tmp_path, "ssObjectId,epoch,x,y,z,vx,vy,vz\n42,61000,1,2,3,4,5,6\n"))
    assert made.states.tolist() == [[1, 2, 3, 4, 5, 6]]
    assert made.columns["ssObjectId"].tolist() == [42]


def test_an_id_made_from_a_designation_is_the_same_every_time(tmp_path):
    text = "designation,epoch,x,y,z,vx,vy,vz\n2020 AB1,61000,1,2,3,4,5,6\n"
    one, two = (read_orbits(written(tmp_path, text)).columns["ssObjectId"][0] for _ in range(2))
    assert one == two > 0


def test_rows_without_a_designation_are_told_apart(tmp_path):
    made = read_orbits(written(tmp_path, HEAD + ",,61000,2.5,0.1,1,2,3,4,15,\n" * 2))
    assert made.columns["designation"].tolist() == [b"orbit 1", b"orbit 2"]
    assert len(set(made.columns["ssObjectId"].tolist())) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch,a,e\n61000,2,0\n", "expected columns epoch"),
        (HEAD + "x,y,61000,2.5,1.2,1,2,3,4,15,0\n", "row 1: expected an orbit"),
        (HEAD + "x,y,61000,-2.5,0.2,1,2,3,4,15,0\n", "row 1"),
        (HEAD + "x,y,61000,many,0.2,1,2,3,4,15,0\n", "expected numbers"),
        ("ssObjectId,epoch,a,e,i,node,peri,M\nC1,61000,2.5,0.2,1,2,3,4\n", "expected numbers"),
        ("ssObjectId,epoch,a,e,i,node,peri,M\n1,61000,2,0,1,2,3,4\n,61000,2,0,1,2,3,4\n", "row 2 has nan"),
        (HEAD + "x,y,61000,2.5,0.2,1,2,3,,15,0\nx,y,61000,2.5,0.2,1,2,3,4,15,0\n", "row 1"),
    ],
)
def test_what_is_no_orbit_is_refused(tmp_path, text, said):
    with pytest.raises(UnreadableFile, match=said):
        read_orbits(written(tmp_path, text))
