"""Cutouts as FITS files, three for an alert: all that is the same for a frame's cutouts is written once.

astropy would take 5 ms for each.  Here the three files of a source are one record of fixed size: headers from a
template, and planes, turned to big-endian as they are copied, at fixed places in it.

Each has the HDUs that astropy's CCDData reads by default, as Rubin's cutouts do: the image in the primary, UNCERT
(a variance), MASK and PSFIMAGE.  Where science's and template's are not given, these are the image alone: an alert
is 78 kB then instead of 135 kB.  Variance and mask of the difference hold what is known of both.

The WCS is the frame's with CRPIX moved to the cutout; distortions (SIP, PV) are relative to CRPIX or to the sky,
so they move along.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import zip_longest
from typing import Any

import numpy as np

from gpudiff.edges.header import card
from gpudiff.model import mask as mask_planes
from gpudiff.model.batch import OwnPlanes
from gpudiff.model.cards import card_images

KINDS = ("difference", "science", "template")
BLOCK = 2880
"""Bytes of a FITS block (FITS standard 4.0, section 3.1)."""
ROWS = 6
"""Sources whose files are made together, at most: under a megabyte, which stays in a core's cache."""
PSF_HALF = 12
"""Greatest half width of the PSF in a cutout, pixels: 25 x 25 fill one block."""
OWN_CARDS = ("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "EXTNAME", "BUNIT", "CRPIX1", "CRPIX2")
REFERENCE = "S160"
"""The cards of CRPIX1 and CRPIX2."""


def write_cutouts(
    cutouts: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    psf: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    wcs: dict[str, Any],
    unit: str,
    before: Callable[[int], bytes] = lambda size: b"",
    own: OwnPlanes | None = None,
) -> tuple[int, Iterator[memoryview]]:
    """Bytes of a source's FITS files, and the files: difference, science and template cutout, one after the other.

    cutouts : (N, 3, S, S) float32, S odd; NaN stays NaN; variance : (N, S, S) float32, unit squared
    mask : (N, S, S) uint16, bits of model.mask, at most 15; psf : (P, P) float32, P odd, cut to 25 x 25
    x, y : (N,) 0-based pixels in the frame; a cutout's centre is pixel floor(x + 1/2), floor(y + 1/2)
    wcs : the frame's FITS WCS keywords, {} for none; unit : BUNIT
    before : what stands before each file, given its size in bytes
    own : the planes of science and template, None for none
    Each is a view that the next ones overwrite: to be used or copied before they are asked for.
    """
    count, _, size, _ = cutouts.shape
    psfs = [psf, *(own.psf if own else ())]
    whole, dtype = _template(size, [_middle(one) for one in psfs], wcs, unit, before)

    def made() -> Iterator[memoryview]:
        memory = bytearray(whole * min(ROWS, count))
        files, records = memoryview(memory), np.frombuffer(memory, dtype)
        references = _references(x, y, size, wcs)
        for start in range(0, count, ROWS):
            some = slice(start, min(start + ROWS, count))
            rows = records[: some.stop - start]
            for kind, name in enumerate(KINDS):
                rows[name] = cutouts[some, kind]
                if wcs:
                    rows[f"{name} reference"] = references[some]
            rows["difference variance"], rows["difference mask"] = variance[some], mask[some]
            if own:
                for n, name in enumerate(KINDS[1:]):
                    rows[f"{name} variance"], rows[f"{name} mask"] = own.variance[some, n], own.mask[some, n]
            for n in range(len(rows)):
                yield files[n * len(whole) : (n + 1) * len(whole)]

    return len(whole), made()


def _template(
    size: int, psfs: list[np.ndarray], wcs: dict[str, Any], unit: str, before: Callable[[int], bytes]
) -> tuple[bytes, np.dtype[Any]]:
    """The three files of one source with empty images, and the places in them that are each source's own.

    psfs : of the first cutouts, which have planes
    """
    pieces, at, places = list[bytes](), 0, dict[str, int]()
    image, plane = (">f4", (size, size)), (">i2", (size, size))
    world = card_images((key, value) for key, value in wcs.items() if key not in OWN_CARDS)
    for name, psf in zip_longest(KINDS, psfs):
        start = _start(name, size, unit)
        rest = world + b"END".ljust(80)
        rest += b" " * (-(len(start) + (160 if wcs else 0) + len(rest)) % BLOCK)
        file = [("", start)]
        file += [(f"{name} reference", b" " * 160)] if wcs else []
        file += [("", rest), (name, _data(size * size * 4))]
        if psf is not None:
            for what, header, data in _planes(size, psf, unit):
                file += [("", header), (f"{name} {what}", data)]
        for what, piece in [("", before(sum(len(piece) for _, piece in file))), *file]:
            pieces.append(piece)
            places |= {what: at} if what else {}
            at += len(piece)
    whole = b"".join(pieces)
    places = {what: at for what, at in places.items() if not what.endswith("psf")}
    formats = [REFERENCE if "reference" in what else plane if "mask" in what else image for what in places]
    fields: Any = {
        "names": list(places),
        "formats": formats,
        "offsets": list(places.values()),
        "itemsize": len(whole),
    }
    return whole, np.dtype(fields)


def _planes(size: int, psf: np.ndarray, unit: str) -> Iterator[tuple[str, bytes, bytes]]:
    """Name, header and data of a cutout's extensions: data are zero where each source has its own."""
    yield "variance", _extension("UNCERT", -32, size, unit), _data(size * size * 4)
    yield "mask", _extension("MASK", 16, size, unit), _data(size * size * 2)
    pixels = psf.astype(">f4").tobytes()
    yield "psf", _extension("PSFIMAGE", -32, len(psf), unit), pixels + b"\0" * (-len(pixels) % BLOCK)


def _middle(psf: np.ndarray) -> np.ndarray:
    edge = max(len(psf) // 2 - PSF_HALF, 0)
    return psf[edge : len(psf) - edge, edge : len(psf) - edge]


def _references(x: np.ndarray, y: np.ndarray, size: int, wcs: dict[str, Any]) -> np.ndarray:
    """(N,) the cards of CRPIX1 and CRPIX2 in each source's cutouts."""
    moved = [
        wcs.get(key, 0.0) - (np.floor(position + 0.5) - size // 2)
        for key, position in (("CRPIX1", x), ("CRPIX2", y))
    ]
    pairs = zip(*(column.tolist() for column in moved), strict=True)
    cards = [f"CRPIX1  = {one:>20.9f}".ljust(80) + f"CRPIX2  = {other:>20.9f}".ljust(80) for one, other in pairs]
    return np.array([both.encode("ascii") for both in cards], REFERENCE)


@lru_cache(64)
def _start(name: str, size: int, unit: str) -> bytes:
    """The primary header's cards before CRPIX1."""
    image = {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size, "EXTEND": True}
    return _cards([*image.items(), ("EXTNAME", name.upper()), ("BUNIT", unit)])


@lru_cache(64)
def _extension(name: str, bitpix: int, size: int, unit: str) -> bytes:
    """The header of one of the extensions."""
    more: list[Any] = []
    if name == "UNCERT":
        more = [("UTYPE", "VarianceUncertainty"), ("BUNIT", f"({unit})2")]
    elif name == "MASK":
        bits = mask_planes.cards().items()
        more = [card(key, number, mask_planes.DESCRIPTIONS[key[3:]]) for key, number in bits]
    image = {"XTENSION": "IMAGE", "BITPIX": bitpix, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size}
    cards = _cards([*image.items(), ("PCOUNT", 0), ("GCOUNT", 1), ("EXTNAME", name), *more])
    header = cards + b"END".ljust(80)
    return header + b" " * (-len(header) % BLOCK)


@lru_cache(64)
def _data(size: int) -> bytes:
    return b"\0" * (size + -size % BLOCK)


def _cards(cards: list[Any]) -> bytes:
    from astropy.io.fits import Header

    return Header(cards).tostring(sep="", endcard=False, padding=False).encode("ascii")
