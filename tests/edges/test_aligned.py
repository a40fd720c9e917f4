"""gpudiff.edges.aligned: files past the page cache, the same bytes as through it."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from gpudiff.edges import aligned
from gpudiff.edges.aligned import BLOCK, PIECE, GrowingFile

SIZES = (0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 7, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 100)


def growing(path) -> GrowingFile:
    return GrowingFile(path, (aligned.buffer(), aligned.buffer()), ThreadPoolExecutor(1))


def some(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


@pytest.fixture(params=["as it is", "refused when opened", "refused when used"])
def way(request, monkeypatch):
    """With O_DIRECT where the file system has it, and where it says no."""
    if request.param == "as it is":
        return
    name = "open" if request.param == "refused when opened" else "pwrite"
    real = getattr(os, name)

    def refusing(first, *rest):
        import fcntl

        flags = rest[0] if name == "open" else fcntl.fcntl(first, fcntl.F_GETFL)
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no O_DIRECT")
        return real(first, *rest)

    monkeypatch.setattr(aligned.os, name, refusing)


@pytest.mark.parametrize("size", SIZES)
def test_what_is_written_is_there_and_can_be_read_from_anywhere(tmp_path, size, way):
    path, data = tmp_path / "file", some(size)
    file = growing(path)
    file.write([data[: size // 3], data[size // 3 :]])
    assert file.end == size
    file.sync()
    file.close()
    assert path.read_bytes() == data
    memory = aligned.buffer()
    for first, last in ((0, size), (size // 2, size), (min(5, size), size // 2), (size, size + 10)):
        assert aligned.read(path, first, last, memory) == data[first:last]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kept", [0.0, 0.4, 1.0])
def test_a_file_goes_on_where_it_is_cut(tmp_path, size, kept):
    path, data, more = tmp_path / "file", some(size), some(BLOCK + 5, seed=1)
    path.write_bytes(data)
    end = int(kept * size)
    file = growing(path)
    assert file.cut(end)
    file.write([more])
    file.sync()
    assert path.read_bytes() == data[:end] + more
    assert file.cut(end)  # once more, with what was written still in memory
    file.write([b"other"])
    file.sync()
    file.close()
    assert path.read_bytes() == data[:end] + b"other"


def test_a_file_that_is_too_short_says_so(tmp_path):
    file = growing(tmp_path / "file")
    file.write([b"four"])
    assert not file.cut(5)
    file.close()


def test_other_errors_are_the_callers(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(aligned.os, "pwrite", full)
    file = growing(tmp_path / "file")
    file.write([bytes(PIECE)])
    with pytest.raises(OSError, match="full"):
        file.sync()
    file.close()


def test_only_what_finds_no_memory_waits_for_the_disk(tmp_path):
    busy, pool = threading.Event(), ThreadPoolExecutor(1)
    pool.submit(busy.wait, 10.0)
    file = GrowingFile(tmp_path / "file", [aligned.buffer() for _ in range(3)], pool)
    file.write([bytes(2 * PIECE)])
    assert (tmp_path / "file").stat().st_size == 0
    busy.set()
    file.sync()
    file.close()
    assert (tmp_path / "file").stat().st_size == 2 * PIECE
