"""A FITS file whose planes go to disk before all is known that its primary header will say of them."""

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from astropy.io import fits

ROWS = 512
"""Rows of a plane that are put into FITS's byte order at a time: few megabytes, and few turns of a thread."""

Planes = dict[str, tuple[np.ndarray, list[fits.Card]]]
"""HDU name -> (n, W) or (n, H, W) float32 or int32 pixels, or uint16, of a mask, that become int32, and cards."""


class Ahead:
    """The file, open from its first byte; the same bytes as `edges.fits.write_hdus` makes of the same."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._header = 0
        self._written: set[str] = set()

    def begin(self, primary: list[fits.Card], planes: Planes) -> None:
        """Write a primary header, of which the length is to stay, and the first planes."""
        head = _primary(primary)
        self._header = len(head)
        self._file.write(head)
        self._append(planes)

    def finish(self, primary: list[fits.Card], planes: Planes, tables: list[bytes]) -> None:
        """Write the primary header again, the planes that are missing and the tables; all, if the header grew."""
        head = _primary(primary)
        if len(head) != self._header:
            self._file.truncate(0)
            self._written.clear()
        self._file.seek(0)
        self._file.write(head)
        self._file.seek(0, io.SEEK_END)
        self._append(planes)
        self._file.writelines(tables)

    def _append(self, planes: Planes) -> None:
        for name in [name for name in planes if name not in self._written]:
            self._file.writelines(_image(name, *planes[name]))
        self._written |= planes.keys()


def _primary(cards: list[fits.Card]) -> bytes:
    """The header of a primary HDU without pixels, as a file has it."""
    header = fits.PrimaryHDU(header=fits.Header(cards)).header
    header.set("EXTEND", True, after="NAXIS")
    return header.tostring().encode("ascii")


def _image(name: str, array: np.ndarray, cards: list[fits.Card]) -> Iterator[bytes | memoryview]:
    """An image HDU, piece by piece."""
    kind = np.dtype(np.int32) if array.dtype == np.uint16 else array.dtype
    hdu = fits.ImageHDU(np.broadcast_to(np.zeros((), kind), array.shape), name=name)
    hdu.header.extend(cards)
    yield hdu.header.tostring().encode("ascii")
    for row in range(0, len(array), ROWS):
        yield np.ascontiguousarray(array[row : row + ROWS], kind.newbyteorder(">")).data
    yield bytes(-array.size * kind.itemsize % 2880)
