"""Files that are there whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpudiff.edges import folder
from gpudiff.model.errors import StoreFailed


@contextmanager
def atomically(path: str | Path, lasting: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffixes; renamed to it at the end, removed on an error.

    lasting : it is on disk when this ends, also where the machine's power fails then
    Raises StoreFailed, naming `path`, where the folder is absent or closed, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield temporary
        if lasting:
            folder.sync(temporary)
        os.replace(temporary, path)
        if lasting:
            folder.sync(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreFailed(f"{path}: cannot be written: {reason}") from None
    finally:
        temporary.unlink(missing_ok=True)
