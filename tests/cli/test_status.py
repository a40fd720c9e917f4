"""gpudiff status: the view in a terminal."""

import json

from batches import a_batch

from gpudiff.__main__ import main
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator


def a_service(directory) -> None:
    """What an associator left that committed one frame."""
    associator = Associator(directory, Configuration(), clock=lambda: 61007.001)
    associator.take(a_batch(3))
    associator.report("ready", "tcp://127.0.0.1:7")
    associator.close()


def test_once_prints_visits_programs_and_dead_letters(tmp_path, capsys):
    a_service(tmp_path)
    assert main(["status", str(tmp_path), "--once"]) == 0
    said = capsys.readouterr().out
    for part in ("COLLECTING", "1 committed", "associator", "never started", "dead letters: 0"):
        assert part in said


def test_json_is_one_document(tmp_path, capsys):
    a_service(tmp_path)
    assert main(["status", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["visits"][0]["sources"] == 3


def test_a_directory_that_is_absent_is_refused(tmp_path, capsys):
    assert main(["status", str(tmp_path / "absent"), "--once"]) == 4
    assert "StoreFailed" in capsys.readouterr().err
