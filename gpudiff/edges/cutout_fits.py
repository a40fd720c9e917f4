"""Cutouts as FITS files, three for an alert: a header made once for a frame, and each cutout's own CRPIX.

astropy would take 5 ms for each; a frame's header is the same for all its cutouts but for the place where
they were cut.  The WCS is the frame's with CRPIX moved to the cutout; distortions (SIP, PV) are relative to
CRPIX or to the sky, so they move along.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

KINDS = ("difference", "science", "template")
BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""

OWN_CARDS = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTNAME", "BUNIT", "CRPIX1", "CRPIX2")


def write_cutouts(
    cutouts: np.ndarray, x: np.ndarray, y: np.ndarray, wcs: dict[str, Any], unit: str
) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The FITS files of each source's difference, science and template cutout.

    cutouts : (N, 3, S, S) float32, S odd; NaN stays NaN
    x, y : (N,) 0-based pixels in the frame; a cutout's centre is pixel floor(x + 1/2), floor(y + 1/2)
    wcs : the frame's FITS WCS keywords, {} for none; unit : BUNIT
    """
    count, kinds, size, _ = cutouts.shape
    pixels = cutouts.astype(">f4").reshape(count, kinds, size * size)
    headers = _headers(size, wcs, unit)
    padding = b"\0" * (-size * size * 4 % BLOCK)
    for n in range(count):
        reference = b""
        if wcs:
            corner = np.floor((x[n] + 0.5, y[n] + 0.5)) - size // 2
            reference = _card("CRPIX1", wcs.get("CRPIX1", 0.0) - corner[0]) + _card(
                "CRPIX2", wcs.get("CRPIX2", 0.0) - corner[1]
            )
        yield tuple(
            b"".join((start, reference, rest, pixels[n, kind].tobytes(), padding))
            for kind, (start, rest) in enumerate(headers)
        )  # type: ignore[misc]


def _headers(size: int, wcs: dict[str, Any], unit: str) -> list[tuple[bytes, bytes]]:
    """For each kind what comes before the CRPIX cards (none without a WCS), and after, to a block's end."""
    from astropy.io.fits import Header

    world = _cards(Header([(key, value) for key, value in wcs.items() if key not in OWN_CARDS]))
    moved = 160 if wcs else 0
    headers = []
    for kind in KINDS:
        image = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size}
        start = _cards(Header([*image.items(), ("EXTNAME", kind.upper()), ("BUNIT", unit)]))
        rest = world + b"END".ljust(80)
        headers.append((start, rest + b" " * (-(len(start) + moved + len(rest)) % BLOCK)))
    return headers


def _cards(header: Any) -> bytes:
    return header.tostring(sep="", endcard=False, padding=False).encode("ascii")


def _card(key: str, value: float) -> bytes:
    return f"{key:<8}= {value:>20.9f}".ljust(80).encode("ascii")
