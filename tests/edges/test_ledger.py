"""gpudiff.edges.ledger, on SQLite and on PostgreSQL: all or nothing, nothing deleted, nothing twice."""

import dataclasses
import sqlite3

import numpy as np
import pytest
from batches import a_sources
from postgres import Server

from gpudiff.edges.archive import Appended
from gpudiff.edges.ledger import Delivered, Ledger, Published
from gpudiff.edges.ledger_commit import Commit
from gpudiff.edges.ledger_reader import ArchiveFile, LedgerReader
from gpudiff.model.association import KNOWN, NEW, Association
from gpudiff.model.errors import BadMessage, StoreFailed
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import DIAOBJECT, FORCED_SOURCE, Table
from gpudiff.science.objects import new_objects

SCHEMA = '{"type": "string"}'


def a_commit(count: int = 2, visit: int = 7, detector: int = 4, **values) -> Commit:
    """All of a frame's sources new; records and alerts are words that say whose they are."""
    sources = values.pop("sources", a_sources(count, visit, detector))
    none = np.zeros(count, int)
    kind = KNOWN if "objects" in values else NEW
    objects = values.pop("objects", new_objects(sources, 61020.0))
    ids = sources["diaSourceId"].tolist()
    made = Commit(
        frame=FrameId(visit, 0, detector),
        fingerprint="f0",
        revision=0,
        band="r",
        sources=sources,
        association=Association(np.full(count, kind, np.int8), none, none, none, none + 0.5, objects),
        records=[b"record %d" % one for one in ids],
        file=f"{visit}.avro",
        appended=Appended(100 * count, 100 * np.arange(count), np.full(count, 90)),
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


@pytest.fixture(scope="module")
def server():
    with Server() as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """A place for a ledger that is not there yet."""
    if request.param == "sqlite":
        return tmp_path / "ledger.sqlite"
    return request.getfixturevalue("server").new_database()


@pytest.fixture
def ledger(where):
    made = Ledger(where)
    yield made
    made.close()


@pytest.fixture
def file_ledger(tmp_path):
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def reopened(ledger: Ledger) -> Ledger:
    ledger.close()
    return Ledger(ledger.where)


def everything(ledger: Ledger) -> list[tuple]:
    """Every row of every table."""
    tables = "visit detector transition batch dia_source dia_object outbox archive provenance sink dead_alert"
    return [row for table in tables.split() for row in sorted(ledger._rows(f"SELECT * FROM {table}"), key=repr)]


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


def test_what_every_sink_has_leaves_the_outbox_and_is_published(ledger):
    ledger.commit(a_commit(3, detector=1))
    ledger.commit(a_commit(3, detector=2))
    first, second = (one.seq for one in ledger.pending())
    sinks = ["fast", "slow"]
    done = [Delivered("fast", second, 61020.2), Delivered("slow", first, 61020.5)]
    assert ledger.delivered(done, sinks, 0.0) == [Published(3, 61019.0, 61020.5)]
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
    assert [one.held for one in ledger.pending(held=True)] == ["dropped"]
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


def test_visits_are_summed_up(ledger):
    ledger.commit(a_commit(2, detector=1))
    ledger.commit(a_commit(3, detector=2))
    ledger.commit(a_commit(1, visit=8))
    assert [tuple(row.values()) for row in ledger.visits()] == [
        (7, "COLLECTING", 2, 5, 0, 5),
        (8, "COLLECTING", 1, 1, 0, 1),
    ]


def test_a_full_disk_is_named_and_leaves_the_ledger_as_it_was(file_ledger):
    file_ledger.commit(a_commit())
    before = everything(file_ledger)
    db = file_ledger._db.connection
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}")
    with pytest.raises(StoreFailed, match="full"):
        file_ledger.commit(a_commit(visit=8, records=[bytes(40000)] * 2))
    assert everything(file_ledger) == before


def test_a_locked_ledger_is_named(file_ledger):
    other = sqlite3.connect(file_ledger.where, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    file_ledger._db.connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreFailed, match="locked"):
        file_ledger.commit(a_commit())
    other.close()


def test_a_postgresql_ledger_has_one_writer(server):
    where = server.new_database()
    ledger = Ledger(where)
    with pytest.raises(StoreFailed, match="other writer"):
        Ledger(where)
    ledger.close()
    Ledger(where).close()


def test_a_reader_reads_beside_the_writer_and_cannot_write(ledger):
    ledger.commit(a_commit())
    reader = LedgerReader(ledger.where)
    ledger.commit(a_commit(visit=8))
    assert [row["visit"] for row in reader.visits()] == [7, 8]
    with pytest.raises(StoreFailed, match=r"read.?only"):
        reader._db.run("DELETE FROM dia_source")
    reader.close()


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


def test_a_server_that_is_not_there_is_named():
    with pytest.raises(StoreFailed):
        Ledger("postgresql://127.0.0.1:1/nothing")


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / "text").write_text("not a database, but long enough to be looked at " * 20)
    for kind in (Ledger, LedgerReader):
        with pytest.raises(StoreFailed):
            kind(tmp_path / "text")
    with pytest.raises(StoreFailed, match="none"):
        LedgerReader(tmp_path / "absent")


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


def committed(ledger: Ledger, *frames: Commit) -> None:
    """Commit frames, each into the file of its visit."""
    for one in frames:
        if one.frame.visit not in {file.visit for file in ledger.all_archive_files()}:
            ledger.new_archive_file(ArchiveFile(one.file, one.frame.visit, one.schema_fingerprint, 0))
        ledger.commit(one)
