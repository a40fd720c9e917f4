"""gpudiff.edges.notices: framed messages, whole and short."""

import dataclasses
import io
import struct

import fastavro
import pytest
from outgoing import an_outgoing

from gpudiff.edges.alert_codec import decode_alert
from gpudiff.edges.alert_schema import NOTICE_ID, SCHEMA_ID, dia_source_schema, notice_schema
from gpudiff.edges.notices import messages
from gpudiff.model.errors import BadConfiguration


def read(message) -> dict:
    assert struct.unpack(">bi", message.data[:5]) == (0, NOTICE_ID)
    return fastavro.schemaless_reader(io.BytesIO(message.data[5:]), fastavro.parse_schema(notice_schema()), None)


def test_a_whole_alert_is_passed_on_in_confluent_framing():
    batch = an_outgoing()
    found, _ = messages(batch, "full")
    assert [struct.unpack(">bi", one.data[:5]) for one in found] == [(0, SCHEMA_ID)] * 3
    assert [one.data[5:] for one in found] == list(batch.alerts)


def test_a_notice_says_what_its_alert_says():
    batch = an_outgoing()
    notice, alert = read(messages(batch, "notice")[0][1]), decode_alert(batch.alerts[1])
    for name in set(notice) & set(alert["diaSource"]):
        assert notice[name] == alert["diaSource"][name], name
    assert notice["fluxUnit"] == "nJy"
    assert notice["kind"] == alert["association"]["kind"] == "new"
    assert notice["fingerprint"] == alert["provenance"]["fingerprint"]


def test_a_notice_is_short():
    assert all(len(one.data) < 1000 for one in messages(an_outgoing(), "notice")[0])


def test_an_alert_that_does_not_decode_has_no_notice_and_is_named():
    batch = an_outgoing(broken=(1,))
    found, refused = messages(batch, "notice")
    assert [one.dia_source_id for one in found] == batch.rows["diaSourceId"][[0, 2]].tolist()
    assert [one for one, _ in refused] == [batch.rows["diaSourceId"][1]]


def test_another_tier_is_refused():
    with pytest.raises(BadConfiguration, match="half"):
        messages(an_outgoing(), "half")


def test_a_notice_made_of_the_diasource_alone_is_the_same():
    batch = an_outgoing()
    heads = [decode_alert(one)["diaSource"] for one in batch.alerts]
    alone = dataclasses.replace(batch, alerts=[b""] * 3, sources=[written(one) for one in heads])
    assert messages(alone, "notice") == messages(batch, "notice")


def written(source: dict) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(dia_source_schema()), source)
    return out.getvalue()
