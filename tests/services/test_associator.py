"""gpudiff.services.associator: every batch once, whatever is repeated, broken or killed."""

import dataclasses
from pathlib import Path

import fastavro
import numpy as np
import pytest
from batches import a_batch

from gpudiff.edges import archive
from gpudiff.edges.detections import encode, encode_later
from gpudiff.edges.ledger_database import Sqlite
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.config import Configuration
from gpudiff.model.errors import StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.model.tables import FORCED_SOURCE, Table
from gpudiff.services.associator import Associator, Message, made_up
from gpudiff.services.settled import runs

NOW = 61030.0
OTHER = FrameId(7, 1, 4)
"""Another snap, whose diaSourceIds are those of the first."""


class Killed(BaseException):
    """Stands for a SIGKILL: nobody catches it."""


def start(directory: Path) -> Associator:
    return Associator(directory, Configuration(), clock=lambda: NOW)


@pytest.fixture
def associator(tmp_path):
    made = start(tmp_path)
    yield made
    made.close()


def archived(directory: Path, name: str = "*.avro") -> list[dict]:
    """All alerts in the archive's files, read as any user would."""
    found = []
    for path in sorted((directory / "alerts").glob(name)):
        with open(path, "rb") as file:
            found += list(fastavro.reader(file))
    return found


def ids(alerts: list[dict]) -> list[tuple[int, int]]:
    return [(alert["diaSourceId"], alert["provenance"]["revision"]) for alert in alerts]


def test_a_first_visit_makes_new_objects_and_alerts(associator, tmp_path):
    answer = associator.take(a_batch(3))
    assert (answer.frame, answer.status) == ([7, 0, 4], "committed")
    assert (answer.alerts, answer.known, answer.new) == (3, 0, 3)
    assert answer.latency_s == pytest.approx((NOW - 61007.0002) * 86400)
    alerts = archived(tmp_path, "7.avro")
    assert [alert["diaSourceId"] for alert in alerts] == a_batch(3).sources["diaSourceId"].tolist()
    assert {alert["prvDiaSources"] for alert in alerts} == {None}


def test_a_second_visit_of_the_same_sky_joins_the_first_and_carries_its_history(associator, tmp_path):
    associator.take(a_batch(3))
    answer = associator.take(a_batch(3, visit=8))
    assert (answer.known, answer.new) == (3, 0)
    for first, second in zip(archived(tmp_path, "7.avro"), archived(tmp_path, "8.avro"), strict=True):
        assert second["prvDiaSources"] == [first["diaSource"]]
        assert second["diaObject"]["diaObjectId"] == first["diaSourceId"]
        assert second["diaObject"]["nDiaSources"] == 2


def test_objects_are_known_after_a_restart(tmp_path):
    associator = start(tmp_path)
    associator.take(a_batch(3))
    associator.close()
    again = start(tmp_path)
    assert again.take(a_batch(3, visit=8)).known == 3
    again.close()


def test_a_frame_sent_twice_changes_nothing(associator, tmp_path):
    first = associator.take(a_batch(3))
    before = archived(tmp_path)
    again = associator.take(a_batch(3))
    assert again.status == "duplicate"
    assert (again.alerts, again.known, again.new) == (first.alerts, first.known, first.new)
    assert again.latency_s == pytest.approx(first.latency_s)
    assert archived(tmp_path) == before
    assert len(associator.ledger.sources(7)) == 3


def test_other_software_makes_a_new_revision(associator, tmp_path):
    associator.take(a_batch(3))
    answer = associator.take(a_batch(2, fingerprint="cd" * 16))
    assert (answer.status, answer.known, answer.new) == ("committed", 0, 2)
    assert [revision for _, revision in ids(archived(tmp_path))] == [0, 0, 0, 1, 1]
    assert associator.ledger.objects()["nDiaSources"].tolist() == [1, 1]
    assert len(associator.settling.sky) == 2


def test_a_new_revision_does_not_count_twice_in_objects_that_others_share(associator):
    associator.take(a_batch(2))
    associator.take(a_batch(2, visit=8))
    answer = associator.take(a_batch(2, visit=8, fingerprint="cd" * 16))
    assert answer.known == 2
    assert associator.ledger.objects()["nDiaSources"].tolist() == [2, 2]


def test_a_new_revision_leaves_the_brightness_that_the_other_frames_saw(associator):
    frames = {visit: a_batch(2, visit=visit, zero_point=zero) for visit, zero in ((7, 31.4), (8, 30.4), (9, 29.4))}
    for batch in frames.values():
        associator.take(batch)
    whole = associator.ledger.objects()
    associator.take(dataclasses.replace(frames[8], fingerprint="cd" * 16))
    again = associator.ledger.objects()
    assert whole["r_psfFluxNdata"].tolist() == again["r_psfFluxNdata"].tolist() == [3, 3]
    for name in ("Mean", "MeanErr", "Sigma", "Chi2", "Min", "Max", "ErrMean", "PlainMean"):
        # fluxes come in another order: the last digits of float32
        np.testing.assert_allclose(again[f"r_psfFlux{name}"], whole[f"r_psfFlux{name}"], rtol=1e-5, err_msg=name)
    associator.take(dataclasses.replace(a_batch(1, visit=8, ra=200.0), fingerprint="ef" * 16))
    left = associator.ledger.objects()
    assert left["r_psfFluxNdata"].tolist() == [2, 2, 1]
    assert left["r_psfFluxMax"][0] == pytest.approx(1000 * 10**0.8, rel=1e-3)


def test_an_object_keeps_its_name_when_the_frame_that_named_it_moves_elsewhere(associator):
    associator.take(a_batch(1))
    associator.take(a_batch(1, visit=8))
    answer = associator.take(a_batch(1, fingerprint="cd" * 16, ra=200.0))
    assert answer.new == 1
    objects = associator.ledger.objects()
    assert objects["nDiaSources"].tolist() == [1, 1]
    assert objects["diaObjectId"].tolist() == [7 << 24 | 4 << 16, 7 << 24 | 4 << 16 | 0xFFFF]
    np.testing.assert_allclose(objects["ra"], [150.0, 200.0])


def test_a_frame_without_detections_is_committed_and_read_back_as_done(associator):
    assert associator.take(a_batch(0)).status == "committed"
    assert associator.take(a_batch(0)).status == "duplicate"


def test_sources_without_a_sky_position_become_new_objects_and_are_counted(associator):
    batch = dataclasses.replace(a_batch(2, ra=np.nan, dec=np.nan), wcs={})
    assert associator.take(batch).new == 2
    assert associator.take(dataclasses.replace(batch, fingerprint="cd" * 16)).new == 2
    assert associator.counts["unplaced"] == 4


def test_the_provenance_steps_are_stored_once(associator, tmp_path):
    associator.take(a_batch(1))
    associator.take(a_batch(1, visit=8))
    prints = {alert["provenance"]["fingerprint"].hex() for alert in archived(tmp_path)}
    assert len(prints) == 1
    steps = associator.ledger.steps(prints.pop())
    assert [step["step"] for step in steps] == ["calibrate", "associate", "encode"]


def a_forced() -> Table:
    """Forced photometry of visit 8 at the place of the object that the first source of visit 7 makes."""
    values = {c.name: np.zeros(1, c.dtype) for c in FORCED_SOURCE}
    values |= {
        "diaObjectId": [int(a_batch(1).sources["diaSourceId"][0])],
        "visit": [8],
        "detector": [4],
        "midpointMjdTai": [61008.0],
        "psfFlux": [5.0],
    }
    return Table(FORCED_SOURCE, values)


def test_forced_photometry_is_stored_and_carried_by_the_objects_later_alerts(associator, tmp_path):
    associator.take(a_batch(1))
    associator.take(dataclasses.replace(a_batch(0, visit=8), forced=a_forced()))
    associator.take(a_batch(1, visit=9))
    (alert,) = archived(tmp_path, "9.avro")
    assert [(one["visit"], one["psfFlux"]) for one in alert["prvDiaForcedSources"]] == [(8, 5.0)]
    assert associator.ledger.forced(8)["diaObjectId"].tolist() == a_forced()["diaObjectId"].tolist()


def test_what_is_made_up_later_is_stored_as_if_it_had_come_at_once(tmp_path):
    batch = dataclasses.replace(a_batch(0, visit=8, zero_point=25.0), forced=a_forced())
    alerts = []
    for name in ("at once", "later"):
        associator = start(tmp_path / name)
        associator.take(a_batch(1))
        if name == "later":
            associator.take(dataclasses.replace(batch, forced=Table.empty(FORCED_SOURCE)))
            said = [associator.later(encode_later(made_up(batch))).status for _ in range(2)]
            assert said == ["committed", "duplicate"]
        else:
            associator.take(batch)
        associator.take(a_batch(1, visit=9))
        associator.close()
        alerts += archived(tmp_path / name, "9.avro")
    assert alerts[0]["prvDiaForcedSources"] is not None
    assert alerts[0] == alerts[1]


def test_a_repeat_that_brings_the_forced_photometry_makes_it_up(associator):
    associator.take(a_batch(0, visit=8))
    again = [dataclasses.replace(a_batch(0, visit=8), forced=a_forced())] * 2
    assert [associator.take(one).status for one in again] == ["duplicate", "duplicate"]
    assert len(associator.ledger.forced(8)) == 1


def test_what_cannot_be_made_up_is_refused_by_name_and_kept(associator):
    batch = dataclasses.replace(a_batch(0, visit=8), forced=a_forced())
    answer = associator.later(encode_later(made_up(batch)))
    assert (answer.status, answer.error, answer.frame) == ("failed", "BadMessage", [8, 0, 4])
    assert len(associator.dead) == 1


# ---------------------------------------------------------------- bad messages
@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ([b"nonsense"], "BadMessage"),
        ([b"GDD2", b"{}", b"", b"", b"", b"", b"", b""], "MissingKey"),
        (encode(a_batch(1))[:4], "BadMessage"),
    ],
    ids=["nonsense", "empty-header", "short"],
)
def test_a_bad_message_is_refused_by_name_counted_and_kept(associator, parts, error):
    answer = associator.answer(parts)
    assert (answer.status, answer.error) == ("failed", error)
    assert associator.counts[error] == 1
    assert len(associator.dead) == 1
    assert associator.answer(encode(a_batch(1))).status == "committed"


def test_a_message_that_trips_the_code_up_is_kept_and_the_next_one_taken(associator):
    bad = dataclasses.replace(a_batch(1), unit="über\n")
    answer = associator.answer(encode(bad))
    assert (answer.status, answer.frame) == ("failed", [7, 0, 4])
    assert len(associator.dead) == 1
    assert associator.answer(encode(a_batch(1))).status == "committed"
    assert len(associator.settling.sky) == len(associator.ledger.objects()) == 1


def test_a_message_beyond_the_limit_is_refused(associator):
    assert associator.answer(encode(a_batch(1))[:2], cut=True).error == "BadMessage"


# ---------------------------------------------------------------- owner
def test_a_directory_has_one_owner(associator, tmp_path):
    with pytest.raises(StoreFailed, match="owns"):
        start(tmp_path)


def test_a_start_with_nothing_to_note_writes_nothing_to_the_ledger(tmp_path, monkeypatch):
    associator = start(tmp_path)
    associator.take(a_batch(3))
    associator.close()
    monkeypatch.setattr(Sqlite, "begin", lambda *_: pytest.fail("a transaction"))
    again = start(tmp_path)
    again.tick()
    again.close()


def test_a_damaged_index_of_the_archive_keeps_no_frame_from_being_committed(tmp_path):
    folder = tmp_path / "alerts" / "index"
    folder.mkdir(parents=True)
    (folder / "60999-0-6-900.rows").write_bytes(b"no segment")
    associator = start(tmp_path)
    assert associator.take(a_batch(3)).status == "committed"
    associator.close()


def test_an_archive_file_the_ledger_does_not_know_is_not_touched(associator, tmp_path):
    foreign = tmp_path / "alerts" / "7.avro"
    foreign.write_bytes(b"somebody's alerts")
    with pytest.raises(StoreFailed, match="does not know"):
        associator.take(a_batch(1))
    assert foreign.read_bytes() == b"somebody's alerts"


# ---------------------------------------------------------------- crashes
STEPS = ("new_archive_file", "_move_visit", "_store_sources", "_store_alerts", "_store_counts", "delivered")
"""The ledger's steps in the order in which a batch takes them."""


def crash_at(associator: Associator, name: str, after: bool) -> None:
    """Make one step of the ledger die, before or after it did its work."""
    step = getattr(associator.ledger, name)

    def dying(*arguments):
        if after:
            step(*arguments)
        raise Killed

    setattr(associator.ledger, name, dying)


def sent_until_answered(directory: Path, batches: list[DetectionBatch], **crash) -> list[str]:
    """What the answers were, with a crash while the second batch is taken, and a repeat after it."""
    associator, answers = start(directory), []
    for n, batch in enumerate(batches):
        if n == 1:
            crash_at(associator, **crash)
            with pytest.raises(Killed):
                associator.take(batch)
            associator.close()
            associator = start(directory)
        answers.append(associator.take(batch).status)
    associator.close()
    return answers


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STEPS)
def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(tmp_path, name, after):
    batches = [a_batch(2), a_batch(3, visit=8), a_batch(2, visit=9)]
    undisturbed = start(tmp_path / "calm")
    for batch in batches:
        undisturbed.take(batch)
    undisturbed.close()
    sent_until_answered(tmp_path / "crashed", batches, name=name, after=after)
    assert archived(tmp_path / "crashed") == archived(tmp_path / "calm")


@pytest.mark.parametrize("torn", [0, 1, 100, 40000, -1])
def test_a_torn_archive_is_made_whole_when_its_frame_is_sent_again(tmp_path, monkeypatch, torn):
    associator = start(tmp_path)
    associator.take(a_batch(2))
    append = archive.Writer.append

    def dying(writer, path, size, *rest):
        full = append(writer, path, size, *rest)
        writer.sync(path, full.size)
        with open(path, "r+b") as file:
            file.truncate(full.size if torn < 0 else size + torn)
        raise Killed

    monkeypatch.setattr(archive.Writer, "append", dying)
    with pytest.raises(Killed):
        associator.take(a_batch(3, detector=5))
    associator.close()
    monkeypatch.setattr(archive.Writer, "append", append)
    again = start(tmp_path)
    assert again.take(a_batch(3, detector=5)).status == "committed"
    again.close()
    expected = [*a_batch(2).sources["diaSourceId"], *a_batch(3, detector=5).sources["diaSourceId"]]
    assert ids(archived(tmp_path)) == [(int(one), 0) for one in expected]


# ---------------------------------------------------------------- groups
def test_batches_of_one_group_share_a_transaction_and_see_each_other(associator, tmp_path, monkeypatch):
    synced = []
    sync = archive.Writer.sync

    def noted(writer, path, size, new):
        synced.append(path.name)
        sync(writer, path, size, new)

    monkeypatch.setattr(archive.Writer, "sync", noted)
    messages = [Message(encode(batch)) for batch in (a_batch(2), a_batch(2, visit=8), a_batch(3, detector=5))]
    answers = associator.answers(messages)
    assert [(one.status, one.known) for one in answers] == [("committed", 0), ("committed", 2), ("committed", 2)]
    assert synced == ["7.avro", "8.avro"]
    assert len(associator.ledger.sources()) == len(archived(tmp_path)) == 7


def test_a_refused_batch_does_not_undo_the_others_of_its_group(associator, tmp_path):
    taken = dataclasses.replace(a_batch(2), observation=dataclasses.replace(a_batch(2).observation, frame=OTHER))
    messages = [Message(encode(batch)) for batch in (a_batch(2), a_batch(2, detector=5), taken)]
    assert [one.status for one in associator.answers(messages)] == ["committed", "committed", "failed"]
    assert [len(archived(tmp_path)), len(associator.ledger.sources())] == [4, 4]


def a_night() -> list[DetectionBatch]:
    """Two visits of three detectors, the last two of which see the same place; one frame has nothing."""
    visits = [[a_batch(3, visit), a_batch(2, visit, 5, dec=-31.0), a_batch(4, visit, 6)] for visit in (7, 8)]
    return [*visits[0], a_batch(0, 7, 9), *visits[1]]


@pytest.mark.parametrize("size", [2, 3, 7])
def test_frames_that_are_taken_together_end_as_those_that_are_taken_one_by_one(tmp_path, size):
    alone, together = start(tmp_path / "alone"), start(tmp_path / "together")
    for batch in a_night():
        alone.take(batch)
    messages = [Message(encode(batch)) for batch in a_night()]
    for first in range(0, len(messages), size):
        together.answers(messages[first : first + size])
    for one in (alone, together):
        one.close()
    files = [sorted((tmp_path / name / "alerts").glob("*.avro")) for name in ("alone", "together")]
    assert [one.name for one in files[0]] == ["7.avro", "8.avro"]
    assert len(archived(tmp_path / "alone")) == 18
    for one, other in zip(*files, strict=True):
        assert records(one) == records(other)


def test_a_frame_without_its_time_is_no_look_with_those_that_have_theirs():
    timed, later = a_batch(1, detector=1), a_batch(1, detector=4)
    unknown = [
        dataclasses.replace(
            one, observation=dataclasses.replace(one.observation, mjd_start_tai=np.nan, mjd_end_tai=np.nan)
        )
        for one in (a_batch(1, detector=2), a_batch(1, detector=3))
    ]
    batches = dict(enumerate([timed, *unknown, later, a_batch(1, detector=5)]))
    assert list(runs(batches, lambda frame: False)) == [[0], [1, 2], [3, 4]]


def records(path: Path) -> list[dict]:
    return list(archive.read(path))


def test_a_batch_that_fails_leaves_the_known_sky_as_it_was_and_reads_no_more_of_it(associator, monkeypatch):
    associator.take(a_batch(3))
    loose = len(associator.settling.sky._loose)
    store = associator.frames.store
    monkeypatch.setattr(associator.frames, "store", lambda *_: 1 / 0)
    monkeypatch.setattr(associator.ledger, "objects", lambda: pytest.fail("the whole sky was read"))
    with pytest.raises(ZeroDivisionError):
        associator.take(a_batch(4, visit=8))
    monkeypatch.setattr(associator.frames, "store", store)
    assert (len(associator.settling.sky), len(associator.settling.sky._loose)) == (3, loose)
    answer = associator.take(a_batch(4, visit=8))
    assert (answer.known, answer.new) == (3, 1)
