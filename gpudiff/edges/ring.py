"""Shared memory, read side: pixels of clients on this machine, in slots of ring files (WIRE.md).

A ring file belongs to one client, its writer.  A slot is valid when its header's own checksum is right, its
sequence is the one that the message names, and its pixels have the checksum that both name: so what a writer left
half-done, or wrote over, is never taken for a frame.  Readers never wait and never write.
"""

import fcntl
import mmap
import os
import re
import secrets
import shutil
import stat
import struct
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import msgspec
import xxhash

from gpudiff.model.errors import BadMessage, ChecksumMismatch, LostSegment

MAGIC = b"GDS1"
HEADER = struct.Struct("<4s4xQQ16s")
"""Magic, sequence, bytes, xxh3_128 (canonical); then its xxh3_64, and zeros up to HEADER_BYTES."""
CHECKSUM = struct.Struct("<Q")
HEADER_BYTES = 64
SEGMENT = re.compile(r"[A-Za-z0-9_-]{1,80}\.ring")
FOLDER, TOKEN = "gpudiff-ring-", "token"


class Place(msgspec.Struct, frozen=True):
    """Where a plane lies: segment : file name in the folder of rings; offset : of its slot, bytes."""

    segment: str
    offset: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    sequence: Annotated[int, msgspec.Meta(ge=1, lt=(1 << 63) - 1)]


def slot_header(sequence: int, size: int, checksum: bytes) -> bytes:
    """The bytes before a slot's pixels."""
    head = HEADER.pack(MAGIC, sequence, size, checksum)
    return (head + CHECKSUM.pack(xxhash.xxh3_64_intdigest(head))).ljust(HEADER_BYTES, b"\0")


class Segments:
    """The ring files of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def pixels(self, place: Place, size: int, checksum: str) -> memoryview:
        """The pixels where they lie, read-only; unmapped when nobody uses them.

        Raises as `confirm` does, and ChecksumMismatch.
        """
        descriptor = self._open(place, size)
        try:
            _check_slot(descriptor, place, size, checksum)
            start = place.offset + HEADER_BYTES
            page = start % mmap.ALLOCATIONGRANULARITY
            mapped = mmap.mmap(descriptor, page + size, access=mmap.ACCESS_READ, offset=start - page)
        finally:
            os.close(descriptor)
        part = memoryview(mapped)[page:]
        found = xxhash.xxh3_128_hexdigest(part)
        if found != checksum.lower():
            where = f"shm: {place.segment} at {place.offset}"
            raise ChecksumMismatch(f"{where}: xxh3_128 is {found}, expected {checksum}")
        return part

    def confirm(self, place: Place, size: int, checksum: str) -> None:
        """Look at the slot's header, not at its pixels.

        Raises BadMessage for a place that no ring can have, LostSegment for a segment or slot that is not there.
        """
        descriptor = self._open(place, size)
        try:
            _check_slot(descriptor, place, size, checksum)
        finally:
            os.close(descriptor)

    def _open(self, place: Place, size: int) -> int:
        """The segment's file descriptor; the name is checked before it becomes a path."""
        if not SEGMENT.fullmatch(place.segment):
            raise BadMessage(f"shm: segment {place.segment!r:.100}: expected letters and digits, then .ring")
        if place.offset % HEADER_BYTES:
            raise BadMessage(f"shm: offset {place.offset}: expected a multiple of {HEADER_BYTES}")
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(self.folder / place.segment, flags)
        except OSError as error:
            raise LostSegment(f"shm: segment {place.segment}: {error.strerror}") from None
        status = os.fstat(descriptor)
        end = place.offset + HEADER_BYTES + size
        if not stat.S_ISREG(status.st_mode) or status.st_size < end:
            os.close(descriptor)
            raise LostSegment(f"shm: {place.segment}: expected {end} bytes or more, got {status.st_size}")
        return descriptor


def _check_slot(descriptor: int, place: Place, size: int, checksum: str) -> None:
    head = os.pread(descriptor, HEADER_BYTES, place.offset)
    if head != slot_header(place.sequence, size, bytes.fromhex(checksum)):
        raise LostSegment(
            f"shm: {place.segment} at {place.offset}: expected the slot of sequence {place.sequence} with {size} "
            "bytes and the message's checksum; it is half-written, or holds another frame by now"
        )


class RingFolder:
    """The service's folder for the rings of its clients: private, and gone when the service is.

    offer : what `ready` says of it: directory, and the token that a client on this machine finds there
    """

    def __init__(self, parent: Path):
        """Makes a folder of its own below `parent`, and removes those of services that died; raises OSError."""
        for left in parent.glob(f"{FOLDER}*"):
            if left.lstat().st_uid == os.getuid() and _abandoned(left / TOKEN):
                shutil.rmtree(left, ignore_errors=True)
        name, token = f"{FOLDER}{secrets.token_hex(8)}", secrets.token_hex(16)
        hidden = parent / f".{name}"
        hidden.mkdir(mode=0o700)
        self._lock = os.open(hidden / TOKEN, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        os.write(self._lock, token.encode())
        self.path = hidden.rename(parent / name)
        self.segments = Segments(self.path)
        self.offer = {"directory": str(self.path), "token": token}

    def sweep(self, in_use: Collection[str]) -> None:
        """Remove the rings whose writers are gone, but for segments that frames in hand lie in."""
        for path in self.path.glob("*.ring"):
            if path.name not in in_use and _abandoned(path):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _abandoned(path: Path) -> bool:
    """Whether no living process holds the file's lock; the kernel lets go of it when its holder dies."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return path.name == TOKEN
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
