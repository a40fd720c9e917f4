"""What the planes of a FITS file are called, and what their pixels mean."""

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from astropy.io import fits

from gpudiff.model.errors import UnreadableFile
from gpudiff.model.mask import BITS, bit, translate

IMAGE, MASK, PSF = ("IMAGE", "SCI"), ("MASK", "DQ", "MSK", "BPM", "BADPIX"), ("PSF",)
DEVIATION, INVERSE = ("ERR", "ERROR", "SIGMA", "RMS", "UNCERT"), ("IVAR", "INVVAR", "IVM")
VARIANCE = ("VARIANCE", "VAR", *DEVIATION, *INVERSE)
WEIGHT = ("WHT", "WT", "WGT", "WEIGHT", "WTMAP")
"""1/variance, exposure times or another thing, on a scale that its maker knows: no variance unless asked for."""
OWN = ("COVERAGE", "SCORE", "KERNEL")
"""Planes that gpudiff itself writes beside a frame's."""
UNCERTAINTY = {"VarianceUncertainty": "VARIANCE", "InverseVariance": "IVAR"}
"""UTYPE of an UNCERT extension as astropy's CCDData writes it; another is a standard deviation."""
SOME = 5
"""Every so many rows and columns of a mask are looked at for what to say of it."""
SQUARED = re.compile(r"[\d.*^+ -]*\(.*\) ?(\*\*|\^)?2")
"""A BUNIT that is a square as a whole: (adu)2, (electron / s)**2."""
FACTOR, POWER = re.compile(r"[A-Za-z]+"), re.compile(r"[A-Za-z]+ ?(?:\*\*|\^)?\(?(-?)[24](?!\d)")


@dataclass(frozen=True)
class Plane:
    """One image HDU, read: `array` in native byte order, its own header and the file's primary header."""

    array: np.ndarray
    header: fits.Header
    primary: fits.Header

    @property
    def name(self) -> str:
        """Its EXTNAME, in capitals; "" for none."""
        return str(self.header.get("EXTNAME", "")).strip().upper()

    @property
    def kind(self) -> str:
        """The PRODTYPE where that is of weights, as of DECam's, whose extensions are detectors; else its name."""
        product = str(self.header.get("PRODTYPE", self.primary.get("PRODTYPE", ""))).strip().upper()
        return product if product in WEIGHT else self.name


def linear(plane: Plane) -> Plane:
    """The plane with its pixels as light where they were stored as its asinh, as those of Pan-STARRS's stacks are.

    BOFFSET + 2 BSOFTEN sinh(0.4 ln(10) pixel) is the light (Waters et al. 2020, ApJS 251, 4).
    """
    offset, softening = (plane.header.get(key) for key in ("BOFFSET", "BSOFTEN"))
    if offset is None or softening is None:
        return plane
    values = offset + 2 * softening * np.sinh(0.4 * np.log(10) * plane.array.astype(float))
    return dataclasses.replace(plane, array=values.astype(np.float32))


def floats(array: np.ndarray) -> np.ndarray:
    """float32, infinite what is beyond; a mapped plane of such stays where it is."""
    with np.errstate(over="ignore"):
        return array if array.dtype.str in ("<f4", ">f4") else array.astype(np.float32)


def variance_of(plane: Plane) -> tuple[np.ndarray, np.ndarray | None]:
    """((H, W) float32 variance, (H, W) bool pixels without a value or None for none).

    Of standard deviations (DEVIATION) the squares, with their sign; of INVERSE and WEIGHT the inverse: 0 says that
    there is no value.
    """
    values, name = floats(plane.array), plane.kind
    if name == "UNCERT":
        name = UNCERTAINTY.get(str(plane.header.get("UTYPE", "")).strip(), name)
    if name in DEVIATION and squared(str(plane.header.get("BUNIT", ""))):
        return values, None
    if name in DEVIATION:
        return values * np.abs(values), None
    if name in INVERSE or name in WEIGHT:
        lost = values == 0
        return np.divide(1, values, where=~lost, out=np.zeros_like(values)), lost
    return values, None


def squared(unit: str) -> bool:
    """Whether a BUNIT is a square: as a whole, or in each of its factors, as DN2/s2 is and erg/s/cm2 is not."""
    powers = POWER.findall(unit)
    return bool(SQUARED.fullmatch(unit.strip())) or ("" in powers and len(powers) == len(FACTOR.findall(unit)))


def mask_of(plane: Plane, bad_bits: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """((H, W) int32 in gpudiff's bits, note).

    bad_bits : of a mask without MP_* keywords those that make a pixel BAD, added up; 0: any
    """
    bits = {
        key[3:]: _bit_number(key, header[key])
        for header in (plane.primary, plane.header)
        for key in header
        if key.startswith("MP_")
    }
    array = plane.array
    if isinstance(array, np.memmap) and bits == BITS and array.dtype.itemsize == 4:
        return array, ()
    if array.dtype.kind == "f":
        array = np.nan_to_num(array, nan=1).astype(np.int64)
    if bits and array.dtype.itemsize < 4:
        array = array.astype(np.int32)
    if bits or array.dtype.kind == "b":
        return translate(array, bits), ()
    if bad_bits:
        array = array & array.dtype.type(bad_bits & int(np.iinfo(array.dtype).max))
    return translate(array, {}), _nameless(array, bad_bits)


def _nameless(mask: np.ndarray, bad_bits: int) -> tuple[str, ...]:
    """A note on a mask of several bits that nobody named."""
    some = mask[::SOME, ::SOME]
    shares = {
        number: float((some >> some.dtype.type(number) & 1).mean()) for number in range(8 * some.itemsize - 1)
    }
    seen = [f"{number} ({share:.2%})" for number, share in shares.items() if share]
    if bad_bits or len(seen) < 2:
        return ()
    return (
        f"mask without names of its bits: {', '.join(seen)} are all BAD; [instrument] bad_bits says which are",
    )


def with_lost(mask: np.ndarray | None, *lost: np.ndarray | None) -> np.ndarray | None:
    """The mask with NO_DATA where a (H, W) bool says so; itself where none does."""
    for one in lost:
        if one is not None and one.any():
            more = one * np.int32(bit("NO_DATA"))
            mask = more if mask is None else mask | more
    return mask


def _bit_number(key: str, value: Any) -> int:
    """The number that an MP_* keyword gives its mask plane."""
    if isinstance(value, int) and 0 <= value < 64:
        return int(value)
    raise UnreadableFile(f"{key}: expected the number of a mask bit, got {value!r:.60}")
