"""gpudiff.services.associator_metrics: what the associator counts."""

import math
import time

import pytest
from batches import a_batch
from prometheus_client import CollectorRegistry, Counter
from serving import until

from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.association import KINDS
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import FrameId
from gpudiff.services import publisher
from gpudiff.services.associator import Associator
from gpudiff.services.associator_metrics import AssociatorMetrics, Following

NOW = 61007.001
END = 61007.0002
"""When the readout of visit 7 ends."""


@pytest.fixture
def registry(tmp_path):
    """Of an associator that was given a batch of three, a repeat of it, and nonsense."""
    from gpudiff.edges.detections import encode

    associator = Associator(tmp_path, Configuration(), clock=lambda: NOW)
    for parts in (encode(a_batch(3)), encode(a_batch(3)), [b"nonsense"]):
        associator.answer(parts)
    associator.close()
    return associator.metrics.registry


def test_batches_are_counted_by_answer_and_error(registry):
    for status in ("committed", "duplicate", "failed"):
        assert registry.get_sample_value("gpudiff_batches_total", {"status": status}) == 1
    assert registry.get_sample_value("gpudiff_batch_errors_total", {"error": "BadMessage"}) == 1


def test_sources_are_counted_by_kind(registry):
    counted = {kind: registry.get_sample_value("gpudiff_sources_total", {"kind": kind}) for kind in KINDS}
    assert counted == {"known": 0, "tonight": 0, "moving": 0, "new": 3}


def test_latency_counts_from_the_end_of_readout_of_each_alert_once(registry):
    assert registry.get_sample_value("gpudiff_alert_latency_seconds_count") == 3
    assert registry.get_sample_value("gpudiff_alert_latency_seconds_sum") == pytest.approx(
        3 * (NOW - 61007.0002) * 86400,
        rel=1e-4,  # an MJD as float64 is good to a microsecond of 70 s
    )


@pytest.mark.parametrize("stage", ["associate", "encode", "archive", "store"])
def test_every_stage_of_a_batch_is_timed(registry, stage):
    assert registry.get_sample_value("gpudiff_associator_stage_seconds_count", {"stage": stage}) == 1


def test_every_transaction_is_timed(registry):
    assert registry.get_sample_value("gpudiff_associator_stage_seconds_count", {"stage": "commit"}) >= 1


class Night:
    """An associator, its two clocks, and two sinks, one of which fails at first and refuses the first alert."""

    def __init__(self, directory):
        self.tai, self.seconds = END, 0.0
        first = int(a_batch(3).sources["diaSourceId"][0])
        self.sinks = Memory("good"), Memory("odd", lost=2, refuse=frozenset([first]))
        self.associator = Associator(
            directory, Configuration(), lambda: self.tai, self.sinks, monotonic=lambda: self.seconds
        )
        self.visits = self.associator.visits

    def published(self) -> bool:
        self.associator.tick()
        self.associator.report("ready", "")
        return not self.associator.ledger.pending()

    def later(self, seconds: float) -> None:
        self.tai, self.seconds = self.tai + seconds / 86400, self.seconds + seconds
        self.associator.tick()

    def value(self, name: str, **labels: str) -> float | None:
        self.associator.report("ready", "")
        return self.associator.metrics.registry.get_sample_value(f"gpudiff_{name}", labels)


@pytest.fixture
def night(tmp_path, monkeypatch):
    monkeypatch.setattr(publisher, "PAUSE_S", 0.001)
    made = Night(tmp_path)
    yield made
    made.associator.close()


def test_an_alerts_latency_ends_when_the_last_sink_has_it_and_the_commits_before(night):
    night.sinks[1].away = True
    night.later(2.0)
    night.associator.take(a_batch(3))
    assert night.value("commit_latency_seconds_sum") == pytest.approx(2.0, abs=1e-3)  # MJD: microseconds
    assert (night.value("commit_latency_seconds_count"), night.value("alert_latency_seconds_count")) == (1, 0)
    night.later(5.0)
    night.sinks[1].away = False
    until(night.published)
    assert night.value("alert_latency_seconds_count") == 3
    assert night.value("alert_latency_seconds_sum") == pytest.approx(3 * 7.0, abs=1e-3)


def test_what_sinks_took_refused_and_failed_at_is_counted_for_each(night):
    night.associator.take(a_batch(3))
    until(night.published)
    assert (night.value("alerts_sent_total", sink="good"), night.value("alerts_sent_total", sink="odd")) == (3, 2)
    assert (night.value("alerts_dead_total", sink="good"), night.value("alerts_dead_total", sink="odd")) == (0, 1)
    assert night.value("sink_errors_total", sink="odd") == 2
    assert night.value("sink_behind_frames", sink="odd") == 0


def test_how_far_a_sink_is_behind_is_shown(night):
    night.sinks[1].away = True
    for visit in (7, 8):
        night.associator.take(a_batch(3, visit=visit))
    until(lambda: night.value("sink_behind_frames", sink="good") == 0)
    assert night.value("sink_behind_frames", sink="odd") == 2


def test_publishing_is_timed_from_the_commit_and_from_the_end_of_readout(night):
    night.later(5.0)  # from the end of readout to the commit
    night.associator.take(a_batch(3))
    until(night.published)
    for sink in ("good", "odd"):
        assert night.value("sink_latency_seconds_count", sink=sink) == 1
        assert night.value("sink_latency_seconds_sum", sink=sink) == pytest.approx(5.0, abs=1e-3)  # of an MJD
    assert night.value("associator_stage_seconds_count", stage="publish") == 2
    assert night.value("associator_stage_seconds_sum", stage="publish") == pytest.approx(0.0, abs=1e-3)


def test_visits_in_time_and_late_are_counted_when_their_last_alert_has_left(night):
    night.visits.announce(7, [4], END)
    night.associator.take(a_batch(3))
    until(night.published)
    assert night.value("visits_total", reached="published") == 1
    assert night.value("visits_total", reached="in_time") == 1
    night.visits.announce(6, [4], END)
    night.associator.take(a_batch(3, visit=6))  # of the night before
    until(night.published)
    assert night.value("visits_total", reached="published") == 2
    assert night.value("visits_total", reached="in_time") == 1
    assert night.value("visits_total", reached="closed") == 2


def test_missing_failed_and_late_frames_are_counted(night):
    night.visits.announce(7, [4, 5, 6], END)
    night.visits.failed(FrameId(7, 0, 6), "NoStars")
    night.associator.take(a_batch(3, detector=4))
    night.later(21.0)
    night.associator.take(a_batch(2, detector=5))
    states = {state: night.value("detectors_total", state=state) for state in ("committed", "missing", "failed")}
    assert states == {"committed": 2, "missing": 1, "failed": 1}
    assert night.value("alerts_apart_total", why="delayed") == 2


def test_alerts_of_a_suspect_frame_are_counted_as_held(tmp_path):
    associator = Associator(tmp_path, override(Configuration(), "ledger", suspect_count=2), clock=lambda: NOW)
    associator.take(a_batch(3))
    associator.close()
    assert associator.metrics.registry.get_sample_value("gpudiff_alerts_apart_total", {"why": "held"}) == 3


def test_a_count_that_begins_again_is_followed():
    registry = CollectorRegistry()
    following = Following(Counter("sent", "", ["sink"], registry=registry))
    for value in (3, 5, 2, 2):  # a process that was started again had sent 2
        following.note("a", value)
    assert registry.get_sample_value("sent_total", {"sink": "a"}) == 7


def test_the_age_of_the_known_sky_is_shown(tmp_path):
    metrics = AssociatorMetrics()
    assert math.isnan(metrics.registry.get_sample_value("gpudiff_snapshot_age_seconds"))
    metrics.snapshot(time.time() - 3600)
    assert metrics.registry.get_sample_value("gpudiff_snapshot_age_seconds") >= 3600
