"""gpudiff ledger: visits told, held alerts released and dropped."""

import threading

import pytest
from batches import a_batch, taken

from gpudiff.__main__ import main
from gpudiff.edges.transport import Router, wait
from gpudiff.model.config import Configuration, override
from gpudiff.services.associator import Associator
from gpudiff.services.associator_loop import step


@pytest.fixture
def served(tmp_path):
    """A directory whose associator holds the alerts of frames with more than two detections, and answers."""
    associator = Associator(tmp_path, override(Configuration(), "ledger", suspect_count=2))
    associator.take(a_batch(2, detector=5))
    associator.take(a_batch(3))
    router, ended = Router(f"ipc://{tmp_path}/detections.ipc"), threading.Event()

    def serve():
        while not ended.is_set():
            step(associator, router) or wait([router], 0.05)

    thread = threading.Thread(target=serve)
    thread.start()
    yield tmp_path
    ended.set()
    thread.join()
    router.close()
    associator.close()


def test_visits_are_listed(served, capsys):
    assert main(["ledger", "visits", "--directory", str(served)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "COLLECTING" in line]
    values = line.replace("│", " ").split()
    assert values[:6] == ["7", "COLLECTING", "2", "0", "0", "1"]


def test_the_longest_visit_and_its_state_are_listed_whole(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    taken(tmp_path, a_batch(1, visit=(1 << 39) - 1))
    assert main(["ledger", "visits", "--directory", str(tmp_path)]) == 0
    assert "549755813887  COLLECTING" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "told"), [("release", "released"), ("drop", "dropped")])
def test_held_alerts_are_let_go_once(served, capsys, word, told):
    assert main(["ledger", word, "7", "--directory", str(served)]) == 0
    assert capsys.readouterr().out == f"visit 7: alerts of 1 frames {told}\n"
    assert main(["ledger", word, "7", "--directory", str(served)]) == 3
    assert "visit 7: expected frames whose alerts wait, there are none" in capsys.readouterr().err


def test_a_directory_that_is_absent_is_refused(tmp_path, capsys):
    assert main(["ledger", "visits", "--directory", str(tmp_path / "absent")]) == 3
    assert "expected a ledger" in capsys.readouterr().err


def test_a_command_without_a_visit_is_refused(tmp_path, capsys):
    assert main(["ledger", "release", "--directory", str(tmp_path)]) == 3
    assert "expected a visit" in capsys.readouterr().err
