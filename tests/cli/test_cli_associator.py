"""gpudiff associator: the real process, told to stop, and killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fastavro
import pytest
from batches import a_batch

from gpudiff.__main__ import main
from gpudiff.edges.alert_index import AlertIndex
from gpudiff.edges.detections import Answer, decode_answer, encode, encode_control
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.edges.transport import Dealer
from gpudiff.model.batch import DetectionBatch

PATIENCE_S = 60.0


def program(directory: Path) -> tuple[subprocess.Popen, str]:
    """A started associator and the endpoint it says it is ready at."""
    command = [sys.executable, "-m", "gpudiff", "associator", "--directory", str(directory)]
    process = subprocess.Popen(
        [*command, "--detections", f"ipc://{directory}/detections.ipc"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    words = process.stdout.readline().split()
    assert words[:2] == ["ready:", "detections"], process.communicate()
    return process, words[2]


def test_it_uses_its_memory_again(tmp_path):
    process, _ = program(tmp_path)
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert any(one.startswith(b"GLIBC_TUNABLES=glibc.malloc.hugetlb=1") for one in environment)


def end(process: subprocess.Popen, number: int) -> int:
    """Signal it, wait for its end, and return its exit status."""
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    return process.returncode


def answers(dealer: Dealer, count: int) -> Iterator[Answer]:
    """The next answers; fails when one does not come in time."""
    for _ in range(count):
        until = time.monotonic() + PATIENCE_S
        while (message := dealer.receive(1.0)) is None:
            assert time.monotonic() < until, "no answer"
        yield decode_answer(message)


def archived(directory: Path) -> list[int]:
    """diaSourceIds in all archive files."""
    found = []
    for path in sorted((directory / "alerts").glob("*.avro")):
        with open(path, "rb") as file:
            found += [alert["diaSourceId"] for alert in fastavro.reader(file)]
    return found


@pytest.fixture
def started(tmp_path):
    process, endpoint = program(tmp_path)
    dealer = Dealer(endpoint)
    yield process, dealer
    dealer.close()
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_batch_is_answered_and_its_alerts_are_in_the_archive(started, tmp_path):
    _, dealer = started
    dealer.send(encode(a_batch(2)))
    answer = next(answers(dealer, 1))
    assert (answer.status, answer.frame, answer.new) == ("committed", [7, 0, 4], 2)
    assert archived(tmp_path) == a_batch(2).sources["diaSourceId"].tolist()
    reader = LedgerReader(tmp_path / "ledger.sqlite")
    assert reader.latencies(7).tolist() == pytest.approx([answer.latency_s] * 2, abs=1.0)
    reader.close()


def test_the_index_of_a_visit_that_is_over_is_sealed_by_the_running_associator(started, tmp_path):
    _, dealer = started
    dealer.send(encode_control("announce", visit=7, detectors=[4]))
    list(answers(dealer, 1))  # first: a visit that is announced after its frame is over by time alone, in 45 s
    dealer.send(encode(a_batch(2)))
    list(answers(dealer, 1))
    end = time.monotonic() + 3 * PATIENCE_S  # the process that seals gives way to all others
    index = tmp_path / "alerts" / "index"
    while not list(index.glob("*.rows")) or list(index.glob("*.tail")):
        assert time.monotonic() < end, "not sealed"
        time.sleep(0.05)
    index = AlertIndex(tmp_path / "alerts")
    assert sum(map(len, index.segments)) == 2
    assert index.lagging() == []
    dealer.send(encode(a_batch(1, visit=8)))
    assert next(answers(dealer, 1)).status == "committed"


def test_a_bad_message_is_answered_and_the_service_goes_on(started):
    _, dealer = started
    dealer.send([b"GDD2", b"{}", b"", b"", b"", b"", b"", b""])
    dealer.send(encode(a_batch(1)))
    first, second = answers(dealer, 2)
    assert (first.status, first.error) == ("failed", "MissingKey")
    assert second.status == "committed"


def test_sigterm_ends_it_cleanly_and_the_counts_stay(started, tmp_path):
    process, dealer = started
    dealer.send(encode(a_batch(1)))
    dealer.send([b"nonsense"])
    list(answers(dealer, 2))
    assert end(process, signal.SIGTERM) == 0
    status = json.loads((tmp_path / "associator.json").read_text())
    assert status["state"] == "stopped"
    assert status["counts"] == {"committed": 1, "failed": 1, "BadMessage": 1, "unplaced": 0}


def test_a_second_associator_in_the_directory_is_refused(started, tmp_path):
    command = [sys.executable, "-m", "gpudiff", "associator", "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 4
    assert "StoreFailed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def batches() -> list[DetectionBatch]:
    """Three visits of eight detectors over the same sky, 25 sources each, 10 arcmin apart."""
    return [a_batch(25, visit, detector, dec=-30.0 + detector / 6) for visit in (7, 8, 9) for detector in range(8)]


def test_killed_at_random_moments_it_loses_nothing_and_doubles_nothing(tmp_path):
    generator, todo, kills = random.Random(4), batches(), 0
    while todo:
        process, endpoint = program(tmp_path)
        dealer = Dealer(endpoint)
        for batch in todo:
            dealer.send(encode(batch))
        if kills < 6:
            time.sleep(generator.uniform(0.0, 0.3))  # the moment of the kill is the point of the test
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        else:
            assert {answer.status for answer in answers(dealer, len(todo))} <= {"committed", "duplicate"}
            todo = []
        dealer.close()
        process.kill()
        process.communicate()
    expected = sorted(int(one) for batch in batches() for one in batch.sources["diaSourceId"])
    assert sorted(archived(tmp_path)) == expected
    reader = LedgerReader(tmp_path / "ledger.sqlite")
    assert reader.sources()["diaSourceId"].tolist() == expected
    assert reader.objects()["nDiaSources"].tolist() == [3] * 200
    assert reader.pending() == []
    reader.close()


TWO = '[service]\nassociators = ["tcp://127.0.0.1:7 ra 0 180", "tcp://127.0.0.1:8 ra 180 360"]\n'


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["associator"], "--detections"),
        (["ledger", "release", "7"], "--detections"),
        (["differencer", "--templates", "t", "--detections", "tcp://127.0.0.1:7"], "got both"),
        (["run", "--templates", "t"], "one by one"),
    ],
)
def test_where_several_share_the_sky_a_command_that_cannot_know_which_is_refused(
    command, expected, tmp_path, capsys
):
    (tmp_path / "two.toml").write_text(TWO)
    place = ["--directory", str(tmp_path), "--config", str(tmp_path / "two.toml")]
    assert main([*command, *place]) == 3
    assert expected in capsys.readouterr().err
