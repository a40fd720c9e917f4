"""Large files past the page cache: written and read in aligned pieces through a buffer that is used again.

A visit's alerts are most of a gigabyte that is written once and read once, at once.  Through the page cache every
4 KiB of it costs a new page, and the sync at the end waits for all of it.  With O_DIRECT (open(2)) the disk takes
the pieces as they come.  Where a file system has no O_DIRECT the same calls go through the page cache.
"""

import errno
import fcntl
import mmap
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, Future, wait
from contextlib import suppress
from pathlib import Path

BLOCK = 4096
"""Bytes to which offsets, lengths and memory are aligned: no disk or file system here asks for more."""
PIECE = 2 << 20
"""Bytes written or read at a time: a large page."""
O_DIRECT = getattr(os, "O_DIRECT", 0)


def buffer() -> memoryview:
    """PIECE bytes of aligned memory, in large pages where the system has them: a disk takes few large parts of it
    in half the time of many small ones."""
    memory = mmap.mmap(-1, PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(AttributeError, OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


class AlignedFile:
    """An open file; every call raises OSError as the system does."""

    def __init__(self, path: Path, flags: int):
        flags |= os.O_CLOEXEC
        try:
            self._descriptor = os.open(path, flags | O_DIRECT, 0o644)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._descriptor = os.open(path, flags, 0o644)

    def close(self) -> None:
        """Close; what was not written is not written."""
        os.close(self._descriptor)

    def size(self) -> int:
        """Bytes that the file has."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        """Make the file `size` bytes long."""
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Return when everything is on disk."""
        os.fsync(self._descriptor)

    def write(self, data: memoryview, offset: int) -> None:
        """Write aligned bytes at an aligned offset, all of them."""
        while len(data):
            try:
                count = os.pwrite(self._descriptor, data, offset)
            except OSError as error:
                self._without_direct(error)
                continue
            data, offset = data[count:], offset + count

    def read(self, into: memoryview, offset: int) -> int:
        """Read into aligned memory from an aligned offset; how many bytes there were, fewer only at the end."""
        total = 0
        while total < len(into):
            try:
                count = os.preadv(self._descriptor, [into[total:]], offset + total)
            except OSError as error:
                self._without_direct(error)
                continue
            total += count
            if not count or count % BLOCK:
                break
        return total

    def _without_direct(self, error: OSError) -> None:
        """Go on through the page cache where direct calls are refused; raises any other error again."""
        flags = fcntl.fcntl(self._descriptor, fcntl.F_GETFL)
        if error.errno != errno.EINVAL or not flags & O_DIRECT:
            raise error
        fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flags & ~O_DIRECT)


class GrowingFile:
    """A file that grows behind its first `end` bytes, written piece by piece in a thread.

    What was written is in the file after a `sync`; until then its end may lack bytes or have some too many.
    An error of the thread is raised by the next call, as OSError.
    """

    def __init__(self, path: Path, memory: Sequence[memoryview], pool: Executor):
        """path : made when it is not there; memory : two or more of `buffer`, this file's alone until it is closed
        pool : whose one thread writes
        """
        self._file, self._pool = AlignedFile(path, os.O_RDWR | os.O_CREAT), pool
        self._memory, *self._free = memory
        self._start = self._filled = 0
        self._under_way: deque[tuple[Future[None], memoryview]] = deque()

    @property
    def end(self) -> int:
        """Bytes of the file that count, those not yet written among them."""
        return self._start + self._filled

    def close(self) -> list[memoryview]:
        """Close; what was not synced is lost.  The memory, which is free again."""
        wait([written for written, _ in self._under_way])
        self._file.close()
        return [self._memory, *self._free, *(memory for _, memory in self._under_way)]

    def cut(self, end: int) -> bool:
        """Let only the first `end` bytes count; False when there are not as many."""
        if self._start <= end <= self.end:
            self._filled = end - self._start
            return True
        self._wait()
        if self._file.size() < end:
            return False
        self._start, self._filled = end - end % BLOCK, end % BLOCK
        if self._filled:
            self._file.read(self._memory[:BLOCK], self._start)
        return True

    def write(self, parts: Iterable[bytes | memoryview]) -> None:
        """Let the parts follow, one after the other."""
        for part in parts:
            rest = memoryview(part)
            while len(rest):
                piece = rest[: PIECE - self._filled]
                self._memory[self._filled : self._filled + len(piece)] = piece
                self._filled += len(piece)
                rest = rest[len(piece) :]
                if self._filled == PIECE:
                    if not self._free:
                        self._wait(1)
                    written = self._pool.submit(self._file.write, self._memory, self._start)
                    self._under_way.append((written, self._memory))
                    self._memory = self._free.pop()
                    self._start, self._filled = self._start + PIECE, 0

    def sync(self) -> None:
        """Have all that counts on disk, and the file end there."""
        self._wait()
        if self._filled:
            self._file.write(self._memory[: _up(self._filled)], self._start)
        self._file.truncate(self.end)
        self._file.sync()

    def _wait(self, pieces: int | None = None) -> None:
        """Until so many of the pieces that are with the thread are written, all of them for None."""
        for _ in range(len(self._under_way) if pieces is None else pieces):
            written, memory = self._under_way.popleft()
            self._free.append(memory)
            written.result()


def read(path: Path, first: int, last: int, memory: memoryview) -> bytearray:
    """Bytes `first` to `last` of a file, fewer where it ends before; raises OSError."""
    file = AlignedFile(path, os.O_RDONLY)
    found = bytearray()
    try:
        for start in range(first - first % BLOCK, last, PIECE):
            count = file.read(memory[: _up(min(PIECE, last - start))], start)
            found += memory[max(0, first - start) : min(count, last - start)]
    finally:
        file.close()
    return found


def _up(size: int) -> int:
    return size + -size % BLOCK
