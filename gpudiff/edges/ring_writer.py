"""Shared memory, write side: a client's ring file, whose slots receipts make free again (see WIRE.md)."""

import fcntl
import mmap
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from gpudiff.edges.ring import HEADER_BYTES, TOKEN, Place, slot_header
from gpudiff.model.frame import FrameId

BLOCK = 1 << 18
"""Pixels are copied and summed in blocks that stay in cache."""


@dataclass(frozen=True)
class Placed:
    """A plane in the ring: where, and its xxh3_128 in hex."""

    place: Place
    checksum: str


@dataclass(frozen=True)
class Slot:
    """Room for one frame: its planes lie one after the other, each with a header of its own."""

    offset: int
    memory: mmap.mmap


class Ring:
    """One client's ring: a file in the service's folder, as many slots as frames are under way."""

    def __init__(self, folder: Path, slots: int):
        """slots : at most.  Raises OSError."""
        self.folder, self._most = folder, slots
        self.segment = f"{os.getpid()}-{secrets.token_hex(8)}.ring"
        hidden = folder / f".{self.segment}"
        self._file = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # tells the service that we live
        hidden.rename(folder / self.segment)
        self._size = self._sequence = 0
        self._slots: list[Slot] = []
        self._free: list[Slot] = []
        self._taken: dict[FrameId, list[Slot]] = {}

    def put(self, frame: FrameId, planes: Sequence[memoryview]) -> list[Placed] | None:
        """Copy a frame's planes into a slot; None when no slot is free, or the memory is full."""
        slot = self._slot(sum(_room(plane.nbytes) for plane in planes))
        if slot is None:
            return None
        self._taken.setdefault(frame, []).append(slot)
        placed, at = [], 0
        for plane in planes:
            placed.append(self._write(slot, at, plane))
            at += _room(plane.nbytes)
        return placed

    def free(self, frame: FrameId) -> None:
        """The service is through with the frame."""
        self._free += self._taken.pop(frame, [])

    def close(self) -> None:
        """Let go of the file; it is removed, or left to the service while that may still read it."""
        if not self._taken:
            (self.folder / self.segment).unlink(missing_ok=True)
        for slot in self._slots:
            slot.memory.close()
        os.close(self._file)

    def _slot(self, size: int) -> Slot | None:
        found = next((slot for slot in self._free if len(slot.memory) >= size), None)
        if found is not None:
            self._free.remove(found)
            return found
        if len(self._slots) >= self._most:
            return None
        size = -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        try:
            os.posix_fallocate(self._file, self._size, size)
            slot = Slot(self._size, mmap.mmap(self._file, size, offset=self._size))
        except OSError:
            os.ftruncate(self._file, self._size)
            return None
        self._size += size
        self._slots.append(slot)
        return slot

    def _write(self, slot: Slot, at: int, plane: memoryview) -> Placed:
        """The slot is invalid until its header is whole again, which is the last that is written."""
        self._sequence += 1
        slot.memory[at : at + HEADER_BYTES] = bytes(HEADER_BYTES)
        start, size = at + HEADER_BYTES, plane.nbytes
        checksum, view = xxhash.xxh3_128(), memoryview(slot.memory)
        for block in range(0, size, BLOCK):
            pixels = plane[block : block + BLOCK]
            view[start + block : start + block + len(pixels)] = pixels
            checksum.update(pixels)
        view.release()
        slot.memory[at : at + HEADER_BYTES] = slot_header(self._sequence, size, checksum.digest())
        return Placed(Place(self.segment, slot.offset + at, self._sequence), checksum.hexdigest())


def _room(size: int) -> int:
    """Bytes that a plane takes: header and pixels, up to where the next header may begin."""
    return HEADER_BYTES + -(-size // HEADER_BYTES) * HEADER_BYTES


def offered(offer: Any) -> Path | None:
    """The folder that `ready` offers, when this machine has it and its token: else the service is elsewhere."""
    if not isinstance(offer, dict) or not isinstance(offer.get("directory"), str):
        return None
    folder = Path(offer["directory"])
    try:
        with open(folder / TOKEN, "rb") as file:
            same = folder.is_absolute() and file.read(64).decode("ascii") == offer.get("token")
    except (OSError, ValueError):
        return None
    return folder if same else None
