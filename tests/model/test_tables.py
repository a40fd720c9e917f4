"""Tables: schemas refuse what does not fit, ids come from content, flags have names."""

import numpy as np
import pytest

from gpudiff.model import tables
from gpudiff.model.tables import DIAOBJECT, DIASOURCE, Column, Table, concatenate, dia_source_ids, flag, flag_names

PAIR = (Column("n", "i4", "", "a number"), Column("flux", "f8", "adu", "a flux"))


def test_columns_take_the_dtype_of_the_schema():
    table = Table(PAIR, {"flux": [1, 2], "n": [3.0, 4.0]})
    assert list(table.columns) == ["n", "flux"]
    assert table["n"].dtype == np.int32
    assert table["flux"].dtype == np.float64


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"n": [1]}, "missing \\['flux'\\]"),
        ({"n": [1], "flux": [1], "colour": [1]}, "unknown \\['colour'\\]"),
        ({"n": [1, 2], "flux": [1]}, "one length, got \\[1, 2\\]"),
    ],
)
def test_columns_that_do_not_fit_the_schema_are_refused(columns, says):
    with pytest.raises(ValueError, match=says):
        Table(PAIR, columns)


def test_take_picks_rows_by_index_slice_or_mask():
    table = Table(PAIR, {"n": [1, 2, 3], "flux": [1.5, 2.5, 3.5]})
    assert table.take([2, 0])["n"].tolist() == [3, 1]
    assert table.take(slice(1, None))["n"].tolist() == [2, 3]
    assert table.take(table["flux"] > 2)["n"].tolist() == [2, 3]


def test_replace_leaves_the_table_it_came_from_alone():
    table = Table(PAIR, {"n": [1], "flux": [1.5]})
    assert table.replace(flux=[9.0])["flux"].tolist() == [9.0]
    assert table["flux"].tolist() == [1.5]


def test_rows_are_dicts_of_python_values():
    rows = list(Table(PAIR, {"n": [1], "flux": [1.5]}).rows())
    assert rows == [{"n": 1, "flux": 1.5}]
    assert type(rows[0]["n"]) is int


def test_an_empty_table_has_every_column_and_no_rows():
    for schema in (DIASOURCE, DIAOBJECT):
        table = Table.empty(schema)
        assert len(table) == 0
        assert {name: column.dtype for name, column in table.columns.items()} == {
            c.name: np.dtype(c.dtype) for c in schema
        }


def test_concatenate_keeps_the_order_of_rows():
    one, two = Table(PAIR, {"n": [1, 2], "flux": [0, 0]}), Table(PAIR, {"n": [3], "flux": [0]})
    assert concatenate([one, Table.empty(PAIR), two])["n"].tolist() == [1, 2, 3]


def test_ids_hold_visit_detector_and_rank():
    ids = dia_source_ids(visit=26112200123, detector=188, count=3)
    assert ids.dtype == np.int64
    assert (ids >> 24).tolist() == [26112200123] * 3
    assert ((ids >> 16) & 0xFF).tolist() == [188] * 3
    assert (ids & 0xFFFF).tolist() == [0, 1, 2]


def test_ids_of_the_largest_frame_are_positive_and_distinct():
    ids = dia_source_ids(visit=(1 << 39) - 1, detector=255, count=1 << 16)
    assert ids.min() > 0
    assert len(np.unique(ids)) == 1 << 16


@pytest.mark.parametrize(("visit", "detector", "count"), [(1 << 39, 0, 1), (-1, 0, 1), (0, 256, 1), (0, 0, 65537)])
def test_numbers_too_large_for_an_id_are_refused(visit, detector, count):
    with pytest.raises(ValueError, match="visit < 2\\*\\*39"):
        dia_source_ids(visit, detector, count)


def test_flags_keep_the_bits_that_files_and_alerts_have():
    before = "EDGE MASKED SATURATED COSMIC_RAY DIPOLE BRIGHT_STAR NOT_POINT_LIKE CENTROID POOR_SUBTRACTION"
    before += " HIGH_VARIANCE STREAK ONLY_IN_SCORE SPIKE"
    assert [tables.FLAGS[name] for name in before.split()] == list(range(13))


def test_flag_names_read_back_what_flag_wrote():
    assert flag_names(flag("STREAK", "EDGE")) == ["EDGE", "STREAK"]
    assert flag_names(flag()) == []


def test_no_column_is_named_twice():
    for schema in (DIASOURCE, DIAOBJECT):
        names = [column.name for column in schema]
        assert len(names) == len(set(names))
