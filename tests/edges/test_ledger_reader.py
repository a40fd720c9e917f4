"""gpudiff.edges.ledger_reader, on SQLite and on PostgreSQL: what a ledger tells, and which ones are refused."""

import sqlite3

import pytest
from ledgers import a_commit, committed

from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.errors import StoreFailed, UnreadableFile
from gpudiff.model.frame import FrameId


def test_a_reader_reads_beside_the_writer_and_cannot_write(ledger):
    ledger.commit(a_commit())
    reader = LedgerReader(ledger.where)
    ledger.commit(a_commit(visit=8))
    assert [row["visit"] for row in reader.visits()] == [7, 8]
    with pytest.raises(StoreFailed, match=r"read.?only"):
        reader._db.run("DELETE FROM dia_source")
    reader.close()


def test_what_is_left_of_objects_without_a_frame(ledger):
    ledger.commit(a_commit(2))
    objects = ledger.objects()
    ledger.commit(a_commit(2, visit=8, objects=objects, flux_scale=2.5))
    ids, left, owner, light = ledger.left_without(FrameId(7, 0, 4))
    assert sorted(ids) == objects["diaObjectId"].tolist()
    assert left["visit"].tolist() == [8, 8]
    assert owner.tolist() == objects["diaObjectId"].tolist()
    assert (light.band.tolist(), light.scale.tolist()) == (["r", "r"], [2.5, 2.5])


def test_history_is_the_objects_other_detections_in_order_of_time(ledger):
    first = a_commit(1, visit=9)
    ledger.commit(first)
    ledger.commit(a_commit(1, visit=8, objects=ledger.objects()))
    one = ledger.objects()["diaObjectId"].tolist()
    records = ledger.history(one, FrameId(10, 0, 4), 61010.0)[one[0]]
    assert records == [b"record %d" % (visit << 24 | 4 << 16) for visit in (8, 9)]
    assert ledger.history(one, FrameId(9, 0, 4), 61010.0)[one[0]] == records[:1]
    assert ledger.history(one, FrameId(10, 0, 4), 61010.0 + 366) == {}
    assert ledger.history([5], FrameId(10, 0, 4), float("nan")) == {}


def test_visits_are_summed_up(ledger):
    ledger.commit(a_commit(2, detector=1))
    ledger.commit(a_commit(3, detector=2))
    ledger.commit(a_commit(1, visit=8))
    assert [tuple(row.values()) for row in ledger.visits()] == [
        (7, "COLLECTING", 2, 5, 0, 5),
        (8, "COLLECTING", 1, 1, 0, 1),
    ]


def test_what_waits_in_the_outbox_is_counted_behind_a_sinks_mark(ledger):
    committed(ledger, a_commit(2, visit=7, now=61020.0), a_commit(3, visit=8, now=61020.5))
    first = ledger.pending()[0].seq
    assert ledger.outbox(0) == {"frames": 2, "alerts": 5, "held": 0, "since_tai": 61020.0}
    assert ledger.outbox(first) == {"frames": 1, "alerts": 3, "held": 0, "since_tai": 61020.5}
    assert ledger.outbox(first + 1) == {"frames": 0, "alerts": 0, "held": 0, "since_tai": None}


def test_held_alerts_wait_for_no_sink_and_are_counted_until_they_are_dropped(ledger):
    committed(ledger, a_commit(4, held="suspect"))
    assert ledger.outbox(0) == {"frames": 0, "alerts": 0, "held": 4, "since_tai": None}
    ledger.release(7, None, drop=True, now=61021.0)
    assert ledger.outbox(0)["held"] == 0


def test_what_was_committed_since_a_moment_is_counted(ledger):
    frames = [a_commit(2, visit=7, detector=one, now=61020.0) for one in (4, 5)]
    committed(ledger, *frames, a_commit(3, visit=8, now=61020.5))
    assert ledger.committed_since(61020.0) == {"visits": 2, "frames": 3, "alerts": 7}
    assert ledger.committed_since(61020.25) == {"visits": 1, "frames": 1, "alerts": 3}
    ledger.delivered([], [], 61020.75)  # without sinks the archive is the end
    assert ledger.latencies(since_tai=61020.25) == pytest.approx([1.75 * 86400] * 3)


def test_an_old_ledger_is_refused_by_name(tmp_path):
    old = sqlite3.connect(tmp_path / "ledger.sqlite")
    old.execute("PRAGMA user_version = 1")
    old.close()
    for kind in (Ledger, LedgerReader):
        with pytest.raises(StoreFailed, match="version 3, got 1"):
            kind(tmp_path / "ledger.sqlite")


def test_a_ledger_whose_objects_have_other_columns_is_refused(where):
    ledger = Ledger(where)
    ledger._db.run("UPDATE meta SET value = 'other' WHERE name = 'dia_object'")
    ledger.close()
    with pytest.raises(StoreFailed, match="columns"):
        Ledger(where)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 20)
    for kind in (Ledger, LedgerReader):
        with pytest.raises(StoreFailed):
            kind(tmp_path / "text")
    with pytest.raises(UnreadableFile, match="none"):
        LedgerReader(tmp_path / "absent")
