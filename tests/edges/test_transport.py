"""gpudiff.edges.transport: sockets."""

import os
import time

import pytest
import zmq
from serving import TIMEOUT_S, bound, until

from gpudiff.edges.endpoint import endpoint_in
from gpudiff.edges.transport import Dealer, Pair, Router, wait
from gpudiff.model.errors import BadConfiguration, NeighbourLost

LOCAL = "tcp://127.0.0.1:*"


@pytest.fixture
def router():
    router = Router(LOCAL, max_part_bytes=1 << 16)
    yield router
    router.close()


@pytest.fixture
def dealer(router):
    dealer = Dealer(router.endpoint)
    yield dealer
    dealer.close()


def next_message(router, **limits):
    """The next message, waited for."""
    assert wait([router], TIMEOUT_S)
    return router.receive(**limits)


def test_a_wildcard_port_is_given_by_its_number(router):
    assert int(router.endpoint.rsplit(":", 1)[1]) > 0


def test_a_message_goes_there_and_an_answer_back(router, dealer):
    dealer.send([b"one", b"two"])
    message = next_message(router)
    assert [bytes(part) for part in message.parts] == [b"one", b"two"]
    assert router.send(message.sender, [b"three"])
    assert bytes(dealer.receive(TIMEOUT_S)[0]) == b"three"


def test_parts_beyond_the_limit_are_thrown_away_and_the_next_message_is_whole(router, dealer):
    dealer.send([b"x"] * 50)
    dealer.send([b"next"])
    cut = next_message(router, max_parts=3)
    assert cut.cut
    assert len(cut.parts) == 3
    assert [bytes(part) for part in next_message(router).parts] == [b"next"]


def test_bytes_beyond_the_limit_are_thrown_away(router, dealer):
    dealer.send([b"head", bytes(1000), bytes(1000)])
    message = next_message(router, max_bytes=1500)
    assert message.cut
    assert [len(part) for part in message.parts] == [4, 1000]


def test_a_part_larger_than_the_socket_takes_ends_only_that_connection(router, dealer):
    dealer.send([bytes(1 << 17)])
    other = Dealer(router.endpoint)
    other.send([b"still here"])
    assert bytes(next_message(router).parts[0]) == b"still here"
    other.close()


def test_sending_to_a_client_that_is_gone_says_so(router):
    assert not router.send(b"nobody", [b"x"])


def test_nothing_to_receive_is_none_in_time(router, dealer):
    assert dealer.receive(0.01) is None
    assert router.receive() is None


def test_a_dealer_knows_that_its_connection_came_back(router, dealer):
    dealer.send([b"x"])
    next_message(router)
    assert not dealer.came_back()
    router.close()
    again = bound(lambda: Router(router.endpoint))
    until(dealer.came_back)
    assert not dealer.came_back()
    again.close()


def test_an_endpoint_in_use_is_refused_by_name(router):
    with pytest.raises(BadConfiguration, match=router.endpoint):
        Router(router.endpoint)


def test_an_endpoint_that_is_none_is_refused():
    with pytest.raises(BadConfiguration):
        Dealer("nonsense")


def test_a_pair_talks_both_ways(tmp_path):
    ours = Pair(bind=endpoint_in(tmp_path, "ipc://{directory}/pair.ipc"))
    theirs = Pair(connect=ours.endpoint)
    theirs.send([b"ready"])
    assert bytes(ours.receive(TIMEOUT_S)[0]) == b"ready"
    ours.send([b"work", b"frame"])
    assert len(theirs.receive(TIMEOUT_S)) == 2
    ours.close()
    theirs.close()


def test_a_pair_that_nobody_reads_says_so(tmp_path):
    pair = Pair(bind=f"ipc://{tmp_path}/pair.ipc")
    with pytest.raises(NeighbourLost):
        pair.send([b"x"])
    pair.close()


def test_waiting_sees_file_descriptors_too(router):
    reading, writing = os.pipe()
    os.write(writing, b"x")
    assert wait([router, reading], TIMEOUT_S) == [reading]
    os.close(reading)
    os.close(writing)


def test_dealers_that_come_and_go_do_not_meet():
    for _ in range(300):  # an object's memory, and so its id, is used again at once
        Dealer("tcp://127.0.0.1:9").close()


def test_dealers_that_nobody_closes_hold_up_nobody(router):
    for turn in range(500):  # dropped before, while and after the other end lets them in
        Dealer(router.endpoint)
        time.sleep(turn % 5 * 5e-4)
    last = Dealer(router.endpoint)
    last.send([b"still here"])
    assert bytes(next_message(router).parts[0]) == b"still here"
    last.close()


def test_peers_that_are_gone_without_a_word_are_asked_for(router, dealer):
    for one in (router, dealer):
        said = [one._socket.getsockopt(getattr(zmq, f"TCP_KEEPALIVE{name}")) for name in ("", "_IDLE", "_CNT")]
        assert said == [1, 10, 4]
