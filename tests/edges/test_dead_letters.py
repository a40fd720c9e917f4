"""gpudiff.edges.dead_letters: refused frames, kept with the reason."""

import json
import os
import subprocess

import pytest
from serving import a_frame

from gpudiff.edges import wire
from gpudiff.edges.dead_letters import DeadLetters, frames_in, latest, read
from gpudiff.model.errors import BadMessage, NoStars, StoreFailed, UnreadableFile


@pytest.fixture
def letters(tmp_path) -> DeadLetters:
    return DeadLetters(tmp_path / "dead")


def test_a_letter_says_the_error_and_the_reason(letters):
    letter = read(letters.bury(wire.encode(a_frame()), NoStars("expected 5 stars, found 2"), "1-0-4"))
    assert (letter.error, letter.reason) == ("NoStars", "expected 5 stars, found 2")


def test_a_letter_holds_the_frame_so_that_it_can_be_sent_again(letters):
    parts = wire.encode(a_frame())
    letter = read(letters.bury(parts, NoStars("few"), "1-0-4"))
    assert wire.decode(letter.parts, 1 << 20).digest == wire.decode(parts, 1 << 20).digest


def test_a_header_that_is_no_json_is_kept_as_it_came(letters):
    letter = read(letters.bury([b"GDF1", b"\xff{ no", b"12"], BadMessage("no JSON")))
    assert letter.parts == [b"GDF1", b"\xff{ no", b"12"]


@pytest.mark.parametrize("gain", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_no_json_is_kept_as_it_came(letters, gain):
    path = letters.bury([b"GDF1", b'{"gain": %s}' % gain.encode()], BadMessage("no JSON"))
    assert json.loads(path.read_text(), parse_constant=pytest.fail)["header"] == f'{{"gain": {gain}}}'


def test_a_message_of_another_protocol_is_not_sent_again_as_one_of_this(letters):
    letter = read(letters.bury([b"GDF0", *wire.encode(a_frame())[1:]], BadMessage("magic"), "1-0-4"))
    assert letter.parts[0] == b"GDF0"
    with pytest.raises(BadMessage, match="GDF0"):
        wire.decode(letter.parts, 1 << 20)


def test_the_same_letter_takes_room_once(letters):
    for _ in range(3):
        letters.bury([b"GDF1", b"{", b"12"], BadMessage("no JSON"))
    assert len(letters) == 1


def test_different_letters_are_kept_apart(letters):
    letters.bury([b"GDF1", b"{", b"12"], BadMessage("no JSON"))
    letters.bury([b"GDF1", b"{", b"13"], BadMessage("no JSON"))
    assert len(letters) == 2


def test_a_letter_that_a_killed_process_left_half_written_is_none(letters):
    path = letters.bury(wire.encode(a_frame()), NoStars("few"), "1-0-4")
    path.with_name(f".123.{path.name}").write_text('{"error"')
    assert frames_in(letters.folder) == [path]
    assert len(letters) == 1


def test_a_message_without_parts_has_a_letter_too(letters):
    assert read(letters.bury([], BadMessage("nothing came"))).error == "BadMessage"


def test_a_folder_that_cannot_be_written_is_a_failed_store(tmp_path):
    (tmp_path / "dead").write_text("a file where the folder should be")
    with pytest.raises(StoreFailed):
        DeadLetters(tmp_path / "dead")


def test_a_letter_that_cannot_be_kept_is_a_failed_store(letters):
    letters.folder.rmdir()
    with pytest.raises(StoreFailed):
        letters.bury(wire.encode(a_frame()), NoStars("few"), "1-0-4")


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk takes root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("size", [200_000, 50_000])
def test_a_full_disk_is_named_and_leaves_no_half_letter(small_disk, size):
    """The frame does not fit, or fits and its description does not."""
    letters = DeadLetters(small_disk / "dead")
    (small_disk / "ballast").write_bytes(bytes(8192 if size == 50_000 else 0))
    with pytest.raises(StoreFailed, match="No space left"):
        letters.bury([b"GDF1", b"{" * 5000, bytes(size)], BadMessage("odd"))
    assert list(letters.folder.iterdir()) == []
    assert letters.bury([b"GDF1", b"{", b"12"], BadMessage("odd")).exists()


def test_a_file_that_is_no_letter_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(UnreadableFile):
        read(tmp_path / "x.json")


def test_the_latest_are_told_without_reading_any(tmp_path):
    assert latest(tmp_path / "absent", 2) == (0, [])
    for second, name in enumerate(("c", "a", "b", ".d")):
        (tmp_path / f"{name}.json").touch()
        (tmp_path / f"{name}.gdf").touch()
        os.utime(tmp_path / f"{name}.json", (second, second))
    assert latest(tmp_path, 2) == (3, [tmp_path / "a.json", tmp_path / "b.json"])
