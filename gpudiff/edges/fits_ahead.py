"""A FITS file whose planes go to disk before all is known that its primary header will say of them."""

import io
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from astropy.io import fits

ROWS = 512
"""Rows of a plane that are put into FITS's byte order at a time: few megabytes, and few turns of a thread."""

Planes = dict[str, tuple[np.ndarray, list[fits.Card]]]
"""HDU name -> (n, W) or (n, H, W) float32 or int32 pixels, and cards."""


class Ahead:
    """The file, open from its first byte; the same bytes as `edges.fits.write_hdus` makes of the same."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._places: dict[str, int] = {}

    def write(self, primary: list[fits.Card], planes: Planes) -> None:
        """All of it, but tables.  The planes may be changed meanwhile: `finish` writes them again."""
        self._file.seek(0)
        self._file.write(_bytes([_primary(primary)]))
        for name in planes:
            self._places[name] = self._file.tell()
            self._file.writelines(_image(name, *planes[name]))
        self._file.truncate()

    def finish(
        self, primary: list[fits.Card], planes: Planes, changed: tuple[str, ...], tables: list[fits.BinTableHDU]
    ) -> None:
        """Write the primary header, the planes that changed, and the tables; all, where the header has grown."""
        head = _bytes([_primary(primary)])
        if len(head) != min(self._places.values()):
            self.write(primary, planes)
        else:
            self._file.seek(0)
            self._file.write(head)
            for name in changed:
                self._file.seek(self._places[name])
                self._file.writelines(_image(name, *planes[name]))
        self._file.seek(0, io.SEEK_END)
        self._file.write(_bytes([fits.PrimaryHDU(), *tables])[len(_bytes([fits.PrimaryHDU()])) :])


def _primary(cards: list[fits.Card]) -> fits.PrimaryHDU:
    hdu = fits.PrimaryHDU(header=fits.Header(cards))
    hdu.header.set("EXTEND", True, after="NAXIS")
    return hdu


def _bytes(hdus: list[fits.hdu.base.ExtensionHDU]) -> bytes:
    """Small HDUs, the first of them a primary one, as a file has them."""
    file = io.BytesIO()
    fits.HDUList(hdus).writeto(file)
    return file.getvalue()


def _image(name: str, array: np.ndarray, cards: list[fits.Card]) -> Iterator[bytes | memoryview]:
    """An image HDU, piece by piece."""
    hdu = fits.ImageHDU(np.broadcast_to(np.zeros((), array.dtype), array.shape), name=name)
    hdu.header.extend(cards)
    yield hdu.header.tostring().encode("ascii")
    for row in range(0, len(array), ROWS):
        yield np.ascontiguousarray(array[row : row + ROWS], array.dtype.newbyteorder(">")).data
    yield bytes(-array.nbytes % 2880)
