"""gpudiff.edges.avro_rows: the bytes that a general encoder writes."""

import io
import struct

import fastavro
import numpy as np
import pytest

from gpudiff.edges.avro_rows import ROWS, encode_rows, long

SCHEMA = {
    "type": "record",
    "name": "row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "band", "type": ["null", "string"]},
        {"name": "x", "type": "float"},
        {"name": "y", "type": ["null", "double"]},
        {"name": "seen", "type": "boolean"},
        {"name": "count", "type": ["null", "int"]},
        {"name": "unit", "type": "string"},
    ],
}
COLUMNS = {
    "id": np.array([1, -(2**60)]),
    "band": np.array(["", "µ"]),
    "x": np.array([0.5, np.nan]),
    "y": np.ma.masked_array([np.nan, 1e300], [True, False]),
    "seen": np.array([True, False]),
    "count": np.ma.masked_array([-(2**31), 7], [False, True]),
}


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, -64, -65, 2**40, 2**63 - 1, -(2**63)])
def test_a_long_is_what_avro_says(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    assert long(value) == out.getvalue()


def test_rows_are_what_a_general_encoder_writes():
    shared = {"unit": "µJy"}
    for n, row in enumerate(encode_rows(SCHEMA, COLUMNS, shared)):
        out = io.BytesIO()
        record = {**shared, **{name: values.tolist()[n] for name, values in COLUMNS.items()}}
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), record)
        assert row == out.getvalue()


def test_no_rows_make_no_records():
    assert encode_rows(SCHEMA, {name: column[:0] for name, column in COLUMNS.items()}, {"unit": ""}) == []


def test_a_null_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match="unit"):
        encode_rows(SCHEMA, COLUMNS, {})


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises((struct.error, OverflowError)):
        encode_rows(SCHEMA, {**COLUMNS, "x": np.array([1e39, 0.0])}, {"unit": ""})


def test_a_null_in_a_column_without_nulls_is_refused():
    with pytest.raises(ValueError, match="seen"):
        encode_rows(SCHEMA, {**COLUMNS, "seen": np.ma.masked_array([True, True], [False, True])}, {"unit": ""})


@pytest.mark.parametrize("seed", range(3))
def test_longs_of_all_lengths_stand_side_by_side(seed):
    random = np.random.default_rng(seed)
    values = random.integers(-(2**63), 2**63 - 1, 200) >> random.integers(0, 63, 200)
    schema = {"fields": [{"name": "id", "type": "long"}]}
    assert encode_rows(schema, {"id": values}, {}) == [long(value) for value in values.tolist()]


def test_more_rows_than_are_made_together_keep_their_order():
    schema = {"fields": [{"name": "id", "type": "long"}]}
    assert encode_rows(schema, {"id": np.arange(ROWS + 2)}, {}) == [long(n) for n in range(ROWS + 2)]
