"""Folders that last, one that belongs to a single program, and what to say where the disk refuses."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpudiff.model.errors import StoreFailed


@contextmanager
def failing(path: Path) -> Iterator[None]:
    """Any OSError within is a StoreFailed that names the path."""
    try:
        yield
    except OSError as error:
        raise StoreFailed(f"{path}: {error.strerror}") from None


def make(folder: Path) -> None:
    """Make a folder that is there after a crash of the machine too; raises StoreFailed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sync(folder.parent)
    except OSError as error:
        raise StoreFailed(f"{folder}: cannot be made: {error.strerror}") from None


def sync(path: Path) -> None:
    """Make a file's content, or the names in a folder, last: a new file is only safe once its folder is on disk.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(path: Path) -> int | None:
    """The lock that a file stands for, as a file descriptor: nobody else gets it until it is closed.

    None when somebody holds it.  The kernel gives it back when its holder dies.  The folder is made where it is
    absent; raises StoreFailed.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreFailed(f"{path.parent}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def own(directory: Path, program: str) -> int:
    """The lock of a directory that has one such program at most; raises StoreFailed when another one holds it."""
    held = lock(directory / f"{program}.lock")
    if held is None:
        raise StoreFailed(f"{directory}: expected no other {program}, one owns this directory")
    return held
