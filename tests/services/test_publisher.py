"""gpudiff.services.publisher: every alert to every sink at least once, and nobody waits for the slowest."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from batches import a_batch
from serving import until

from gpudiff.edges.alert_codec import decode_alert
from gpudiff.edges.notices import messages
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration, override
from gpudiff.services import publisher
from gpudiff.services.associator import Associator

NOW = 61030.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(publisher, "PAUSE_S", 0.001)


def start(directory: Path, *sinks, **ledger) -> Associator:
    configuration = override(Configuration(), "ledger", **ledger)
    return Associator(directory, configuration, clock=lambda: NOW, sinks=sinks)


def published(associator: Associator) -> bool:
    """Whether the outbox is empty, what the sinks did being written down."""
    associator.tick()
    return associator.ledger.pending() == []


def deliver(directory: Path, sink: Memory, *batches) -> None:
    """An associator that ends once its one sink has the alerts of these, and what waited."""
    associator = start(directory, sink)
    for batch in batches:
        associator.take(batch)
    until(lambda: published(associator))
    associator.close()


class Broken(Memory):
    def publish(self, batch):
        raise ZeroDivisionError("a planted bug")


class Unreachable(Memory):
    def publish(self, batch):
        raise publisher.NeighbourLost("gone")


def test_a_sink_gets_every_alert_with_its_row(tmp_path):
    sink = Memory()
    deliver(tmp_path, sink, a_batch(3), a_batch(2, visit=8))
    alerts = [decode_alert(alert) for batch in sink.batches for alert in batch.alerts]
    assert [(one["diaSourceId"], 0) for one in alerts] == sink.ids
    assert len(alerts) == 5
    assert sink.batches[1].rows["nDiaSources"].tolist() == [2, 2]
    assert sink.batches[0].fingerprint == alerts[0]["provenance"]["fingerprint"].hex()


def test_a_sink_that_is_gone_for_a_while_gets_the_batch_later(tmp_path):
    sink = Memory(lost=3)
    associator = start(tmp_path, sink)
    associator.take(a_batch(3))
    until(lambda: published(associator))
    assert len(sink.ids) == 3
    assert associator.publisher.lag(0)["memory"]["errors"] == 3
    associator.close()


def test_a_dead_sink_holds_up_neither_commits_nor_other_sinks(tmp_path):
    good, dead = Memory("good"), Unreachable("dead")
    associator = start(tmp_path, good, dead)
    for visit in range(3):
        assert associator.take(a_batch(2, visit=visit + 1)).status == "committed"
    until(lambda: len(good.ids) == 6)
    associator.tick()
    lag = associator.publisher.lag(associator.ledger.last_seq())
    assert (lag["good"]["behind"], lag["dead"]["behind"]) == (0, 3)
    assert associator.ledger.latencies().tolist() == []
    associator.close()


def test_published_is_when_the_slowest_sink_has_it(tmp_path):
    associator = start(tmp_path, Memory("one"), Memory("two"))
    associator.take(a_batch(2))
    until(lambda: published(associator))
    assert associator.ledger.latencies(7).tolist() == pytest.approx([(NOW - 61007.0002) * 86400] * 2)
    associator.close()


def test_a_restarted_sink_goes_on_where_it_was(tmp_path):
    first, second = Memory(), Memory()
    deliver(tmp_path, first, a_batch(2))
    deliver(tmp_path, second, a_batch(3, visit=8))
    assert [len(first.ids), len(second.ids)] == [2, 3]


def test_readers_are_told_of_each_revision_that_withdraws_another_even_without_alerts(tmp_path):
    sink, revisions = Memory(), ((3, "ab" * 16), (2, "cd" * 16), (0, "ef" * 16))
    deliver(tmp_path, sink, *(a_batch(count, fingerprint=one) for count, one in revisions))
    frame = {"visit": 7, "snap": 0, "detector": 4}
    assert sink.words == [("withdrawn", frame | {"revision": revision}) for revision in (1, 2)]
    assert len(sink.ids) == 5


def test_what_a_crash_left_in_the_outbox_is_published_at_the_next_start(tmp_path):
    associator = start(tmp_path, Unreachable())
    associator.take(a_batch(2))
    associator.close()
    sink = Memory()
    deliver(tmp_path, sink)
    assert len(sink.ids) == 2


def test_what_waited_for_a_sink_that_is_no_more_is_published_at_the_next_start(tmp_path):
    good = Memory("good")
    associator = start(tmp_path, good, Unreachable("dead"))
    associator.take(a_batch(2))
    until(lambda: len(good.ids) == 2)
    associator.close()
    associator = start(tmp_path, Memory("good"))
    assert published(associator)
    associator.close()


def test_what_a_sink_refuses_or_breaks_on_is_a_dead_letter_and_the_rest_goes_on(tmp_path):
    refused = int(a_batch(2).sources["diaSourceId"][1])
    associator = start(tmp_path, Memory("strict", refuse=frozenset([refused])), Broken("broken"))
    associator.take(a_batch(2))
    until(lambda: published(associator))
    dead = associator.ledger._rows("SELECT sink, diaSourceId, reason FROM dead_alert ORDER BY sink, diaSourceId")
    assert [(sink, one == refused) for sink, one, _ in dead] == [
        ("broken", False),
        ("broken", True),
        ("strict", True),
    ]
    assert "planted" in dead[0][2]
    associator.close()


def test_how_many_a_sink_refused_and_why_it_fails_now_is_told(tmp_path):
    refused = int(a_batch(2).sources["diaSourceId"][1])
    strict, gone = Memory("strict", refuse=frozenset([refused])), Unreachable("gone")
    associator = start(tmp_path, strict, gone)
    associator.take(a_batch(2))
    until(lambda: strict.ids and associator.publisher.lag(0)["gone"]["errors"])
    lag = associator.publisher.lag(0)
    associator.close()
    assert (lag["strict"]["refused"], lag["strict"]["trouble"]) == (1, "")
    assert (lag["gone"]["refused"], lag["gone"]["trouble"]) == (0, "NeighbourLost: gone")


def test_sinks_of_full_alerts_wait_under_load_and_the_others_do_not(tmp_path):
    full, notice = Memory("full", tier="full"), Memory("notice")
    associator = start(tmp_path, full, notice)
    associator.publisher.defer_full(True)
    until(lambda: associator.publisher.followers[0].idle)
    associator.take(a_batch(2))
    until(lambda: len(notice.ids) == 2)
    assert full.ids == []
    associator.publisher.defer_full(False)
    until(lambda: published(associator))
    assert full.ids == notice.ids
    associator.close()


def test_suspect_alerts_are_held_make_no_objects_and_leave_when_released(tmp_path):
    sink = Memory()
    associator = start(tmp_path, sink, suspect_count=2)
    associator.take(a_batch(2, detector=5))
    assert associator.take(a_batch(3, visit=9, ra=200.0)).status == "committed"
    until(lambda: published(associator))
    assert len(sink.ids) == 2
    assert len(associator.ledger.objects()) == 2
    assert associator.ledger.standing(a_batch(3, visit=9).observation.frame).suspect
    assert associator.ledger.release(9, 4, False, NOW) == 1
    associator.publisher.wake()
    until(lambda: published(associator))
    assert len(sink.ids) == 5
    assert decode_alert(sink.batches[-1].alerts[0])["diaObject"] is None
    associator.close()


class Unsettled(Memory):
    """Needs an hour for what it took to leave."""

    settle_s = 0.0

    def publish(self, batch):
        self.settle_s = 3600.0
        return super().publish(batch)


def test_what_a_sink_took_counts_once_it_had_time_to_leave(tmp_path):
    sink = Unsettled()
    associator = start(tmp_path, sink)
    associator.take(a_batch(2))
    until(lambda: len(sink.ids) == 2)
    assert not published(associator)  # a kill now has it sent again
    sink.settle_s = 0.0
    until(lambda: published(associator))
    associator.close()


def test_what_a_sink_took_counts_when_the_service_ends_in_order(tmp_path):
    sink, again = Unsettled(), Memory()
    associator = start(tmp_path, sink)
    associator.take(a_batch(2))
    until(lambda: len(sink.ids) == 2)
    associator.close()
    deliver(tmp_path, again, a_batch(1, visit=8))
    assert len(again.ids) == 1


def test_a_new_sink_waits_for_its_readers_before_the_first_alert(tmp_path):
    early, sink = Unsettled(), Memory()
    early.settle_s = 3600.0
    associator = start(tmp_path, early)
    associator.take(a_batch(2))
    associator.close()
    assert early.ids == []
    deliver(tmp_path, sink)
    assert len(sink.ids) == 2


@pytest.mark.parametrize("zero_point", [27.0, None])
def test_a_notice_of_what_the_ledger_has_is_the_one_of_the_alert(tmp_path, zero_point):
    sink = Memory()
    trails = {"trailLength": [0, 12, 0], "trailAngle": [0, 30, 0], "psfFluxErr": [50, 3.3, np.nan]}
    deliver(tmp_path, sink, a_batch(3, zero_point=zero_point, **trails))
    (batch,) = sink.batches
    assert batch.published is not None
    of_alerts = dataclasses.replace(batch, published=None, sources=None)
    assert messages(batch, "notice") == messages(of_alerts, "notice")


def test_a_notice_of_a_frame_without_a_wcs_is_read_from_its_alert(tmp_path):
    sink = Memory()
    deliver(tmp_path, sink, dataclasses.replace(a_batch(2), wcs={}))
    assert sink.batches[0].published is None
    assert len(messages(sink.batches[0], "notice")[0]) == 2
