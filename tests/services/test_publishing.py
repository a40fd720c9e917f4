"""gpudiff.services.publishing: the publisher in a process of its own, and what becomes of one that dies."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import asdict

import pytest
import zmq
from batches import a_batch
from serving import TIMEOUT_S, until
from sinking import free_port, voevent_broker  # noqa: F401

from gpudiff.edges.ledger import Ledger
from gpudiff.edges.sinks.zeromq import KEY
from gpudiff.model.config import Configuration, override
from gpudiff.model.errors import BadConfiguration, BadFilter, NeighbourLost
from gpudiff.services import publishing
from gpudiff.services.associator import Associator


@contextmanager
def subscriber(endpoint: str):
    with zmq.Context() as context, context.socket(zmq.SUB) as opened:
        opened.setsockopt(zmq.LINGER, 0)
        opened.setsockopt(zmq.SUBSCRIBE, b"")
        opened.connect(endpoint)
        yield opened


def heard(reader, wanted: int) -> list[int]:
    """The diaSourceIds of the next messages."""
    ids = []
    while len(ids) < wanted:
        assert reader.poll(TIMEOUT_S * 1000)
        ids.append(KEY.unpack(reader.recv_multipart()[1])[0])
    return ids


def greet(associator, reader) -> int:
    """Commit visits until the subscriber, who is slow to join, hears one; the next visit's number."""
    visit = 1000 + associator.ledger.last_seq()
    while True:
        associator.take(a_batch(1, visit=visit))
        visit += 1
        until(lambda: settled(associator))
        if reader.poll(50):
            while reader.poll(50):
                reader.recv_multipart()
            return visit


def a_mute_program(folder):
    path = folder / "mute"
    path.write_text("#!/bin/sh\nexec sleep 1000\n")
    path.chmod(0o755)
    return path


def settled(associator) -> bool:
    associator.tick()
    return associator.ledger.pending() == []


@pytest.fixture
def associator(tmp_path):
    sink = f"tcp://127.0.0.1:{free_port()}"
    asked = override(Configuration(), "service", sinks=[f"zmq+{sink}?tier=notice"])
    made = Associator(tmp_path, asked, apart=True)
    made.sink = sink
    yield made
    made.close()


def test_alerts_leave_by_another_process_and_are_noted(associator):
    with subscriber(associator.sink) as reader:
        visit = greet(associator, reader)
        batch = a_batch(3, visit=visit)
        associator.take(batch)
        assert heard(reader, 3) == batch.sources["diaSourceId"].tolist()
        until(lambda: settled(associator))
    (lag,) = associator.publisher.lag(associator.ledger.last_seq()).values()
    assert lag["behind"] == 0
    assert lag["alerts"] == visit - 1000 + 3


def test_one_that_is_killed_is_started_again_and_nothing_is_left_out(associator, monkeypatch):
    monkeypatch.setattr(publishing, "AGAIN_S", 0.1)
    associator.take(a_batch(2))
    until(lambda: settled(associator))
    associator.publisher.defer_full(True)
    before = associator.publisher._process.pid
    os.kill(before, signal.SIGKILL)
    associator.publisher._listener.join(TIMEOUT_S)
    associator.take(a_batch(2, visit=8))  # nobody is there to be woken
    until(lambda: settled(associator))
    assert associator.publisher._process.pid != before
    with subscriber(associator.sink) as reader:
        greet(associator, reader)


def test_one_that_does_not_start_is_tried_again_later(associator, monkeypatch):
    monkeypatch.setattr(publishing, "AGAIN_S", 0.1)
    command = publishing.sys.executable
    monkeypatch.setattr(publishing.sys, "executable", "/bin/false")
    associator.publisher._process.kill()
    associator.publisher._listener.join(TIMEOUT_S)
    associator.take(a_batch(2))
    assert not settled(associator)
    monkeypatch.setattr(publishing.sys, "executable", command)
    until(lambda: settled(associator))


def test_no_frame_waits_for_one_that_hangs(associator):
    process = associator.publisher._process
    process.send_signal(signal.SIGSTOP)
    publisher = associator.publisher

    def work() -> None:
        for _ in range(10_000):
            publisher.wake()
        publisher.defer_full(True)

    commits = threading.Thread(target=work)
    commits.start()
    commits.join(TIMEOUT_S / 3)
    waiting = commits.is_alive()
    process.send_signal(signal.SIGCONT)
    commits.join(TIMEOUT_S)
    assert not waiting
    assert publisher._untold
    until(lambda: publisher.progress() or not publisher._untold)


def test_one_that_starts_again_begins_behind_what_the_last_has_told(associator, monkeypatch):
    publisher, marks = associator.publisher, []

    def start() -> io.StringIO:
        marks.append(dict(publisher._marks))
        return io.StringIO()

    associator.take(a_batch(2))
    until(publisher._done.qsize)
    publisher._process.kill()
    publisher._listener.join(TIMEOUT_S)
    with monkeypatch.context() as patch:
        patch.setattr(publisher, "_start", start)
        associator.tick()
    assert marks == [associator.ledger.watermarks()]
    assert marks != [{}]


def test_one_that_ends_is_left_to_say_why(tmp_path, monkeypatch):
    ending = tmp_path / "ending"
    ending.write_text("""#!/bin/bash\necho '{"names": []}' >&$3; eval "exec $3>&-"; sleep 0.3; exit 7\n""")
    ending.chmod(0o755)
    monkeypatch.setattr(publishing.sys, "executable", str(ending))
    said = []
    monkeypatch.setattr(publishing.log, "warn", lambda event, error: said.append(str(error)))
    process = publishing.PublisherProcess(tmp_path, Configuration(), tmp_path, tmp_path, {})
    until(lambda: process.progress() or said)
    process.close()
    assert said[0] == "the publisher ended with 7"


def test_no_frame_waits_for_one_that_starts_again(associator, tmp_path, monkeypatch):
    monkeypatch.setattr(publishing.sys, "executable", str(a_mute_program(tmp_path)))
    monkeypatch.setattr(publishing, "START_S", 5.0)
    associator.publisher._process.kill()
    associator.publisher._listener.join(TIMEOUT_S)
    associator.take(a_batch(2))
    assert associator.publisher._process.poll() is None
    associator.publisher._process.kill()


def test_the_last_that_was_delivered_is_noted_and_none_is_started_any_more(associator):
    associator.take(a_batch(2))
    until(lambda: associator.publisher._states and associator.publisher.lag(1).popitem()[1]["alerts"] == 2)
    process = associator.publisher._process
    associator.publisher.close()
    assert settled(associator)
    assert (associator.publisher._process, process.returncode) == (process, 0)


def test_a_sink_that_fails_what_it_refuses_and_its_return_are_in_the_log(tmp_path, voevent_broker, monkeypatch):  # noqa: F811
    said = []
    monkeypatch.setattr(publishing.log, "say", lambda event, frame=None, **fields: said.append((event, fields)))
    host, port = voevent_broker.server_address
    batch = a_batch(2)
    voevent_broker.hang_up, voevent_broker.unwanted = 9, str(batch.sources["diaSourceId"][1])
    asked = override(Configuration(), "service", sinks=[f"voevent+tcp://{host}:{port}"])
    associator = Associator(tmp_path, asked, apart=True)
    associator.take(batch)
    until(lambda: settled(associator))
    associator.close()
    fails, refused, back = (told for told in said if told[1].get("sink") == asked.service.sinks[0])
    assert (fails[0], "expected 4 bytes of an answer" in fails[1]["reason"]) == ("sink fails", True)
    assert (refused[0], refused[1]["alerts"], refused[1]["reason"]) == ("alerts refused", 1, "nak: not this one")
    assert back[0] == "sink is back"


def test_one_that_hangs_is_killed_at_the_end(associator, monkeypatch):
    monkeypatch.setattr(publishing, "CLOSE_S", 0.1)
    process = associator.publisher._process
    process.send_signal(signal.SIGSTOP)
    closing = threading.Thread(target=associator.publisher.close)
    closing.start()
    closing.join(TIMEOUT_S / 3)
    process.kill()
    assert not closing.is_alive()
    assert process.wait(TIMEOUT_S) == -signal.SIGKILL


def test_what_one_says_when_it_dies_in_the_middle_of_a_line_is_left_out(associator):
    pipe = io.StringIO('{"done": [["a", 7, 61000.0, []]], "refused": {}, "sinks": {}}\n{"done": [["a", 8, 6100')
    associator.publisher._listen(pipe)
    assert [(one.sink, one.seq) for one in associator.publisher.progress()] == [("a", 7)]


def test_it_ends_with_its_associator(associator):
    process = associator.publisher._process
    process.stdin.close()
    assert process.wait(TIMEOUT_S) == 1


def test_what_no_sink_can_be_made_of_is_refused_by_its_name(tmp_path):
    wrong = override(Configuration(), "service", sinks=["zmq+tcp://nonsense"])
    with pytest.raises(BadConfiguration, match="nonsense"):
        Associator(tmp_path / "one", wrong, apart=True)
    wrong = override(Configuration(), "service", sinks=["voevent+tcp://127.0.0.1:9"] * 2)
    with pytest.raises(BadConfiguration, match=r"expected each sink once, got voevent\+tcp://127.0.0.1:9 2 times"):
        Associator(tmp_path / "same", wrong, apart=True)
    (tmp_path / "filters.toml").write_text('[[filter]]\nname = "x"\n')
    wrong = override(Configuration(), "broker", filters=str(tmp_path / "filters.toml"))
    with pytest.raises((BadConfiguration, BadFilter), match="filter"):
        Associator(tmp_path / "two", wrong, apart=True)


def test_one_that_says_nothing_when_it_starts_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(publishing.sys, "executable", str(a_mute_program(tmp_path)))
    monkeypatch.setattr(publishing, "START_S", 0.1)
    asked = override(Configuration(), "service", sinks=[f"zmq+tcp://127.0.0.1:{free_port()}"])
    with pytest.raises(NeighbourLost, match="ended with -9"):
        Associator(tmp_path, asked, apart=True)


def test_one_whose_associator_has_died_ends_without_a_word(tmp_path):
    asked = override(Configuration(), "service", sinks=[f"zmq+tcp://127.0.0.1:{free_port()}"])
    wanted = {"directory": str(tmp_path), "configuration": asdict(asked), "where": str(tmp_path / "ledger.sqlite")}
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-m", "gpudiff.services.publishing", str(theirs)]
    settings = json.dumps(wanted | {"folder": str(tmp_path), "marks": {}}) + "\n"
    Ledger(tmp_path / "ledger.sqlite").close()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[theirs]
    ) as process:
        os.close(theirs)
        process.stdin.write(settings)
        process.stdin.flush()
        assert process.wait(TIMEOUT_S) == 1
        assert process.stderr.read() == ""
