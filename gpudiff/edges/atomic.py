"""Files that are there whole or not at all."""

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gpudiff.edges import folder
from gpudiff.model.errors import StoreFailed


@contextmanager
def atomically(path: str | Path, lasting: bool = False) -> Iterator[Path]:
    """A temporary path beside `path`, with its suffixes, this thread's own; renamed to it, or removed on an error.

    What a link leads to is replaced, not the link: /dev/stdout is one.
    lasting : it is on disk when this ends, also where the machine's power fails then
    Raises StoreFailed, naming `path`, where the folder is absent or closed, the disk is full, or a folder or a
    device has that name: who may rename a file over a device has lost it.
    """
    path = Path(path)
    place = Path(os.path.realpath(path))
    temporary = place.with_name(f".{threading.get_native_id()}.{path.name[-60:]}")  # its name may be a long one
    try:
        if path.exists() and not path.is_file():
            raise OSError(errno.EEXIST, "a folder or a device has that name")
        yield temporary
        if lasting:
            folder.sync(temporary)
        os.replace(temporary, place)
        if lasting:
            folder.sync(place.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreFailed(f"{path}: cannot be written: {reason}") from None
    finally:
        with suppress(OSError):  # none was made, or the disk is read only
            temporary.unlink()
