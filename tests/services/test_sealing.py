"""The alert index of visits that are over is sealed beside the running associator."""

import signal
import subprocess
import sys

import pytest
from batches import a_batch, taken
from serving import TIMEOUT_S, until

from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_index import AlertIndex
from gpudiff.model.alert_index import AlertQuery
from gpudiff.services import sealing
from gpudiff.services.sealing import Sealer, main, seal


@pytest.fixture
def alerts(tmp_path):
    """The archive of visits 7, 8 and 9, with tails."""
    return taken(tmp_path, *(a_batch(2, visit=visit) for visit in (7, 8, 9)))


def tails(alerts):
    return sorted(path.name for path in (alerts / "index").glob("*.tail"))


def finished(sealer, open_visits):
    """Turn until the process that was started has ended."""
    assert sealer.turn(lambda: open_visits)
    until(lambda: not sealer.turn(lambda: open_visits))


def test_a_tail_that_somebody_else_seals_meanwhile_is_none(alerts):
    for path in (alerts / "index").glob("*.tail"):
        path.unlink()
    (alerts / "index" / "7.avro.tail").symlink_to("gone")  # listed, and then not there
    assert not Sealer(alerts).turn(set)


def test_visits_that_are_over_are_sealed_and_open_ones_are_not(alerts):
    sealer = Sealer(alerts)
    finished(sealer, {"9": "COLLECTING"})
    assert tails(alerts) == ["9.avro.tail"]
    assert sorted(AlertIndex(alerts).sealed()) == ["7.avro", "8.avro"]
    assert sealer.failed == 0
    assert len(AlertArchive(alerts).find(AlertQuery())) == 6


def test_the_next_look_is_not_at_once(alerts):
    now = [0.0]
    sealer = Sealer(alerts, lambda: now[0])
    finished(sealer, {"8": "", "9": ""})
    assert not sealer.turn(lambda: {"9": ""})
    now[0] += sealing.EVERY_S
    finished(sealer, {"9": ""})
    assert tails(alerts) == ["9.avro.tail"]


def test_what_cannot_be_sealed_is_counted_and_not_tried_until_it_grows(alerts, tmp_path):
    now = [0.0]
    sealer = Sealer(alerts, lambda: now[0])
    whole = (alerts / "7.avro").read_bytes()
    (alerts / "7.avro").write_bytes(b"no archive")
    finished(sealer, {"8": "", "9": ""})
    assert sealer.failed == 1
    now[0] += sealing.EVERY_S
    assert not sealer.turn(lambda: {"8": "", "9": ""})
    (alerts / "7.avro").write_bytes(whole)
    taken(tmp_path, a_batch(1, detector=5))
    now[0] += sealing.EVERY_S
    finished(sealer, {"8": "", "9": ""})
    assert "7.avro" in AlertIndex(alerts).sealed()


def test_a_file_that_cannot_be_sealed_holds_up_no_other(alerts, capsys):
    (alerts / "7.avro").unlink()  # the first of them
    assert main(str(alerts), "7.avro", "8.avro", "9.avro") == 3
    assert "7.avro" in capsys.readouterr().err
    assert tails(alerts) == ["7.avro.tail"]


def test_an_associator_starts_and_takes_alerts_beside_a_damaged_index(alerts, tmp_path):
    seal(alerts, ["7.avro"], 61007.6)
    next((alerts / "index").glob("*.rows")).write_bytes(b"")
    taken(tmp_path, a_batch(2, visit=10))
    assert "10.avro.tail" in tails(alerts)


def test_nights_that_are_over_become_one_segment(alerts):
    seal(alerts, ["7.avro"], 61007.6)
    night = {one.coverage.night for one in AlertIndex(alerts).segments}
    seal(alerts, ["8.avro", "9.avro"], 61020.0)
    found = AlertIndex(alerts).segments
    assert len(found) == len({one.coverage.night for one in found})
    assert night <= {one.coverage.night for one in found}


def test_closing_leaves_the_rest_for_the_next_start(alerts):
    sealer = Sealer(alerts)
    assert sealer.turn(dict)
    sealer.close()
    finished(Sealer(alerts), {}) if tails(alerts) else None
    assert tails(alerts) == []


STOPPED = """
import os, runpy, signal
from gpudiff.edges import alert_index
from gpudiff.edges.atomic import atomically

def write(path, *_):
    with atomically(path) as temporary:
        temporary.touch()
        os.kill(os.getpid(), signal.SIGTERM)

alert_index.write_segment = write
runpy.run_module("gpudiff.services.sealing", run_name="__main__")
"""


def test_a_process_that_is_stopped_leaves_nothing_half_written(alerts):
    command = [sys.executable, "-c", STOPPED, str(alerts), "7.avro"]
    assert subprocess.run(command, timeout=TIMEOUT_S).returncode == 3
    assert list((alerts / "index").glob(".*")) == []


def test_a_process_that_does_not_stop_holds_nobody_up(alerts, monkeypatch):
    monkeypatch.setattr(sealing, "STOP_S", 0.01)
    sealer = Sealer(alerts)
    stubborn = [
        sys.executable,
        "-c",
        "import signal; signal.signal(15, signal.SIG_IGN); print(1, flush=True); signal.pause()",
    ]
    sealer._process = subprocess.Popen(stubborn, stdout=subprocess.PIPE)
    sealer._process.stdout.read(1)  # it does not hear SIGTERM from now on
    sealer.close()
    sealer._process.stdout.close()
    assert sealer._process.wait(TIMEOUT_S) == -signal.SIGKILL


def test_a_file_that_is_not_there_is_one_line_and_status_3(alerts, capsys):
    assert main(str(alerts), "6.avro") == 3
    assert "6.avro" in capsys.readouterr().err
