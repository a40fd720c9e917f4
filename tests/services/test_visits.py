"""gpudiff.services.visits: missing detectors, closed books, and clocks that jump."""

import json
from pathlib import Path

import pytest
from batches import a_batch
from serving import until

from gpudiff.edges import detections
from gpudiff.edges.detections import encode_control
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import FrameId
from gpudiff.services.associator import Associator

END = 61007.0002
"""When the readout of visit 7 ends."""


class Night:
    """An associator whose two clocks stand until they are told to move."""

    def __init__(self, directory: Path):
        self.directory, self.tai, self.seconds = directory, END, 0.0
        self.associator = Associator(
            directory, Configuration(), clock=lambda: self.tai, monotonic=lambda: self.seconds
        )
        self.ledger, self.visits = self.associator.ledger, self.associator.visits

    def later(self, seconds: float) -> None:
        """Let both clocks run, then do what is due."""
        self.tai += seconds / 86400
        self.seconds += seconds
        self.associator.tick()

    def states(self, *detectors: int) -> list[str]:
        return [self.ledger.state(7, 0, detector) for detector in detectors]

    def summaries(self) -> list[dict]:
        path = self.directory / "visits.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def closed(self) -> int:
        """How often visit 7 was closed."""
        return [row["after"] for row in self.ledger.transitions(7)].count("CLOSED")


@pytest.fixture
def night(tmp_path):
    made = Night(tmp_path)
    yield made
    made.associator.close()


def test_a_complete_visit_is_closed_and_published_at_once(night):
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2, detector=4))
    assert night.ledger.state(7) == "COLLECTING"
    night.associator.take(a_batch(3, detector=5))
    assert night.ledger.state(7) == "PUBLISHED"
    (summary,) = night.summaries()
    assert (summary["ok"], summary["missing"], summary["sources"]) == (2, 0, 5)
    assert summary["known"] + summary["tonight"] + summary["moving"] + summary["new"] == 5
    assert summary["latency_max_s"] == pytest.approx(0, abs=1e-3)


def test_a_detector_without_a_frame_is_missing_after_20_s(night):
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2))
    night.later(19)
    assert night.states(4, 5) == ["COMMITTED", "EXPECTED"]
    night.later(2)
    assert night.states(4, 5) == ["COMMITTED", "MISSING"]
    assert night.summaries()[0]["missing"] == 1


def test_a_visit_announced_without_its_detectors_is_not_complete_with_the_first_frame(night):
    night.visits.announce(7, [], END)
    night.associator.take(a_batch(1, detector=4))
    night.associator.take(a_batch(1, detector=5))
    assert night.ledger.state(7) == "COLLECTING"
    night.later(46)
    (summary,) = night.summaries()
    assert (summary["ok"], summary["delayed"]) == (2, 0)


def test_a_visit_that_nobody_announced_is_closed_after_45_s(night):
    night.associator.take(a_batch(2))
    night.later(44)
    assert night.ledger.state(7) == "COLLECTING"
    night.later(2)
    assert night.ledger.state(7) == "PUBLISHED"


def test_an_announcement_that_comes_behind_the_frames_closes_a_complete_visit(night):
    night.associator.take(a_batch(2, detector=4))
    night.visits.announce(7, [4], END)
    night.associator.tick()
    assert night.ledger.state(7) == "PUBLISHED"


def test_a_late_frame_opens_the_visit_again_and_is_marked_as_delayed(night):
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2))
    night.later(50)
    assert night.associator.take(a_batch(1, detector=5)).status == "committed"
    night.later(50)
    assert [row["ok"] for row in night.summaries()] == [1, 2]
    assert night.summaries()[-1]["delayed"] == 1


def test_a_visit_without_any_frame_is_abandoned(night):
    night.visits.announce(7, [4], END + 30 / 86400)
    night.later(74)
    assert night.ledger.state(7) == "ANNOUNCED"
    night.later(2)
    assert (night.ledger.state(7), night.states(4)) == ("ABANDONED", ["MISSING"])


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 86400.0 * 365])
def test_a_clock_that_jumps_closes_nothing(night, jump):
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2))
    night.tai += jump / 86400
    night.associator.tick()
    assert (night.ledger.state(7), night.states(5)) == ("COLLECTING", ["EXPECTED"])
    night.later(50)
    assert night.closed() == 1


def test_a_failed_frame_ends_its_detector(night):
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2))
    words = {"visit": 7, "snap": 0, "detector": 5, "reason": "BadWcs"}
    assert night.associator.control(encode_control("failed", **words)).status == "done"
    night.later(0)
    assert (night.ledger.state(7), night.summaries()[0]["failed"]) == ("PUBLISHED", 1)


@pytest.mark.parametrize("announced", [[], [4]])
def test_a_visit_of_which_every_frame_is_refused_is_closed_with_their_number(night, announced):
    if announced:
        night.visits.announce(7, announced, END)
    words = {"visit": 7, "snap": 0, "detector": 4, "reason": "NoTemplate"}
    night.associator.control(encode_control("failed", **words))
    night.later(50)
    (summary,) = night.summaries()
    assert (night.ledger.state(7), summary["ok"], summary["failed"]) == ("PUBLISHED", 0, 1)
    assert (night.visits.counts["published"], night.visits.counts["in_time"]) == (1, 0)


def test_a_visit_with_held_alerts_is_published_when_they_are_released_or_dropped(night):
    night.associator.breaker.largest = 1
    night.associator.take(a_batch(2))
    night.later(50)
    assert night.ledger.state(7) == "CLOSED"
    said = encode_control("release", visit=7, detector=4, drop=True)
    assert night.associator.control(said).alerts == 1
    night.later(0)
    assert night.ledger.state(7) == "PUBLISHED"


def test_held_alerts_are_dropped_when_a_new_revision_withdraws_them(night):
    night.associator.breaker.largest = 1
    night.associator.take(a_batch(2))
    night.associator.take(a_batch(1, fingerprint="cd" * 16))
    assert night.associator.control(encode_control("release", visit=7, drop=False)).alerts == 0
    night.later(50)
    assert night.ledger.state(7) == "PUBLISHED"


def test_a_published_visit_is_sealed_at_the_end_of_the_night(night):
    night.associator.take(a_batch(2))
    night.later(50)
    night.later(43201)
    assert night.ledger.state(7) == "SEALED"
    with pytest.raises(BadMessage, match="SEALED"):
        night.associator.take(a_batch(2, detector=5))


def test_a_frame_of_a_sealed_visit_is_refused_although_its_archive_file_is_elsewhere(night):
    night.associator.take(a_batch(2))
    night.later(50)
    night.later(43201)
    archive = night.directory / "alerts" / "7.avro"
    archive.unlink()
    answer = night.associator.answer(detections.encode(a_batch(2, fingerprint="cd" * 16)))
    assert (answer.status, answer.error, archive.exists()) == ("failed", "BadMessage", False)


def test_a_visit_published_before_a_restart_is_sealed_too(tmp_path):
    first = Night(tmp_path)
    first.associator.take(a_batch(2))
    first.later(50)
    first.associator.close()
    second = Night(tmp_path)
    second.later(43201)
    assert second.ledger.state(7) == "SEALED"
    second.associator.close()


def test_a_published_visit_costs_nothing_until_a_frame_comes_or_it_is_sealed(night, monkeypatch):
    night.associator.take(a_batch(2))
    night.later(50)
    asked = []
    ask = night.ledger.state
    monkeypatch.setattr(night.ledger, "state", lambda *which: asked.append(which) or ask(*which))
    night.later(100)
    assert (asked, night.visits.open()) == ([], {})
    night.associator.take(a_batch(2, detector=5))
    night.later(50)
    assert night.ledger.state(7) == "PUBLISHED"
    assert night.closed() == 2


def test_detectors_announced_for_a_published_visit_are_awaited(night):
    night.visits.announce(7, [4], END)
    night.associator.take(a_batch(2))
    night.later(50)
    night.visits.announce(7, [4, 5], END)
    night.associator.take(a_batch(2, detector=6))
    assert night.states(5) == ["EXPECTED"]
    assert night.ledger.state(7) == "COLLECTING"
    night.associator.take(a_batch(2, detector=5))
    assert night.ledger.state(7) == "PUBLISHED"


def test_an_announced_visit_can_be_cancelled_and_still_bring_frames(night):
    assert night.associator.control(encode_control("announce", visit=7, detectors=[4, 5])).status == "done"
    assert night.associator.control(encode_control("visit", visit=7, state="CANCELLED")).status == "done"
    assert night.ledger.state(7) == "CANCELLED"
    night.associator.take(a_batch(1))
    assert night.ledger.state(7) == "COLLECTING"


def test_a_second_announcement_adds_detectors_and_keeps_states(night):
    night.visits.announce(7, [4], END)
    night.associator.take(a_batch(1))
    night.visits.announce(7, [4, 5, 6], END)
    assert night.states(4, 5, 6) == ["COMMITTED", "EXPECTED", "EXPECTED"]


def test_an_open_visit_gets_its_time_again_after_a_restart(night):
    night.associator.take(a_batch(2))
    night.associator.close()
    night.associator = again = Night(night.directory).associator
    again.visits.monotonic = lambda: 100.0
    again.tick()
    assert again.ledger.state(7) == "PUBLISHED"


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("sing", {}),
        ("announce", {"visit": 7}),
        ("announce", {"visit": -1, "detectors": []}),
        ("announce", {"visit": 7, "detectors": ["4"]}),
        ("failed", {"visit": 7, "snap": 0}),
        ("visit", {"visit": 7, "state": "SEALED"}),
        ("visit", {"visit": 7, "state": "ASLEEP"}),
    ],
)
def test_a_control_message_that_cannot_be_obeyed_is_refused_by_name(night, word, values):
    answer = night.associator.control(encode_control(word, **values))
    assert (answer.status, answer.error) == ("failed", "BadMessage")
    assert night.ledger.visits() == []


def test_a_committed_frame_cannot_fail(night):
    night.associator.take(a_batch(1))
    with pytest.raises(BadMessage, match="FAILED cannot follow COMMITTED"):
        night.visits.failed(FrameId(7, 0, 4), "late")


def test_a_closed_visit_is_not_looked_at_again_before_some_of_its_alerts_have_left(tmp_path, monkeypatch):
    sink, seconds = Memory(away=True), [0.0]
    associator = Associator(tmp_path, Configuration(), sinks=[sink], monotonic=lambda: seconds[0])
    associator.take(a_batch(2))
    seconds[0] = 1e5
    associator.tick()
    assert associator.visits.open() == {"7": "CLOSED"}
    with monkeypatch.context() as patch:
        patch.setattr(associator.ledger, "state", lambda *_: pytest.fail("looked at"))
        associator.visits.tick()
        assert associator.visits.open() == {"7": "CLOSED"}
    sink.away = False
    until(lambda: associator.tick() or associator.ledger.state(7) == "PUBLISHED")
    associator.close()
