"""gpudiff.edges.standing: how a service stands, read from its directory."""

import json
import os

import pytest
from batches import a_batch
from serving import until

from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.sinks.memory import Memory
from gpudiff.edges.standing import standing
from gpudiff.model.config import Configuration
from gpudiff.model.errors import NoStars, UnreadableFile
from gpudiff.services.associator import Associator


@pytest.fixture
def directory(tmp_path):
    """What an associator left that committed two detectors of one visit."""
    associator = Associator(tmp_path, Configuration(), clock=lambda: 61007.001)
    for detector in (4, 5):
        associator.take(a_batch(3, detector=detector))
    associator.report("ready", "tcp://127.0.0.1:7")
    associator.close()
    return tmp_path


def test_a_visit_is_told_with_its_detectors_by_state_and_its_latency(directory):
    (visit,) = standing(directory).visits
    assert (visit["visit"], visit["sources"], visit["states"]) == (7, 6, {"COMMITTED": 2})
    assert visit["latency"]["count"] == 6
    assert visit["latency"]["max_s"] == pytest.approx((61007.001 - 61007.0002) * 86400, abs=1e-3)  # rounded


def test_a_program_whose_process_is_gone_does_not_run(directory):
    assert standing(directory).associator["running"]
    said = json.loads((directory / "associator.json").read_text())
    (directory / "associator.json").write_text(json.dumps(said | {"pid": 2**22 + 1}))  # beyond pid_max
    assert not standing(directory).associator["running"]
    assert said["pid"] == os.getpid()


def test_the_last_dead_letters_are_told_by_name(directory):
    DeadLetters(directory / "dead").bury([b"GDF1", b"{}"], NoStars("expected 10 stars, got 2"), "7-0-9")
    found = standing(directory)
    assert found.dead_letters == 1
    assert found.errors[0]["name"] == "7-0-9-NoStars"


def test_a_directory_without_a_ledger_says_so(tmp_path):
    found = standing(tmp_path)
    assert (found.visits, found.differencer) == ([], {})
    assert "expected a ledger" in found.trouble


def test_an_absent_directory_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="absent"):
        standing(tmp_path / "absent")


def test_each_sink_is_told_with_what_it_does_not_have_yet(tmp_path):
    here, away = Memory(name="here"), Memory(name="away", away=True)
    associator = Associator(tmp_path, Configuration(), clock=lambda: 61007.001, sinks=[here, away])
    for detector in (4, 5):
        associator.take(a_batch(3, detector=detector))
    until(lambda: len(here.batches) == 2 and not associator.tick() and associator.ledger.watermarks().get("here"))
    associator.tick()
    associator.report("ready", "tcp://127.0.0.1:7")
    found = standing(tmp_path, clock=lambda: 61007.001 + 60 / 86400).sinks
    associator.close()
    well = {"refused": 0, "errors": 0, "trouble": ""}
    assert found[0] == {"name": "here", "frames": 0, "alerts": 0, "wait_s": None, "delivered": 6} | well
    assert found[1] | well == {"name": "away", "frames": 2, "alerts": 6, "wait_s": 60.0, "delivered": 0} | well
    assert found[1]["errors"]
    assert found[1]["trouble"].startswith("NeighbourLost: ")


def test_the_last_hour_is_summed_up(directory):
    soon, late = (standing(directory, clock=lambda at=at: 61007.001 + at / 24).hour for at in (0.9, 1.1))
    assert (soon["visits"], soon["frames"], soon["alerts"], soon["latency"]["count"]) == (1, 2, 6, 6)
    assert (late["visits"], late["frames"], late["alerts"], late["latency"]["count"]) == (0, 0, 0, 0)
