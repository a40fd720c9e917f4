"""gpudiff.edges.alert_index: what is appended is found, what is lost is found again from the archive."""

import io
import json
import os

import fastavro
import numpy as np
import pytest

from gpudiff.edges import archive, folder
from gpudiff.edges.alert_archive import AlertArchive
from gpudiff.edges.alert_blocks import ArchiveReader
from gpudiff.edges.alert_index import FAN, AlertIndex
from gpudiff.edges.alert_segment import SORTED, pixel_ranges, pixels, write_segment
from gpudiff.edges.atomic import atomically
from gpudiff.edges.avro_rows import encode_rows
from gpudiff.model.alert_index import INDEX, PLACED, AlertQuery, Cone, night_of
from gpudiff.model.errors import StoreFailed, UnreadableFile
from gpudiff.model.sky import separation
from gpudiff.model.tables import Table

EVERYTHING = AlertQuery()
SOURCE = {
    "type": "record",
    "name": "source",
    "fields": [
        *({"name": name, "type": "long"} for name in ("visit", "detector", "diaObjectId")),
        *({"name": name, "type": ["null", "double"]} for name in ("midpointMjdTai", "ra", "dec")),
        {"name": "band", "type": "string"},
    ],
}
SCHEMA = {
    "type": "record",
    "name": "alert",
    "fields": [{"name": "diaSourceId", "type": "long"}, {"name": "diaSource", "type": SOURCE}],
}


def make_rows(count, visit=7, seed=0, **columns) -> Table:
    """Rows without places: `count` positions all over the sky."""
    rng = np.random.default_rng([seed, visit])
    values = {c.name: np.zeros(count, c.dtype) for c in INDEX}
    values |= {
        "diaSourceId": (visit << 24) + np.arange(count),
        "visit": np.full(count, visit),
        "diaObjectId": rng.integers(1, 20, count),
        "midpointMjdTai": np.full(count, 61000.75 + visit / 1000),
        "ra": rng.uniform(0, 360, count),
        "dec": np.degrees(np.arcsin(rng.uniform(-1, 1, count))),
    }
    return Table(INDEX, values | columns)


def put(folder, rows, size=0) -> tuple[int, np.ndarray, np.ndarray]:
    """Append rows as small alerts to their visit's file: its size, and their offsets and lengths."""
    columns = {name: rows[name] for name in ("visit", "detector", "diaObjectId")}
    for name in ("midpointMjdTai", "ra", "dec"):
        columns[name] = np.ma.masked_invalid(rows[name])
    ids = encode_rows({"fields": SCHEMA["fields"][:1]}, {"diaSourceId": rows["diaSourceId"]}, {})
    sources = encode_rows(SOURCE, columns, {"band": "r"})
    alerts = [one + other for one, other in zip(ids, sources, strict=True)]
    path = folder / f"{rows['visit'][0]}.avro"
    made = archive.append(path, size, json.dumps(SCHEMA), alerts)
    return made.size, made.offsets, made.lengths


def commit(index, rows, size=0) -> int:
    size, offsets, lengths = put(index.archive, rows, size)
    index.add(f"{rows['visit'][0]}.avro", rows.replace(offset=offsets, length=lengths))
    return size


def same(one: Table, other: Table) -> bool:
    return all(np.array_equal(one[c.name], other[c.name], equal_nan=c.dtype[0] == "f") for c in PLACED)


@pytest.fixture
def three_visits(tmp_path) -> AlertIndex:
    index = AlertIndex(tmp_path)
    for visit in (7, 8, 9):
        size = commit(index, make_rows(20, visit))
        commit(index, make_rows(30, visit, 1, diaSourceId=(visit << 24) + 20 + np.arange(30)), size)
    return index


@pytest.mark.parametrize("sealed", [False, True])
def test_an_alert_is_found_by_its_id_and_read(three_visits, sealed, tmp_path):
    if sealed:
        three_visits.catch_up()
    found = AlertArchive(tmp_path)
    rows = found.find(AlertQuery(dia_source_id=(8 << 24) + 19))
    assert rows["file"].tolist() == ["8.avro"]
    (stored,) = found.alerts(rows)
    with open(tmp_path / "8.avro", "rb") as file:
        expected = next(one for one in fastavro.reader(file) if one["diaSourceId"] == (8 << 24) + 19)
    schema = fastavro.parse_schema(json.loads(stored.schema))

    assert fastavro.schemaless_reader(io.BytesIO(stored.alert), schema, None) == expected


@pytest.mark.parametrize(
    "query",
    [
        EVERYTHING,
        AlertQuery(dia_object_id=5),
        AlertQuery(visit=8),
        AlertQuery(since=61000.758, until=61000.759),
        AlertQuery(since=61000.759),
        AlertQuery(cone=Cone(120.0, -30.0, 3600 * 40.0)),
        AlertQuery(cone=Cone(120.0, -30.0, 3600 * 80.0), visit=7, dia_object_id=5),
    ],
)
def test_sealed_and_consolidated_answer_as_the_tail_does(three_visits, query):
    tail = three_visits.find(query)
    assert len(tail)
    three_visits.catch_up()
    assert len(three_visits.segments) == 3
    assert same(three_visits.find(query), tail)
    three_visits.consolidate(night_of(61000.757))
    assert len(three_visits.segments) == 1
    assert same(AlertIndex(three_visits.archive).find(query), tail)


def test_an_index_made_again_equals_the_one_that_was_appended(three_visits):
    appended = three_visits.find(EVERYTHING)
    three_visits.rebuild()
    assert not list(three_visits.folder.glob("*.tail"))
    assert same(three_visits.find(EVERYTHING), appended)


def test_what_the_index_lost_is_read_from_the_archive(three_visits, tmp_path):
    appended = three_visits.find(EVERYTHING)
    tail = tmp_path / "index" / "8.avro.tail"
    tail.write_bytes(tail.read_bytes()[:-1])  # the second entry is torn
    opened = AlertArchive(tmp_path)
    assert same(opened.find(EVERYTHING), appended)
    assert opened.notes == ["8.avro: 30 alerts are not in the index: gpudiff archive index"]


def test_rows_behind_a_torn_entry_of_a_tail_are_found_again_when_it_is_sealed(three_visits, tmp_path):
    appended = three_visits.find(EVERYTHING)
    tail = tmp_path / "index" / "8.avro.tail"
    tail.write_bytes(tail.read_bytes()[:-1])
    again = AlertIndex(tmp_path)
    again.catch_up()
    assert same(again.find(EVERYTHING), appended)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_torn_anywhere_is_read_to_its_last_whole_block(tmp_path, seed):
    ends = [0]
    for n in range(3):
        ends.append(put(tmp_path, make_rows(4, diaSourceId=(7 << 24) + 4 * n + np.arange(4)), ends[-1])[0])
    path = tmp_path / "7.avro"
    whole = path.read_bytes()
    header = ends[1] - (ends[2] - ends[1])
    for cut in np.random.default_rng(seed).integers(0, len(whole), 60).tolist():
        path.write_bytes(whole[:cut])
        opened = AlertArchive(tmp_path)
        blocks = sum(cut >= end for end in ends[1:])
        assert len(opened.find(EVERYTHING)) == 4 * blocks
        counts = ends[blocks] if blocks else header if cut >= header else 0
        said = any("after the last whole block" in note for note in opened.notes)
        assert said == (cut > counts), cut
        opened.close()


def test_a_sealed_segment_is_on_disk_before_its_tail_is_gone(three_visits, monkeypatch):
    synced, folder = [], three_visits.folder
    monkeypatch.setattr(
        "gpudiff.edges.folder.sync", lambda path: synced.append((path.suffix, (folder / "8.avro.tail").exists()))
    )
    three_visits.seal("8.avro")
    assert [suffix for suffix, tail in synced if tail] == [".blocks", "", ".rows", ""]


def test_checksums_are_those_of_what_others_merged_meanwhile(three_visits):
    three_visits.catch_up()
    reader, before = AlertIndex(three_visits.archive), len(three_visits.checksums())
    assert len(reader.segments) > 1
    three_visits.consolidate(three_visits.segments[0].coverage.night)
    assert len(reader.checksums()) == before > 0


def test_a_segment_without_its_checksums_is_named(three_visits):
    three_visits.catch_up()
    three_visits.segments[0].path.with_suffix(".blocks").unlink()
    with pytest.raises(StoreFailed, match=r"blocks: expected checksums"):
        three_visits.checksums()


def lock_is_free(monkeypatch, path):
    """Filled with whether a lock could be had, each time that a segment is written."""
    free = []

    def write(*arguments):
        held = folder.lock(path)
        free.append(held is not None)
        if held is not None:
            os.close(held)
        return write_segment(*arguments)

    monkeypatch.setattr("gpudiff.edges.alert_index.write_segment", write)
    return free


def test_who_adds_does_not_wait_while_a_segment_is_written(three_visits, monkeypatch):
    free = lock_is_free(monkeypatch, three_visits.folder / "lock")
    three_visits.catch_up()
    three_visits.forget(["8.avro"])
    assert free
    assert all(free)


@pytest.mark.parametrize("later", [0, 5])
def test_a_seal_that_was_cut_short_before_its_tail_went_is_ended_by_the_next(three_visits, later):
    tail = three_visits.folder / "8.avro.tail"
    kept, size = tail.read_bytes(), (three_visits.archive / "8.avro").stat().st_size
    three_visits.seal("8.avro")
    tail.write_bytes(kept)
    if later:
        commit(three_visits, make_rows(later, 8, diaSourceId=(8 << 24) + 50 + np.arange(later)), size)
    three_visits.seal("8.avro")
    assert not tail.exists()
    assert sum(map(len, three_visits.segments)) == 50 + later
    assert len(three_visits.find(EVERYTHING)) == 150 + later


def test_two_that_seal_do_so_one_after_the_other_and_see_what_the_other_made(three_visits, monkeypatch):
    other = AlertIndex(three_visits.archive)
    assert other.segments == []
    free = lock_is_free(monkeypatch, three_visits.folder / "segments.lock")
    three_visits.seal("8.avro")
    three_visits.consolidate(three_visits.segments[0].coverage.night)
    other.seal("8.avro")
    assert free == [False]
    assert len(other.segments) == 1


def test_a_block_that_is_not_committed_is_not_sealed(tmp_path):
    index = AlertIndex(tmp_path)
    size = commit(index, make_rows(20))
    put(tmp_path, make_rows(5, diaSourceId=(7 << 24) + 100 + np.arange(5)), size)
    index.seal("7.avro")
    assert len(index.find(EVERYTHING)) == 20
    assert index.sealed() == {"7.avro": size}


def test_sixteen_segments_of_a_night_become_one(tmp_path):
    index = AlertIndex(tmp_path)
    for visit in range(FAN + 2):
        commit(index, make_rows(3, visit + 1))
        index.catch_up()
    assert sorted(one.coverage.level for one in index.segments) == [0, 0, 1]
    assert len(index.find(EVERYTHING)) == 3 * (FAN + 2)


def test_a_late_frame_of_a_sealed_visit_is_found(tmp_path):
    index = AlertIndex(tmp_path)
    size = commit(index, make_rows(20))
    index.catch_up()
    commit(index, make_rows(5, diaSourceId=(7 << 24) + 100 + np.arange(5)), size)
    assert len(index.find(EVERYTHING)) == 25
    index.catch_up()
    index.consolidate(61000)
    assert len(AlertIndex(tmp_path).find(EVERYTHING)) == 25


def test_two_revisions_of_an_alert_are_both_found(tmp_path):
    index = AlertIndex(tmp_path)
    size = commit(index, make_rows(2))
    commit(index, make_rows(2, revision=np.ones(2)), size)
    assert index.find(AlertQuery(dia_source_id=7 << 24))["revision"].tolist() == [0, 1]


def test_the_rows_of_a_file_that_is_gone_are_forgotten(three_visits, tmp_path):
    three_visits.catch_up()
    three_visits.consolidate(61000)
    (tmp_path / "8.avro").unlink()
    three_visits.forget(["8.avro"])
    assert set(AlertIndex(tmp_path).find(EVERYTHING)["file"]) == {"7.avro", "9.avro"}


# ---------------------------------------------------------------- the sky
@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 0.0), (359.99999, 12.0), (10.0, 90.0), (200.0, -90.0), (77.0, 89.9), (180.0, -45.0)]
)
@pytest.mark.parametrize("radius", [1.0, 60.0, 3600.0, 3600 * 30.0])
def test_a_cone_finds_what_brute_force_finds(tmp_path, ra, dec, radius):
    rng = np.random.default_rng(3)
    far, bearing = np.radians(rng.uniform(0, 2 * radius / 3600, 500)), rng.uniform(0, 2 * np.pi, 500)
    sine = np.sin(np.radians(dec)) * np.cos(far) + np.cos(np.radians(dec)) * np.sin(far) * np.cos(bearing)
    dec1 = np.arcsin(np.clip(sine, -1, 1))
    east = np.sin(bearing) * np.sin(far) * np.cos(np.radians(dec))
    ra1 = np.radians(ra) + np.arctan2(east, np.cos(far) - np.sin(np.radians(dec)) * np.sin(dec1))
    index = AlertIndex(tmp_path)
    rows = make_rows(500, ra=np.degrees(ra1) % 360, dec=np.degrees(dec1))
    commit(index, rows)
    index.catch_up()
    expected = separation(rows["ra"], rows["dec"], ra, dec) <= radius
    found = index.find(AlertQuery(cone=Cone(ra, dec, radius)))
    assert found["diaSourceId"].tolist() == rows["diaSourceId"][expected].tolist()
    assert 0 < expected.sum() < 500


def test_an_alert_without_position_or_time_is_found_by_its_id_alone(tmp_path):
    index = AlertIndex(tmp_path)
    nan = np.full(1, np.nan)
    commit(index, make_rows(1, ra=nan, dec=nan, midpointMjdTai=nan))
    index.catch_up()
    assert len(index.find(AlertQuery(dia_source_id=7 << 24))) == 1
    assert len(index.find(AlertQuery(cone=Cone(0, 0, 3600 * 180)))) == 0
    assert len(index.find(AlertQuery(since=0.0))) == 0


def test_a_small_circle_is_a_few_ranges_of_pixels():
    ranges = pixel_ranges(Cone(10.0, 20.0, 5.0))
    assert len(ranges) < 50
    at = pixels(np.array([10.0]), np.array([20.0]))[0]
    assert ((ranges[:, 0] <= at) & (at < ranges[:, 1])).any()


# ---------------------------------------------------------------- damage
def test_a_damaged_block_is_named(three_visits, tmp_path):
    three_visits.catch_up()
    assert list(AlertArchive(tmp_path).damage()) == []
    with ArchiveReader(tmp_path / "8.avro") as reader:
        second = list(reader.blocks())[1]
    data = bytearray((tmp_path / "8.avro").read_bytes())
    data[second.data + 40] ^= 1
    (tmp_path / "8.avro").write_bytes(data)
    (line,) = AlertArchive(tmp_path).damage()
    assert line.startswith(f"8.avro: block of 30 alerts at bytes {second.start} to {second.end}: checksum")


def test_an_archive_file_that_is_gone_is_named(three_visits, tmp_path):
    three_visits.catch_up()
    (tmp_path / "8.avro").unlink()
    assert all("8.avro" in line for line in AlertArchive(tmp_path).damage())


def test_an_alert_that_is_not_where_the_index_says_is_refused(three_visits, tmp_path):
    rows = three_visits.find(AlertQuery(dia_source_id=7 << 24))
    with pytest.raises(UnreadableFile, match="gpudiff archive index"):
        list(AlertArchive(tmp_path).alerts(rows.replace(offset=rows["offset"] + 1)))


@pytest.mark.parametrize("name", [b'"diaSourceId"', b'"type"', b"double"])
def test_a_file_whose_schema_is_damaged_or_anothers_is_named(tmp_path, name):
    put(tmp_path, make_rows(3))
    path = tmp_path / "7.avro"
    path.write_bytes(path.read_bytes().replace(name, name.replace(b"d", b"x").replace(b"t", b"\t"), 1))
    with pytest.raises(UnreadableFile, match=r"7\.avro"):
        AlertArchive(tmp_path)


def test_a_damaged_segment_is_refused(three_visits, tmp_path):
    three_visits.catch_up()
    three_visits.segments[0].path.write_bytes(b"no Arrow file")
    with pytest.raises(StoreFailed, match=r"segment.*--anew"):
        AlertArchive(tmp_path)


@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_a_segment_that_is_damaged_within_is_named(three_visits, tmp_path, byte):
    three_visits.catch_up()
    path = three_visits.segments[1].path
    whole, said = path.read_bytes(), []
    for start in range(64, len(whole) - 64, len(whole) // 40):
        path.write_bytes(whole[:start] + bytes([byte]) * 8 + whole[start + 8 :])
        try:
            AlertIndex(tmp_path).find(EVERYTHING)
        except StoreFailed as error:
            said.append(str(error))
    assert len(said) > 5  # the rest of it are values, any of which may be
    assert all(one.startswith(str(path)) for one in said)


def test_what_is_being_written_is_no_segment_and_no_archive_file(three_visits, tmp_path):
    three_visits.catch_up()
    with atomically(tmp_path / "index" / "61000-1-7-99.rows") as rows, atomically(tmp_path / "10.avro") as avro:
        rows.write_bytes(b"ARROW1")
        avro.write_bytes(b"Obj\x01")
        assert len(AlertArchive(tmp_path).find(EVERYTHING)) == 150


def test_beside_a_damaged_segment_alerts_are_added_and_all_is_made_again(three_visits, tmp_path):
    expected = three_visits.find(AlertQuery(visit=8))
    three_visits.catch_up()
    three_visits.segments[1].path.write_bytes(b"")  # as a power cut leaves a file that was not on disk
    commit(AlertIndex(tmp_path), make_rows(5, 10))
    again = AlertIndex(tmp_path)
    again.rebuild()
    assert same(again.find(AlertQuery(visit=8)), expected)
    assert len(again.find(EVERYTHING)) == 155


def test_an_empty_archive_has_no_alerts(tmp_path):
    assert len(AlertArchive(tmp_path).find(EVERYTHING)) == 0
    assert not (tmp_path / "index").exists()


def test_every_sorted_key_is_a_column_or_the_pixel():
    assert set(SORTED) - {c.name for c in INDEX} == {"pixel"}
