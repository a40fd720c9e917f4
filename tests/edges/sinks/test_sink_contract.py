"""What every sink promises (gpudiff.model.outgoing)."""

import pytest
from outgoing import an_outgoing

from gpudiff.edges.sinks import check, make_sink
from gpudiff.model.errors import BadConfiguration


def test_what_is_delivered_arrives_in_order(place):
    batch = an_outgoing(3, revision=1)
    assert place.sink.publish(batch).delivered == 3
    assert [one[:2] for one in place.take(3)] == [(one, 1) for one in batch.rows["diaSourceId"].tolist()]


def test_what_cannot_be_sent_is_refused_by_name_and_the_rest_arrives(place):
    batch = an_outgoing(3, broken=(1,))
    delivery = place.sink.publish(batch)
    first, bad, last = batch.rows["diaSourceId"].tolist()
    assert (delivery.delivered, [one for one, _ in delivery.refused]) == (2, [bad])
    assert [one[0] for one in place.take(2)] == [first, last]


def test_an_empty_batch_is_delivered(place):
    assert place.sink.publish(an_outgoing(0)).delivered == 0


def test_a_repeat_arrives_under_the_same_id_and_revision(place):
    batch = an_outgoing(1)
    place.sink.publish(batch)
    place.sink.publish(batch)
    first, again = place.take(2)
    assert first == again


def test_a_sink_has_a_name(place):
    assert place.sink.name.isprintable()
    assert place.sink.name


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://127.0.0.1:80",
        "zmq+tcp://127.0.0.1",
        "zmq+tcp://127.0.0.1:5571?tier=half",
        "zmq+tcp://127.0.0.1:5571?speed=high",
        "zmq+tcp://127.0.0.1:99999",
        "zmq+tcp://127.0.0.1:5571/path",
        "kafka://127.0.0.1:9092",
        "kafka://127.0.0.1:9092/a/b",
        "voevent+tcp://127.0.0.1:8098?tier=full",
    ],
)
def test_a_url_that_names_no_sink_is_refused(url):
    with pytest.raises(BadConfiguration):
        make_sink(url)


def test_a_url_is_checked_without_making_the_sink():
    check("zmq+tcp://[::1]:5571?tier=notice")
    with pytest.raises(BadConfiguration, match="expected one of"):
        check("zmq+udp://127.0.0.1:5571")
