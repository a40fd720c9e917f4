"""gpudiff.arrays.kernel_files: where the sources of kernels are."""

import os
from pathlib import Path

import pytest

from gpudiff.arrays.kernel_files import cache_folder, kernel_source, write_atomically
from gpudiff.model.errors import DeviceFailed


def test_an_unknown_kernel_is_refused():
    with pytest.raises(DeviceFailed, match=r"kernel nonesuch: expected its source in .*nonesuch\.cu"):
        kernel_source("nonesuch")


@pytest.mark.parametrize("stem", ["cutouts", "subtract_tiles"])
def test_every_operation_has_its_kernel(stem):
    assert f"{stem}(const float*" in kernel_source(stem).replace("\n", "")


def test_a_cache_that_cannot_be_written_to_is_named_with_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "below"))
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceFailed, match=r"set XDG_CACHE_HOME; got: .*file"):
        cache_folder()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(DeviceFailed, match="set XDG_CACHE_HOME; got: Could not determine"):
        cache_folder()


def test_a_file_has_its_name_once_it_is_on_the_disk(monkeypatch, tmp_path):
    path, synced = tmp_path / "kernel.cubin", []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append((os.fstat(handle).st_size, path.exists())))
    write_atomically(path, b"code")
    assert synced == [(4, False)]
    assert path.read_bytes() == b"code"
