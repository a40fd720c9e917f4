"""gpudiff.edges.atomic: whole or not at all."""

import os

import pytest

from gpudiff.edges.atomic import atomically
from gpudiff.model.errors import StoreFailed


def test_what_was_written_stands_under_the_name(tmp_path):
    with atomically(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def half_written(path):
    path.write_text("half")
    raise ZeroDivisionError


def test_an_error_leaves_the_old_file_and_no_other(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(ZeroDivisionError), atomically(tmp_path / "a.txt") as temporary:
        half_written(temporary)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_the_suffix_is_kept_for_writers_that_go_by_it(tmp_path):
    with atomically(tmp_path / "a.fits.gz") as temporary:
        assert temporary.name.endswith("a.fits.gz")
        temporary.touch()


def test_every_name_that_a_folder_takes_can_be_written(tmp_path):
    name = "\u00e9" * 125 + ".fits"  # 255 bytes, the most that Linux' file systems take
    with atomically(tmp_path / name) as temporary:
        temporary.touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_to_last_is_on_disk_before_it_has_its_name_and_then_the_name_is(tmp_path, monkeypatch):
    done, replace = [], os.replace
    monkeypatch.setattr("gpudiff.edges.folder.sync", lambda path: done.append(("sync", path.name)))
    monkeypatch.setattr(os, "replace", lambda old, new: done.append(("replace", new.name)) or replace(old, new))
    with atomically(tmp_path / "a.txt", lasting=True) as temporary:
        temporary.write_text("new")
    assert done == [("sync", temporary.name), ("replace", "a.txt"), ("sync", tmp_path.name)]


def test_a_disk_that_is_full_is_named_with_the_path(tmp_path):
    with (
        pytest.raises(StoreFailed, match=r"a\.txt: cannot be written: No space left"),
        atomically(tmp_path / "a.txt"),
    ):
        raise OSError(28, "No space left on device")


def test_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "full")
    with (
        pytest.raises(StoreFailed, match="full: cannot be written: a folder or a device has that name"),
        atomically(tmp_path / "full"),
    ):
        pass
    assert (tmp_path / "full").is_fifo()


def test_a_link_stays_a_link_to_what_is_written(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("a.txt")
    with atomically(tmp_path / "link.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_disk_that_may_only_be_read_is_named_with_the_path(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    with (
        pytest.raises(StoreFailed, match=r"a\.txt: cannot be written: Read-only"),
        atomically(tmp_path / "a.txt") as temporary,
    ):
        refuse(temporary)
