"""gpudiff.edges.ring and ring_writer: pixels in shared memory, written by clients that may die at any moment."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import xxhash
from serving import TIMEOUT_S

from gpudiff.edges.ring import HEADER_BYTES, Place, RingFolder, Segments
from gpudiff.edges.ring_writer import Ring, offered
from gpudiff.model.errors import BadMessage, ChecksumMismatch, GpudiffError, LostSegment
from gpudiff.model.frame import FrameId

PIXELS = memoryview(np.random.default_rng(1).bytes(100_003))
CHECKSUM = xxhash.xxh3_128_hexdigest(PIXELS)
FIRST, SECOND = FrameId(1, 0, 0), FrameId(2, 0, 0)


@pytest.fixture
def folder(tmp_path):
    folder = RingFolder(tmp_path)
    yield folder
    folder.close()


@pytest.fixture
def ring(folder):
    ring = Ring(folder.path, 2)
    yield ring
    ring.close()


def placed(ring, frame=FIRST, pixels=PIXELS) -> Place:
    return ring.put(frame, [pixels])[0].place


def overwrite(folder, place, at, data):
    """Change the segment's bytes from the slot's byte `at` on."""
    with open(folder.path / place.segment, "r+b") as file:
        file.seek(place.offset + at)
        file.write(data)


def test_pixels_come_out_as_they_went_in(folder, ring):
    place = placed(ring)
    assert folder.segments.pixels(place, len(PIXELS), CHECKSUM) == PIXELS


def test_pixels_are_read_only_and_outlive_the_ring(folder, ring):
    pixels = folder.segments.pixels(placed(ring), len(PIXELS), CHECKSUM)
    assert pixels.readonly
    ring.free(FIRST)
    ring.close()
    ring.__init__(folder.path, 1)
    assert pixels == PIXELS


def test_planes_of_one_frame_have_places_of_their_own(folder, ring):
    planes = [memoryview(bytes([value]) * 1000) for value in range(3)]
    for one, plane in zip(ring.put(FIRST, planes), planes, strict=True):
        assert folder.segments.pixels(one.place, 1000, one.checksum) == plane


def test_a_slot_is_used_again_only_when_its_frame_is_free(ring):
    first, second = placed(ring), placed(ring, SECOND)
    assert ring.put(FrameId(3, 0, 0), [PIXELS]) is None
    ring.free(FIRST)
    third = placed(ring, FrameId(3, 0, 0))
    assert third.offset == first.offset != second.offset
    assert third.sequence > second.sequence


def test_a_slot_that_holds_another_frame_by_now_is_lost(folder, ring):
    place = placed(ring)
    ring.free(FIRST)
    placed(ring, SECOND)
    for look in (folder.segments.pixels, folder.segments.confirm):
        with pytest.raises(LostSegment):
            look(place, len(PIXELS), CHECKSUM)


@pytest.mark.parametrize("byte", range(HEADER_BYTES))
def test_a_damaged_slot_header_is_never_valid(folder, ring, byte):
    place = placed(ring)
    overwrite(folder, place, byte, b"\x5a")
    with pytest.raises(LostSegment):
        folder.segments.pixels(place, len(PIXELS), CHECKSUM)


def test_pixels_that_changed_are_seen(folder, ring):
    place = placed(ring)
    overwrite(folder, place, HEADER_BYTES + 99_999, b"?!")
    with pytest.raises(ChecksumMismatch):
        folder.segments.pixels(place, len(PIXELS), CHECKSUM)


@pytest.mark.parametrize(
    "segment", ["../x.ring", "/etc/passwd", "a/b.ring", "", ".ring", "token", "..", "x.ring\n", "é.ring"]
)
def test_a_segment_that_is_no_plain_name_is_refused(folder, segment):
    with pytest.raises(BadMessage):
        folder.segments.pixels(Place(segment, 0, 1), 10, CHECKSUM)


def test_a_link_out_of_the_folder_is_not_followed(folder, tmp_path):
    (tmp_path / "secret").write_bytes(bytes(1000))
    (folder.path / "x.ring").symlink_to(tmp_path / "secret")
    with pytest.raises(LostSegment):
        folder.segments.pixels(Place("x.ring", 0, 1), 10, CHECKSUM)


def test_a_pipe_does_not_make_the_reader_wait(folder):
    os.mkfifo(folder.path / "x.ring")
    with pytest.raises(LostSegment):
        folder.segments.pixels(Place("x.ring", 0, 1), 10, CHECKSUM)


@pytest.mark.parametrize(("offset", "size"), [(1 << 40, 10), (0, 1 << 40), ((1 << 62) - 64, 1 << 62)])
def test_a_place_outside_the_file_is_lost_before_memory_is_taken(folder, ring, offset, size):
    segment = placed(ring).segment
    for look in (folder.segments.confirm, folder.segments.pixels):
        with pytest.raises(LostSegment, match="bytes or more"):
            look(Place(segment, offset, 1), size, CHECKSUM)


def test_a_place_that_no_slot_has_is_refused(folder, ring):
    for look in (folder.segments.confirm, folder.segments.pixels):
        with pytest.raises(BadMessage):
            look(Place(placed(ring).segment, 1, 1), 10, CHECKSUM)


def test_full_memory_is_no_slot(folder, ring, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert ring.put(FIRST, [PIXELS]) is None


WRITER = """
import sys
from pathlib import Path
from gpudiff.edges.ring_writer import Ring
from gpudiff.model.frame import FrameId
ring = Ring(Path(sys.argv[1]), 2)
pixels = [memoryview(bytes([value]) * 3_000_000) for value in (1, 2)]
for number in range(10**9):
    frame = FrameId(number, 0, 0)
    one = ring.put(frame, [pixels[number % 2]])[0]
    ring.free(frame)
    print(one.place.segment, one.place.offset, one.place.sequence, one.checksum, flush=True)
"""


@pytest.mark.parametrize("lines", [1, 2, 7, 20])
def test_whatever_a_killed_writer_left_is_valid_and_right_or_refused(folder, lines):
    command = [sys.executable, "-c", WRITER, str(folder.path)]
    writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    words = [writer.stdout.readline().split() for _ in range(lines)][-1]
    writer.send_signal(signal.SIGKILL)  # it goes on writing at this very moment
    writer.wait(TIMEOUT_S)
    writer.stdout.close()
    place = Place(words[0], int(words[1]), int(words[2]))
    try:
        pixels = folder.segments.pixels(place, 3_000_000, words[3])
        assert set(pixels[::1000]) == {2 - lines % 2}
    except GpudiffError as error:
        assert isinstance(error, LostSegment | ChecksumMismatch)  # noqa: PT017  (either is right)
    folder.sweep({place.segment})
    assert (folder.path / place.segment).exists()
    folder.sweep(set())
    assert not (folder.path / place.segment).exists()


def test_a_living_writers_ring_is_not_swept(folder, ring):
    folder.sweep(set())
    assert (folder.path / ring.segment).exists()


def test_a_ring_with_frames_in_hand_is_left_to_the_service(folder):
    ring = Ring(folder.path, 2)
    place = placed(ring)
    ring.close()
    folder.segments.pixels(place, len(PIXELS), CHECKSUM)
    folder.sweep(set())
    assert not (folder.path / place.segment).exists()


def test_a_folder_is_private_and_gone_when_closed(tmp_path):
    folder = RingFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o077 == 0
    folder.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_of_dead_services_are_removed_and_those_of_living_ones_kept(tmp_path):
    code = "import os; from pathlib import Path; from gpudiff.edges.ring import RingFolder\n"
    code += f"RingFolder(Path({str(tmp_path)!r})); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], timeout=TIMEOUT_S, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    first = RingFolder(tmp_path)
    second = RingFolder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {first.path.name, second.path.name}
    first.close()
    second.close()


def test_an_offer_is_taken_only_where_its_token_is_found(folder):
    assert offered(folder.offer) == folder.path
    for offer in (None, {}, {"directory": 5}, {**folder.offer, "token": "other"}, {"directory": "/nowhere"}):
        assert offered(offer) is None


def test_a_reader_of_another_folder_finds_nothing(folder, ring, tmp_path):
    with pytest.raises(LostSegment):
        Segments(tmp_path).pixels(placed(ring), len(PIXELS), CHECKSUM)
