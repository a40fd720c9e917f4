"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpudiff.model.errors import StoreFailed


@contextmanager
def atomically(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffixes; renamed to it at the end, removed on an error.

    Raises StoreFailed, naming `path`, where the folder is absent or closed, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreFailed(f"{path}: cannot be written: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
