"""gpudiff.edges.ledger: one transaction a frame, nothing deleted, nothing twice."""

import dataclasses
import sqlite3

import numpy as np
import pytest
from batches import a_sources

from gpudiff.edges.ledger import Commit, Ledger
from gpudiff.edges.ledger_reader import ArchiveFile, LedgerReader
from gpudiff.model.association import NEW, Association
from gpudiff.model.errors import BadMessage, StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.objects import new_objects

SCHEMA = '{"type": "string"}'


def a_commit(count: int = 2, visit: int = 7, detector: int = 4, **values) -> Commit:
    """All of a frame's sources new; records and alerts are words that say whose they are."""
    sources = values.pop("sources", a_sources(count, visit, detector))
    nobody = np.zeros(count, int)
    objects = values.pop("objects", new_objects(sources, 61020.0))
    ids = sources["diaSourceId"].tolist()
    made = Commit(
        frame=FrameId(visit, 0, detector),
        fingerprint="f0",
        revision=0,
        band="r",
        sources=sources,
        association=Association(nobody + NEW, nobody, nobody, nobody, nobody + 0.5, objects),
        records=[b"record %d" % one for one in ids],
        alerts=[b"alert %d" % one for one in ids],
        withdrawn=[],
        rebuilt=Table.empty(DIAOBJECT),
        schema=SCHEMA,
        schema_fingerprint="s0",
        alert_fingerprint="a0",
        steps=[{"step": "calibrate"}],
        reference_tai=61019.0,
        now=61020.0,
    )
    return dataclasses.replace(made, **values)


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def reopened(ledger: Ledger) -> Ledger:
    ledger.close()
    return Ledger(ledger.path)


def everything(ledger: Ledger) -> list[tuple]:
    """Every row of every table."""
    tables = ("visit", "detector", "transition", "dia_source", "dia_object", "outbox", "archive", "provenance")
    return [tuple(row) for table in tables for row in ledger._db.execute(f"SELECT * FROM {table}")]


def test_a_commit_stores_sources_objects_alerts_and_state(ledger):
    what = a_commit()
    ledger.commit(what)
    stored = ledger.sources(7)
    for name, column in what.sources.columns.items():
        np.testing.assert_array_equal(stored[name], column, err_msg=name)
    np.testing.assert_array_equal(ledger.objects()["diaObjectId"], what.sources["diaSourceId"])
    assert [one.alert for one in ledger.pending()] == what.alerts
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


@pytest.mark.parametrize("column", ["alerts", "records"])
def test_a_commit_that_fails_half_way_changes_nothing(ledger, column):
    ledger.commit(a_commit(detector=1))
    before = everything(ledger)

    def broken():
        yield b"one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ledger.commit(a_commit(**{column: broken()}))
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
    rows = ledger._db.execute("SELECT revision, withdrawn_at FROM dia_source ORDER BY revision").fetchall()
    assert [tuple(row) for row in rows] == [(0, 61021.0)] * 3 + [(1, None)] * 2
    assert len(ledger.sources(7)) == 2
    assert ledger.objects()["diaObjectId"].tolist() == old[:2]
    assert ledger.standing(FrameId(7, 0, 4)).revision == 1


def test_what_is_left_of_objects_without_a_frame(ledger):
    ledger.commit(a_commit(2))
    objects = ledger.objects()
    ledger.commit(a_commit(2, visit=8, objects=objects))
    ids, left, owner = ledger.left_without(FrameId(7, 0, 4))
    assert sorted(ids) == objects["diaObjectId"].tolist()
    assert left["visit"].tolist() == [8, 8]
    assert owner.tolist() == objects["diaObjectId"].tolist()


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


def test_published_alerts_leave_the_outbox_and_are_counted(ledger):
    ledger.commit(a_commit(3))
    file = ArchiveFile("7.avro", 7, "s0", 0)
    ledger.new_archive_file(file)
    seqs = [one.seq for one in ledger.pending()]
    ledger.published(seqs[:2], file.grown(100), 61020.5)
    assert [one.seq for one in ledger.pending()] == seqs[2:]
    assert ledger.archive_files(7)["s0"].size == 100
    assert ledger.latencies(7).tolist() == pytest.approx([1.5 * 86400] * 3)


def test_latencies_of_unpublished_alerts_are_not_told(ledger):
    ledger.commit(a_commit(3))
    assert ledger.latencies().tolist() == []


def test_sequence_numbers_are_never_given_twice(ledger):
    ledger.commit(a_commit(2))
    ledger.new_archive_file(ArchiveFile("7.avro", 7, "s0", 0))
    seqs = [one.seq for one in ledger.pending()]
    ledger.published(seqs, ArchiveFile("7.avro", 7, "s0", 9), 61021.0)
    ledger.commit(a_commit(1, visit=8))
    assert ledger.pending()[0].seq > max(seqs)


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


def test_visits_are_summed_up(ledger):
    ledger.commit(a_commit(2, detector=1))
    ledger.commit(a_commit(3, detector=2))
    ledger.commit(a_commit(1, visit=8))
    assert [tuple(row.values()) for row in ledger.visits()] == [
        (7, "COLLECTING", 2, 5, 0, 5),
        (8, "COLLECTING", 1, 1, 0, 1),
    ]


def test_a_full_disk_is_named_and_leaves_the_ledger_as_it_was(ledger):
    ledger.commit(a_commit())
    before = everything(ledger)
    pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
    ledger._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreFailed, match="full"):
        ledger.commit(a_commit(visit=8, alerts=[bytes(40000)] * 2))
    assert everything(ledger) == before


def test_a_locked_ledger_is_named(ledger):
    other = sqlite3.connect(ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    ledger._db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreFailed, match="locked"):
        ledger.commit(a_commit())
    other.close()


def test_a_reader_reads_beside_the_writer_and_cannot_write(ledger):
    ledger.commit(a_commit())
    reader = LedgerReader(ledger.path)
    ledger.commit(a_commit(visit=8))
    assert [row["visit"] for row in reader.visits()] == [7, 8]
    with pytest.raises(sqlite3.OperationalError):
        reader._db.execute("DELETE FROM dia_source")
    reader.close()


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 20)
    for kind in (Ledger, LedgerReader):
        with pytest.raises(StoreFailed):
            kind(tmp_path / "text")
    with pytest.raises(StoreFailed, match="none"):
        LedgerReader(tmp_path / "absent")
