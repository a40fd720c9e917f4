"""A look at a FITS file's headers before a library believes them."""

import gzip
import io
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from gpudiff.model.errors import GpudiffError, UnreadableFile

BLOCK, CARD = 2880, 80
MOST = 999  # axes of an image, columns of a table (FITS standard 4.0, 4.4.1 and 7.2.1)
COUNTED = ("NAXIS", "ZNAXIS", "TFIELDS")
NEVER_NEGATIVE = ("NAXIS", "ZNAXIS", "TFIELDS", "PCOUNT", "GCOUNT", "ZPCOUNT", "ZGCOUNT", "ZTILE")
RICE = {b"BLOCKSIZE": (b"16", b"32"), b"BYTEPIX": (b"1", b"2", b"4", b"8")}
"""What the tile decompressor's settings may be (FITS standard 4.0, table 37); others crash it."""
LONGEST_HEADER = 10_000  # blocks; none of the largest surveys' is near it


PACKED = (b"BZh", b"PK", b"\xfd7zXZ", b"\x1f\x9d")
"""How files begin that astropy unpacks by itself: bzip2, zip, xz, compress."""


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """A context in which whatever goes wrong with a file is UnreadableFile, in one line; our own errors stay."""
    try:
        yield
    except GpudiffError:
        raise
    except FileNotFoundError:
        raise UnreadableFile(f"{path}: expected a FITS file, found no file") from None
    except (AttributeError, TypeError):  # of astropy's own values, which say nothing to who has the file
        raise UnreadableFile(
            f"{path}: expected a whole FITS file, got one with a damaged line in a header"
        ) from None
    except Exception as error:  # a damaged file makes astropy raise any of a dozen kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableFile(
            f"{path}: expected a whole FITS file, got one that cannot be read: {reason}"
        ) from None


def content(path: str | Path) -> Any:
    """What astropy opens: the file, or the HDUs of one that is gzipped, or in which more follows them.

    Raises UnreadableFile as _end, and for a pipe or a device, which may have no end.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise UnreadableFile(f"{path}: expected a FITS file, got a directory, a pipe or a device")
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        data = io.BytesIO(gzip.decompress(file.read())) if packed else file
        size = data.seek(0, io.SEEK_END)
        end = _end(path, data, size)
        data.seek(0)
        if end < size:
            return io.BytesIO(data.read(end))
        return data if packed else path


def _end(path: str | Path, file: BinaryIO, size: int) -> int:
    """Walk the headers of an open file of `size` bytes; where its last HDU ends.

    Raises UnreadableFile where a header counts more axes or columns than FITS allows, for a reader would loop
    over them all, and where the file ends inside a header or before the pixels that a header promises (the
    padding of the last block may be missing).  What follows the last HDU is nobody's business, but astropy would
    look for another one in it.
    """
    place = 0
    while place < size:
        file.seek(place)
        header = _header(path, file, place)
        if header is None:
            _check_start(path, file, place)
            return place or size
        cards, length = header
        _check_counts(path, cards)
        data = _data_bytes(cards)
        end = place + length + -(-data // BLOCK) * BLOCK
        if place + length + data > size:
            raise UnreadableFile(f"{path}: expected {end} bytes, got {size}: the file is truncated")
        place = end
    return place


def _check_start(path: str | Path, file: BinaryIO, place: int) -> None:
    """Raises UnreadableFile for a file that begins like none that can be read."""
    file.seek(0)
    start = file.read(8)
    if place == 0 and not start.startswith(PACKED):
        raise UnreadableFile(f"{path}: expected a whole FITS file, got one that begins with {start!r}")


def _check_counts(path: str | Path, cards: dict[str, int]) -> None:
    """Raises UnreadableFile for counts that no header may have: readers loop over them, or for ever."""
    for key in COUNTED:
        if cards.get(key, 0) > MOST:
            raise UnreadableFile(f"{path}: {key}: expected at most {MOST}, got {cards[key]}")
    for key, value in cards.items():
        if value < 0 and key.rstrip("0123456789") in NEVER_NEGATIVE:
            raise UnreadableFile(f"{path}: {key}: expected 0 or more, got {value}")


def _header(path: str | Path, file: BinaryIO, place: int) -> tuple[dict[str, int], int] | None:
    """(cards with whole numbers, length in bytes) of the header that begins here; None when none does.

    Raises UnreadableFile for a header without an end, or settings that the decompressor does not survive.
    """
    cards: dict[str, int] = {}
    settings: dict[bytes, bytes] = {}
    for blocks in range(1, LONGEST_HEADER):
        block = file.read(BLOCK)
        if blocks == 1 and not block.startswith((b"SIMPLE  =", b"XTENSION=")):
            return None
        for start in range(0, len(block), CARD):
            key, value = block[start : start + 8].rstrip(), block[start + 10 : start + CARD].split(b"/")[0].strip()
            if key == b"END":
                _check_settings(path, settings)
                return cards, blocks * BLOCK
            if key.startswith((b"ZNAME", b"ZVAL")):
                settings[key] = value.strip(b"' ")
            if value.lstrip(b"+-").isdigit() and len(value) < 20:
                cards.setdefault(key.decode("latin-1"), int(value))
        if len(block) < BLOCK:
            break
    raise UnreadableFile(f"{path}: expected the END of the header that begins at byte {place}: truncated?")


def _check_settings(path: str | Path, settings: dict[bytes, bytes]) -> None:
    for key, name in settings.items():
        allowed = RICE.get(name) if key.startswith(b"ZNAME") else None
        value = settings.get(b"ZVAL" + key[5:], b"")
        if allowed and value not in allowed:
            choices, got = b", ".join(allowed).decode(), value.decode("latin-1")
            raise UnreadableFile(f"{path}: tile compression's {name.decode()}: expected {choices}, got {got!r}")


def _data_bytes(cards: dict[str, int]) -> int:
    """Bytes of the data that follow a header (FITS standard 4.0, equation 2), without padding."""
    axes = [max(cards.get(f"NAXIS{n}", 0), 0) for n in range(1, cards.get("NAXIS", 0) + 1)]
    if not axes:
        return 0
    items = math.prod(axes) + cards.get("PCOUNT", 0)
    return max(abs(cards.get("BITPIX", 8)) // 8 * cards.get("GCOUNT", 1) * items, 0)
