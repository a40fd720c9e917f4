"""gpudiff.edges.put_off: forced photometry that waits in a file."""

import dataclasses

import numpy as np
import pytest
from batches import WCS
from serving import a_difference, a_frame

from gpudiff.edges import put_off
from gpudiff.model.errors import UnreadableFile
from gpudiff.model.forced import PutOff
from gpudiff.model.frame import FrameId
from gpudiff.model.sky import Sky
from gpudiff.model.tables import DIASOURCE, Column, Table
from gpudiff.science.forced_photometry import forced_squares, measured

POSITION = tuple(Column(name, kind, "", "") for name, kind in (("diaObjectId", "i8"), ("ra", "f8"), ("dec", "f8")))


def known(*circle) -> Table:
    ra, dec = Sky(WCS).to_sky(np.array([20.2, 9.7, 0.1]), np.array([15.4, 6.6, 22.9]))
    return Table(POSITION, {"diaObjectId": [1, 2, 3], "ra": ra, "dec": dec})


def a_putting_off() -> tuple[PutOff, Table]:
    """What is put off of a small frame, and its forced photometry as it is without that."""
    difference = a_difference(a_frame(7), a_frame(0))
    squares = forced_squares(difference, Table.empty(DIASOURCE), known, 1.0)
    words = FrameId(7, 0, 4), "ab" * 16, "adu", None, 150.0, float("nan")
    return PutOff(*words, squares), measured(squares)


def test_fluxes_measured_later_are_those_measured_at_once_bit_by_bit(tmp_path):
    what, at_once = a_putting_off()
    put_off.write(tmp_path, what)
    later = measured(put_off.read(put_off.path_in(tmp_path, what.frame)).squares)
    assert len(later) == 3
    for name, column in at_once.columns.items():
        assert later[name].dtype == column.dtype, name
        np.testing.assert_array_equal(later[name], column, err_msg=name)


def test_what_is_said_of_the_frame_comes_back(tmp_path):
    what, _ = a_putting_off()
    size = put_off.write(tmp_path, what)
    path = put_off.path_in(tmp_path, what.frame)
    assert path.stat().st_size == size
    back = put_off.read(path)
    for field in dataclasses.fields(PutOff)[:-1]:
        assert str(getattr(back, field.name)) == str(getattr(what, field.name))
    assert put_off.about(path)["frame"] == what.frame


@pytest.mark.parametrize("keep", [0, 30, 2000])
def test_a_torn_file_is_refused_by_name(tmp_path, keep):
    what, _ = a_putting_off()
    put_off.write(tmp_path, what)
    path = put_off.path_in(tmp_path, what.frame)
    path.write_bytes(path.read_bytes()[:keep])
    for read in (put_off.read, put_off.about):
        with pytest.raises(UnreadableFile, match=path.name):
            read(path)
