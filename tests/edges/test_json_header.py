"""JSON headers of messages, and numbers that nobody knows."""

import math

import msgspec
import pytest

from gpudiff.edges.json_header import decode_header, or_nan, or_none
from gpudiff.model.errors import BadMessage, MissingKey


class Words(msgspec.Struct):
    visit: int
    band: str | None = None


def test_what_a_header_says_is_read_and_more_is_passed_over():
    assert decode_header(b'{"visit": 7, "colour": 1}', Words, ("visit",), "words") == Words(7)


@pytest.mark.parametrize("value", [b"1e400", b"9" * 9999, b'{"a": [-1e999]}'])
def test_a_number_that_no_double_holds_is_passed_over_with_its_key(value):
    text = b'{"visit": 7, "colour": ' + value + b"}"
    assert decode_header(text, Words, ("visit",), "words") == Words(7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "words: expected JSON"),
        (b"\xff", "words: expected JSON"),
        (b'{"colour": ' + b"[" * 99999, "words: expected JSON"),
        (b"[" * 99999, "words: expected a JSON object"),
        (b"[7]", "words: expected a JSON object: Expected `object`, got `array`"),
        (b'{"visit": "7"}', "words: Expected `int`, got `str`"),
    ],
)
def test_what_is_no_header_is_refused(text, said):
    with pytest.raises(BadMessage, match=said):
        decode_header(text, Words, ("visit",), "words")


def test_every_key_that_is_missing_is_named():
    with pytest.raises(MissingKey, match="words: missing visit, band"):
        decode_header(b"{}", Words, ("visit", "band"), "words")


def test_null_is_not_a_number_here_and_what_is_no_number_is_null_there():
    assert (or_nan(1.5), or_none(1.5)) == (1.5, 1.5)
    assert math.isnan(or_nan(None))
    assert [or_none(value) for value in (math.nan, math.inf)] == [None, None]
