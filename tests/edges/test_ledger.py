"""gpudiff.edges.ledger, on SQLite and on PostgreSQL: all or nothing, nothing deleted, nothing twice."""

import numpy as np
import pytest
from batches import a_sources
from ledgers import a_commit, everything

from gpudiff.edges.ledger import Delivered, Ledger, Published
from gpudiff.edges.ledger_reader import ArchiveFile
from gpudiff.model.errors import BadMessage
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import FORCED_SOURCE, Table


def reopened(ledger: Ledger) -> Ledger:
    ledger.close()
    return Ledger(ledger.where)


def test_a_commit_stores_sources_objects_alerts_and_state(ledger):
    what = a_commit()
    ledger.commit(what)
    stored = ledger.sources(7)
    for name, column in what.sources.columns.items():
        np.testing.assert_array_equal(stored[name], column, err_msg=name)
    np.testing.assert_array_equal(ledger.objects()["diaObjectId"], what.sources["diaSourceId"])
    (waiting,) = ledger.pending()
    assert (waiting.file, waiting.frame, waiting.offsets.tolist()) == ("7.avro", what.frame, [0, 100])
    assert (ledger.state(7), ledger.state(7, 0, 4)) == ("COLLECTING", "COMMITTED")
    assert ledger.standing(what.frame).fingerprint == "f0"
    assert ledger.steps("a0") == what.steps


def test_a_commit_is_there_after_reopening(ledger):
    ledger.commit(a_commit())
    before = everything(ledger)
    again = reopened(ledger)
    assert everything(again) == before
    again.close()


def test_a_frame_without_sources_is_committed_and_published_at_once(ledger):
    ledger.commit(a_commit(0))
    assert ledger.standing(FrameId(7, 0, 4)).latency_s == pytest.approx(86400)
    assert ledger.pending() == []


def test_positions_that_are_unknown_stay_unknown(ledger):
    ledger.commit(a_commit(1, sources=a_sources(1, ra=np.nan, dec=np.nan)))
    assert np.isnan(ledger.sources(7)["ra"]).all()
    assert np.isnan(ledger.objects()["ra"]).all()


def test_a_commit_that_fails_half_way_changes_nothing(ledger):
    ledger.commit(a_commit(detector=1))
    before = everything(ledger)
    with pytest.raises(ValueError, match="is shorter"):
        ledger.commit(a_commit(records=[b"one"]))
    assert everything(ledger) == before


def test_frames_that_are_committed_together_end_as_those_committed_one_by_one(where, tmp_path):
    alone, together = Ledger(tmp_path / "alone.sqlite"), Ledger(where)
    alone.commit(a_commit(2, detector=1))
    together.commit(a_commit(2, detector=1))
    known = {"objects": alone.objects(), "sources": a_sources(2, 7, 2)}
    frames = [a_commit(2, detector=2, **known), a_commit(0, detector=3), a_commit(3, detector=4, band="g")]
    for one in frames:
        alone.commit(one)
    together.commit(*frames)
    for one in range(1, 5):
        for name, column in alone.batch_sources(FrameId(7, 0, one)).columns.items():
            np.testing.assert_array_equal(together.batch_sources(FrameId(7, 0, one))[name], column, err_msg=name)
    assert [one.frame for one in together.pending()] == [one.frame for one in alone.pending()]
    np.testing.assert_array_equal(together.objects()["nDiaSources"], alone.objects()["nDiaSources"])
    assert [together.standing(one.frame) for one in frames] == [alone.standing(one.frame) for one in frames]
    for one in (alone, together):
        one.close()


def test_a_part_of_a_transaction_is_undone_alone(ledger):
    with ledger.transaction():
        ledger.commit(a_commit(detector=1))
        with pytest.raises(BadMessage):
            ledger.commit(a_commit(detector=1, frame=FrameId(7, 1, 1)))
        ledger.commit(a_commit(detector=2))
    assert [one.frame.detector for one in ledger.pending()] == [1, 2]


def test_a_transaction_is_undone_as_a_whole(ledger):
    before = everything(ledger)

    def crash():
        with ledger.transaction():
            ledger.commit(a_commit())
            raise KeyError

    with pytest.raises(KeyError):
        crash()
    assert everything(ledger) == before


def test_an_id_of_another_frame_is_refused_and_changes_nothing(ledger):
    ledger.commit(a_commit())
    before = everything(ledger)
    with pytest.raises(BadMessage, match="taken"):
        ledger.commit(a_commit(frame=FrameId(7, 1, 4)))
    assert everything(ledger) == before


def test_a_new_revision_withdraws_the_old_and_deletes_nothing(ledger):
    ledger.commit(a_commit(3))
    old = ledger.objects()["diaObjectId"].tolist()
    ledger.commit(a_commit(2, revision=1, fingerprint="f1", withdrawn=old, now=61021.0))
    rows = ledger._rows("SELECT revision, withdrawn_at FROM dia_source ORDER BY revision, diaSourceId")
    assert rows == [(0, 61021.0)] * 3 + [(1, None)] * 2
    assert len(ledger.sources(7)) == 2
    assert ledger.objects()["diaObjectId"].tolist() == old[:2]
    assert ledger.standing(FrameId(7, 0, 4)).revision == 1


def a_made_up(fingerprint: str = "f0") -> MadeUp:
    values = {c.name: np.zeros(1, c.dtype) for c in FORCED_SOURCE}
    values |= {"diaObjectId": [5], "visit": [7], "detector": [4], "midpointMjdTai": [61000.0]}
    return MadeUp(FrameId(7, 0, 4), fingerprint, "adu", None, Table(FORCED_SOURCE, values))


def test_forced_photometry_is_made_up_once(ledger):
    ledger.commit(a_commit())
    assert [ledger.make_up(a_made_up(), [b"late"]) for _ in range(2)] == [True, False]
    assert ledger.forced_history([5], 61001.0) == {5: [b"late"]}
    assert ledger.forced(7)["diaObjectId"].tolist() == [5]


def test_what_was_made_up_is_withdrawn_with_its_revision(ledger):
    ledger.commit(a_commit())
    ledger.make_up(a_made_up(), [b"late"])
    ledger.commit(a_commit(revision=1, fingerprint="f1", file="7.avro"))
    assert ledger.forced_history([5], 61001.0) == {}


def test_nothing_is_made_up_for_a_frame_that_is_not_there_or_another_revision(ledger):
    with pytest.raises(BadMessage, match="got none"):
        ledger.make_up(a_made_up(), [b"late"])
    ledger.commit(a_commit())
    with pytest.raises(BadMessage, match="got f0"):
        ledger.make_up(a_made_up("f1"), [b"late"])
    assert ledger.forced_history([5], 61001.0) == {}


def test_what_every_sink_has_leaves_the_outbox_and_is_published(ledger):
    ledger.commit(a_commit(3, detector=1))
    ledger.commit(a_commit(3, detector=2))
    first, second = (one.seq for one in ledger.pending())
    sinks = ["fast", "slow"]
    done = [Delivered("fast", second, 61020.2), Delivered("slow", first, 61020.5)]
    assert ledger.delivered(done, sinks, 0.0) == [Published(7, 3, 61019.0, 61020.5)]
    assert [one.seq for one in ledger.pending()] == [second]
    assert ledger.watermarks() == {"fast": second, "slow": first}
    assert ledger.latencies(7).tolist() == pytest.approx([1.5 * 86400] * 3)


def test_frames_that_are_noted_together_were_published_each_at_its_own_time(ledger):
    ledger.commit(a_commit(1, detector=1))
    ledger.commit(a_commit(1, detector=2))
    first, second = (one.seq for one in ledger.pending())
    ledger.delivered(
        [Delivered("fast", first, 61020.1), Delivered("fast", second, 61020.2)], ["fast", "slow"], 0.0
    )
    ledger.delivered(
        [Delivered("slow", first, 61020.3), Delivered("slow", second, 61020.5)], ["fast", "slow"], 0.0
    )
    assert ledger.latencies(7).tolist() == pytest.approx([1.3 * 86400, 1.5 * 86400])


def test_without_sinks_the_archive_is_the_publication(ledger):
    ledger.commit(a_commit(3))
    assert ledger.latencies().tolist() == []
    ledger.delivered([], [], 61020.0)
    assert ledger.latencies().tolist() == pytest.approx([86400.0] * 3)
    assert ledger.pending() == []


def test_what_a_sink_refuses_is_a_dead_letter(ledger):
    ledger.commit(a_commit(2))
    ledger.delivered([Delivered("one", ledger.last_seq(), 61020.0, [(5, 0, "too large")])], ["one"], 0.0)
    assert ledger._rows("SELECT sink, diaSourceId, reason FROM dead_alert") == [("one", 5, "too large")]


def test_held_alerts_wait_until_they_are_released(ledger):
    ledger.commit(a_commit(2, held="suspect"))
    ledger.commit(a_commit(2, detector=5))
    ledger.delivered([], [], 61020.0)
    assert ledger.pending() == []
    assert ledger.release(7, 4, False, 61021.0) == 1
    assert [one.frame.detector for one in ledger.pending()] == [4]
    assert ledger.waiting(7) == 1


def test_dropped_alerts_never_leave_and_are_not_deleted(ledger):
    ledger.commit(a_commit(2, held="suspect"))
    assert ledger.release(7, None, True, 61021.0) == 1
    assert ledger.pending() == []
    assert ledger.held(7) == []
    assert (ledger.release(7, None, False, 61022.0), ledger.waiting(7)) == (0, 0)


def test_sequence_numbers_are_never_given_twice(ledger):
    ledger.commit(a_commit(2))
    last = ledger.last_seq()
    ledger.delivered([], [], 61021.0)
    ledger.commit(a_commit(1, visit=8))
    assert ledger.last_seq() > last


def test_the_archive_files_size_is_committed_with_the_alerts(ledger):
    ledger.new_archive_file(ArchiveFile("7.avro", 7, "s0", 0))
    ledger.commit(a_commit(2))
    assert ledger.archive_files(7)["s0"] == ledger.archive_file("7.avro") == ArchiveFile("7.avro", 7, "s0", 200)


def test_every_transition_is_a_row(ledger):
    frame = FrameId(7, 0, 4)
    ledger.move_visit(7, "PLANNED", 1.0)
    for state in ("EXPECTED", "LEASED", "FAILED"):
        ledger.move_detector(frame, state, 2.0, "why")
    ledger.commit(a_commit())
    told = [(row["detector"], row["before"], row["after"]) for row in ledger.transitions(7)]
    assert told == [
        (None, "", "PLANNED"),
        (4, "", "EXPECTED"),
        (4, "EXPECTED", "LEASED"),
        (4, "LEASED", "FAILED"),
        (None, "PLANNED", "COLLECTING"),
        (4, "FAILED", "COMMITTED"),
    ]


def test_an_illegal_state_is_refused(ledger):
    ledger.commit(a_commit())
    with pytest.raises(BadMessage, match="LEASED cannot follow COMMITTED"):
        ledger.move_detector(FrameId(7, 0, 4), "LEASED", 2.0)
    assert ledger.state(7, 0, 4) == "COMMITTED"


def test_a_frame_of_a_sealed_visit_is_refused(ledger):
    for state in ("COLLECTING", "CLOSED", "PUBLISHED", "SEALED"):
        ledger.move_visit(7, state, 1.0)
    with pytest.raises(BadMessage, match="SEALED"):
        ledger.commit(a_commit())
    assert ledger.standing(FrameId(7, 0, 4)) is None
