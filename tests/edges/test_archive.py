"""gpudiff.edges.archive: container files that any Avro reader reads, cut to what counts before they grow."""

import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import fastavro
import pytest

from gpudiff.edges import aligned, archive
from gpudiff.edges.avro_rows import Records, long
from gpudiff.model.errors import StoreFailed, UnreadableFile

SCHEMA = '{"type": "record", "name": "one", "fields": [{"name": "n", "type": "long"}]}'


@pytest.fixture
def path(tmp_path):
    return tmp_path / "7.avro"


def numbers(path) -> list[int]:
    with open(path, "rb") as file:
        return [record["n"] for record in fastavro.reader(file)]


def put(path, size: int, *values: int) -> int:
    return archive.append(path, size, SCHEMA, [long(value) for value in values]).size


def test_appended_blocks_are_read_by_fastavro(path):
    size = put(path, put(path, 0, 1, 2, 3), 4)
    assert numbers(path) == [1, 2, 3, 4]
    assert path.stat().st_size == size
    assert [record["n"] for record in archive.read(path)] == [1, 2, 3, 4]


def test_an_append_says_where_each_alert_lies(path):
    size = put(path, 0, 1)
    made = archive.append(path, size, SCHEMA, [long(5), long(500), long(7)])
    assert archive.bodies(path, made.offsets, made.lengths) == [long(5), long(500), long(7)]
    assert archive.bodies(path, made.offsets[1:2], made.lengths[1:2]) == [long(500)]
    assert made.size == path.stat().st_size


def test_most_of_a_burst_is_taken_while_the_disk_stands_still(path, monkeypatch):
    moves, written = threading.Event(), aligned.AlignedFile.write
    monkeypatch.setattr(aligned.AlignedFile, "write", lambda *of: (moves.wait(60), written(*of)))
    writer, many = archive.Writer(), Records([10 << 20] * 12, [bytes(10 << 20)] * 12)
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(writer.append, path, 0, SCHEMA, many)
        try:
            assert taken.result(20).size > 120 << 20
        finally:
            moves.set()
    writer.close()


def test_places_beyond_the_file_are_refused(path):
    made = archive.append(path, 0, SCHEMA, [long(5)])
    with pytest.raises(StoreFailed, match="at least"):
        archive.bodies(path, made.offsets + 100, made.lengths)


def test_a_sync_and_a_trim_leave_what_counts(path, tmp_path):
    size = put(path, 0, 1)
    for cut in (archive.Writer().sync, archive.trim):
        put(path, size, 2)
        cut(path, size)
        assert numbers(path) == [1]
    archive.trim(tmp_path / "absent.avro", 5)


def test_what_does_not_count_is_cut_off(path):
    size = put(path, 0, 1)
    put(path, size, 2)  # never noted: the program died
    put(path, size, 2, 3)
    assert numbers(path) == [1, 2, 3]


@pytest.mark.parametrize("cut", [1, 5, 17, 18])
def test_a_torn_tail_is_cut_off(path, cut):
    size = put(path, 0, 1)
    torn = put(path, size, 2, 3) - cut
    with open(path, "r+b") as file:
        file.truncate(max(torn, size))
    put(path, size, 2, 3)
    assert numbers(path) == [1, 2, 3]


def test_a_torn_first_block_is_written_anew(path):
    path.write_bytes(b"Obj\x01half a header")
    put(path, 0, 1)
    assert numbers(path) == [1]


def test_a_file_shorter_than_what_counts_is_refused(path):
    size = put(path, 0, 1)
    with open(path, "r+b") as file:
        file.truncate(size - 1)
    with pytest.raises(StoreFailed, match=r"7\.avro"):
        put(path, size, 2)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StoreFailed):
        put(tmp_path / "nowhere" / "7.avro", 0, 1)


def test_a_full_disk_is_named_and_the_next_append_makes_it_good(path):
    size = put(path, 0, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, hard))  # a full disk: the write stops half-way
    try:
        with pytest.raises(StoreFailed, match=r"7\.avro"):
            put(path, size, *range(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.stat().st_size > size
    put(path, size, 2)
    assert numbers(path) == [1, 2]


NO_SCHEMA = archive.header('{"type": "record"}', bytes(16)) + bytes(18)


@pytest.mark.parametrize("content", [b"", b"SIMPLE  =   T", b"Obj\x01half", NO_SCHEMA])
def test_what_is_not_a_container_file_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(UnreadableFile):
        list(archive.read(path))


def test_alerts_are_read_when_they_are_asked_for(path, tmp_path):
    made = archive.append(path, 0, SCHEMA, [long(5), long(500)])
    found = archive.Bodies(path, made.offsets, made.lengths)
    path.rename(tmp_path / "8.avro")
    assert len(found) == 2
    with pytest.raises(StoreFailed, match=r"7\.avro"):
        found[0]
    (tmp_path / "8.avro").rename(path)
    assert list(found) == [long(5), long(500)]
