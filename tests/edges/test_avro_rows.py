"""gpudiff.edges.avro_rows: the bytes that a general encoder writes."""

import io
import struct

import fastavro
import pytest

from gpudiff.edges.avro_rows import encode_rows, long

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
COLUMNS = {"id": [1, -(2**60)], "x": [0.5, float("nan")], "y": [None, 1e300], "seen": [True, False]}


@pytest.mark.parametrize("value", [0, 1, -1, 63, 64, -64, -65, 2**40, 2**63 - 1, -(2**63)])
def test_a_long_is_what_avro_says(value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, "long", value)
    assert long(value) == out.getvalue()


def test_rows_are_what_a_general_encoder_writes():
    shared = {"unit": "µJy", "count": -3}
    for n, row in enumerate(encode_rows(SCHEMA, COLUMNS, shared)):
        out = io.BytesIO()
        record = {**shared, **{name: values[n] for name, values in COLUMNS.items()}}
        fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), record)
        assert row == out.getvalue()


def test_no_rows_make_no_records():
    assert encode_rows(SCHEMA, {name: [] for name in COLUMNS}, {"unit": ""}) == []


def test_a_null_where_there_is_none_is_refused():
    with pytest.raises(ValueError, match="unit"):
        encode_rows(SCHEMA, COLUMNS, {})


def test_a_number_that_does_not_fit_is_refused():
    with pytest.raises((struct.error, OverflowError)):
        encode_rows(SCHEMA, {**COLUMNS, "x": [1e39, 0.0]}, {"unit": ""})
