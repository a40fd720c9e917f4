"""What one kind of sink does and the others do not."""

import io
import json
import re
import struct

import fastavro
import pytest
from outgoing import an_outgoing
from serving import until
from sinking import consumed, free_port, heard, in_topic, subscriber

from gpudiff.edges.alert_schema import SCHEMA_ID, alert_schema
from gpudiff.edges.sinks import make_sink
from gpudiff.edges.sinks.kafka import LARGEST_MESSAGE, Kafka
from gpudiff.edges.sinks.memory import Memory
from gpudiff.edges.sinks.voevent import VOEventAuthor
from gpudiff.edges.sinks.zeromq import KEY, ZeroMQ
from gpudiff.edges.transport import ServerKeys, new_pair
from gpudiff.model.errors import NeighbourLost


def test_a_subscriber_chooses_tier_and_kind_by_topic():
    sink = make_sink("zmq+tcp://127.0.0.1:0")
    with subscriber(sink.endpoint, b"full.new.") as reader:
        found = heard(sink, an_outgoing(2), reader)
    sink.close()
    assert [topic for topic, _, _ in found] == [b"full.new.r"] * 2
    number, body = struct.unpack(">bi", found[0][2][:5])[1], found[0][2][5:]
    assert number == SCHEMA_ID
    assert fastavro.schemaless_reader(io.BytesIO(body), fastavro.parse_schema(alert_schema()), None)["diaObject"]


def test_messages_of_a_topic_are_numbered():
    sink = make_sink("zmq+tcp://127.0.0.1:0?tier=notice")
    with subscriber(sink.endpoint) as reader:
        numbers = [KEY.unpack(key)[2] for _, key, _ in heard(sink, an_outgoing(3), reader)]
    sink.close()
    assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_a_subscriber_that_does_not_read_is_left_behind_and_counted():
    sink = ZeroMQ("tcp://127.0.0.1:*", ["full"], backlog=2, patience_s=0.05)
    with subscriber(sink.endpoint, backlog=1) as reader:
        heard(sink, an_outgoing(1), reader)
        batch = an_outgoing(100)  # 7 MB, more than both ends' buffers together take
        for _ in range(10):
            assert sink.publish(batch).delivered == 100
            if sink.overruns:
                break
    sink.close()
    assert sink.overruns


def test_only_a_subscriber_with_an_allowed_key_hears_a_sink_with_keys():
    (public, secret), own = new_pair(), new_pair()
    sink = make_sink("zmq+tcp://127.0.0.1:0?tier=notice", ServerKeys(public, secret, lambda key: key == own[0]))
    with subscriber(sink.endpoint) as stranger, subscriber(sink.endpoint, keys=(public, *own)) as friend:
        assert len(heard(sink, an_outgoing(2), friend)) == 2
        assert not stranger.poll(0)
        until(lambda: sink.refused()["no key"])
    sink.close()
    assert not sink.refused()


WORD = {"filter": "bright", "owner": "a@b.c", "reason": 'took > "50" ms', "at_tai": 61000.5}


def test_a_word_is_a_message_of_a_topic_of_its_own():
    sink = make_sink("zmq+tcp://127.0.0.1:0")
    with subscriber(sink.endpoint, b"word.") as reader:
        while not reader.poll(20):
            sink.tell("filter-off", WORD)
        topic, key, said = reader.recv_multipart()
    sink.close()
    assert (topic, json.loads(said)) == (b"word.filter-off", WORD)
    assert KEY.unpack(key)[:2] == (0, 0)


def test_a_word_has_a_header_of_its_own_in_kafka(kafka_broker, topic):
    sink = make_sink(f"kafka://{kafka_broker}/{topic}")
    sink.tell("filter-off", WORD)
    sink.close()
    (message,) = in_topic(kafka_broker, topic, 1)
    assert message.headers() == [("word", b"filter-off")]
    assert json.loads(message.value()) == WORD


def test_a_word_is_an_event_of_the_role_utility(voevent_broker):
    voeventparse = pytest.importorskip("voeventparse")  # cannot be installed from Python 3.12 on
    VOEventAuthor(*voevent_broker.server_address).tell("filter-off", WORD)
    read = voeventparse.loads(voevent_broker.events[0])
    voeventparse.assert_valid_as_v2_0(read)
    assert read.get("role") == "utility"
    assert {param.get("name"): param.get("value") for param in read.What.Param} == {
        name: str(value) for name, value in WORD.items()
    }


def test_words_have_names_of_what_they_say(voevent_broker, monkeypatch):
    monkeypatch.setattr("gpudiff.edges.sinks.voevent.tai_now", iter((61374.0, 61374.0, 61374.1)).__next__)
    author = VOEventAuthor(*voevent_broker.server_address)
    for detector in (0, 1, 0):  # the last is said again, as after a crash
        author.tell("withdrawn", {"visit": 7, "detector": detector})
    first, other, again = [re.search(b'ivorn="([^"]+)"', event)[1] for event in voevent_broker.events]
    assert first != other
    assert again == first


def test_kafka_takes_whole_alerts_and_keys_them_by_object(kafka_broker, topic):
    batch = an_outgoing(2)
    sink = make_sink(f"kafka://{kafka_broker}/{topic}")
    assert sink.publish(batch).delivered == 2
    assert [data[5:] for _, _, data in consumed(kafka_broker, topic, 2)] == list(batch.alerts)
    sink.close()


def test_kafka_refuses_what_is_too_large_by_name(kafka_broker, topic):
    batch = an_outgoing(1)
    large = type(batch)(batch.rows, [bytes(LARGEST_MESSAGE + 1)], batch.schema, batch.schema_id, batch.fingerprint)
    sink = make_sink(f"kafka://{kafka_broker}/{topic}")
    delivery = sink.publish(large)
    assert (delivery.delivered, delivery.refused[0][0]) == (0, batch.rows["diaSourceId"][0])
    sink.close()


def test_without_a_kafka_broker_nothing_is_delivered_and_nobody_told():
    sink = Kafka(f"127.0.0.1:{free_port()}", "alerts", "full", patience_s=0.3)
    with pytest.raises(NeighbourLost):
        sink.publish(an_outgoing(1))
    with pytest.raises(NeighbourLost):
        sink.tell("filter-off", WORD)
    sink.close()


def test_a_nak_is_a_refusal_with_the_brokers_reason(voevent_broker):
    batch = an_outgoing(2)
    unwanted = int(batch.rows["diaSourceId"][1])
    voevent_broker.unwanted = f"#{unwanted}-"
    delivery = VOEventAuthor(*voevent_broker.server_address).publish(batch)
    assert (delivery.delivered, delivery.refused) == (1, ((unwanted, "nak: not this one"),))


def test_an_event_without_an_answer_is_sent_again(voevent_broker):
    voevent_broker.hang_up = 2
    assert VOEventAuthor(*voevent_broker.server_address).publish(an_outgoing(1)).delivered == 1


def test_after_three_attempts_the_voevent_broker_is_lost(voevent_broker):
    voevent_broker.hang_up = 3
    with pytest.raises(NeighbourLost):
        VOEventAuthor(*voevent_broker.server_address).publish(an_outgoing(1))


def test_the_double_can_be_away():
    sink = Memory()
    sink.away = True
    with pytest.raises(NeighbourLost):
        sink.publish(an_outgoing(1))
    assert sink.messages == []
