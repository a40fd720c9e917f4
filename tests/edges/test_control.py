"""gpudiff.edges.control: hello, ready, receipt."""

import pytest

from gpudiff.edges import control
from gpudiff.edges.control import Receipt
from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import FrameId


def test_a_receipt_comes_through():
    receipt = Receipt(7, 0, 42, 2, "done", sources=3, alerts=0, fingerprint="ab", latency_s=0.25)
    assert control.as_receipt(control.decode(control.receipt(receipt))) == receipt


def test_a_receipt_without_identity_has_no_frame():
    receipt = Receipt(None, None, None, None, "rejected", error="BadMessage", reason="no JSON")
    came = control.as_receipt(control.decode(control.receipt(receipt)))
    assert came.frame is None
    assert came.error == "BadMessage"


def test_a_receipt_says_its_identity_even_when_null():
    said = control.decode(control.receipt(Receipt(None, None, None, None, "rejected")))
    assert [said[key] for key in ("visit", "snap", "detector", "attempt")] == [None] * 4


def test_a_receipt_knows_its_frame_and_whether_it_is_the_last():
    assert Receipt(7, 0, 42, 1, "done").frame == FrameId(7, 0, 42)
    assert [Receipt(7, 0, 42, 1, status).final for status in ("accepted", "busy", "failed")] == [False] * 3


def test_hello_and_ready_say_what_they_should():
    assert control.decode(control.hello("me")) == {"say": "hello", "client": "me"}
    assert control.decode(control.ready(4, 60.0, 100))["credit"] == 4


@pytest.mark.parametrize(
    "parts",
    [
        [b"GDC1"],
        [b"GDC1", b"{"],
        [b"GDC1", b"[]"],
        [b"GDC1", b"{}"],
        [b"GDF1", b'{"say":"x"}'],
        [b"GDC1", b"[" * 9999],
        [b"GDC1", b'\xef\xbb\xbf{"say":"x"}'],
        [b"GDC1", '{"say":"x"}'.encode("utf-16")],
        [b"GDC1", b'{"say":"x","latency_s":NaN}'],
    ],
)
def test_a_broken_control_message_is_refused(parts):
    with pytest.raises(BadMessage):
        control.decode(parts)


def test_what_came_instead_of_a_word_is_shown():
    with pytest.raises(BadMessage, match=r"got .'say': 7"):
        control.decode([b"GDC1", b'{"say": 7}'])


def test_a_receipt_of_unknown_status_is_refused():
    with pytest.raises(BadMessage, match="lost"):
        control.as_receipt({"say": "receipt", "status": "lost"})


def test_a_reason_is_one_short_line():
    assert control.one_line("two\n lines " + "x" * 5000) == "two lines " + "x" * 990
