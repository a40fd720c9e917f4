"""Folders that last, and locks."""

import os

import pytest

from gpudiff.edges import folder
from gpudiff.model.errors import StoreFailed


def test_a_lock_is_had_by_one_until_it_is_closed(tmp_path):
    path = tmp_path / "night" / "one.lock"
    held = folder.lock(path)
    assert held is not None
    assert folder.lock(path) is None
    os.close(held)
    again = folder.lock(path)
    assert again is not None
    os.close(again)


def test_a_folder_is_made_with_those_above_it_once_or_again(tmp_path):
    for _ in range(2):
        folder.make(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("act", [folder.make, lambda path: folder.lock(path / "x.lock")])
def test_where_a_file_is_in_the_way_it_is_said(tmp_path, act):
    (tmp_path / "file").touch()
    with pytest.raises(StoreFailed, match="file"):
        act(tmp_path / "file" / "below")
