"""gpudiff/edges/ALERTS.md: what it says is what is published."""

import json
import re
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest
import zmq.auth
from outgoing import an_outgoing
from sinking import kafka_broker, topic  # noqa: F401

from gpudiff.edges import keys
from gpudiff.edges.alert_schema import NOTICE_ID, SCHEMA_ID, alert_schema, notice_schema
from gpudiff.edges.sinks import check, make_sink
from gpudiff.model.config import Security
from gpudiff.services.outlets import sink_of

TEXT = (files("gpudiff") / "edges" / "ALERTS.md").read_text()
READERS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
ZEROMQ, WITH_KEY, KAFKA = range(3)


@pytest.fixture
def schemas(tmp_path):
    """A folder with notice.avsc and alert.avsc."""
    (tmp_path / "notice.avsc").write_text(json.dumps(notice_schema()))
    (tmp_path / "alert.avsc").write_text(json.dumps(alert_schema()))
    return tmp_path


@contextmanager
def running(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen]:
    """The printed program with these arguments, until the block is left."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_printed_zeromq_reader_reads_each_notice_once(schemas):
    sink, batch = make_sink("zmq+tcp://127.0.0.1:0"), an_outgoing(2)
    with running(READERS[ZEROMQ], sink.endpoint, schemas / "notice.avsc") as reader:
        while not select.select([reader.stdout], [], [], 0.02)[0]:  # until its subscription has arrived
            sink.publish(batch)
        sink.publish(batch)
        sink.publish(an_outgoing(1, revision=1))
        said = [reader.stdout.readline().split()[:3] for _ in range(3)]
    sink.close()
    first, second = map(str, batch.rows["diaSourceId"].tolist())
    assert sorted(said) == sorted([[first, "0", "new"], [second, "0", "new"], [first, "1", "new"]])


def test_the_printed_reader_with_a_key_made_without_gpudiff_is_let_in(tmp_path):
    keys.make(tmp_path / "service", "service")
    (tmp_path / "theirs").mkdir()
    public, _ = zmq.auth.create_certificates(tmp_path / "theirs", "broker")
    keys.allow(tmp_path / "service", Path(public), "alerts")
    shutil.copy(tmp_path / "service" / "service.key", tmp_path / "theirs")
    security = Security(keys=str(tmp_path / "service"))
    sink, batch = sink_of("zmq+tcp://0.0.0.0:0", security), an_outgoing(1)
    with running(READERS[WITH_KEY], sink.endpoint.replace("0.0.0.0", "127.0.0.1"), tmp_path / "theirs") as reader:
        while not select.select([reader.stdout], [], [], 0.02)[0]:  # until its subscription has arrived
            sink.publish(batch)
        assert reader.stdout.readline().split()[0] == "notice.new.r"
    sink.close()


def test_the_printed_kafka_reader_reads_each_alert_once(schemas, kafka_broker, topic):  # noqa: F811
    sink, batch = make_sink(f"kafka://{kafka_broker}/{topic}"), an_outgoing(2)
    sink.publish(batch)
    sink.publish(batch)
    sink.publish(an_outgoing(1, revision=1))
    with running(READERS[KAFKA], kafka_broker, topic, schemas / "alert.avsc") as reader:
        said = [reader.stdout.readline().split()[:2] for _ in range(3)]
    sink.close()
    first, second = map(str, batch.rows["diaSourceId"].tolist())
    assert said == [[first, "0"], [second, "0"], [first, "1"]]


def test_the_numbers_shown_are_those_of_the_schemas():
    assert f"{SCHEMA_ID} for alerts and {NOTICE_ID} for notices" in " ".join(TEXT.split())


def test_the_sinks_shown_can_be_made():
    shown = re.findall(r'"([a-z+]+://127[^"]*)"', TEXT)
    assert len(shown) == 3
    for url in shown:
        check(url)


def test_the_printed_readers_are_about_thirty_lines():
    assert [len(code.splitlines()) <= 32 for code in READERS] == [True] * 3
