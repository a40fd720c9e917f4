"""FITS header keywords to those of a WCS that places pixels on the sky."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from astropy.io.fits import Header

from gpudiff.edges.header import number_of, value_of
from gpudiff.model.errors import BadWcs
from gpudiff.model.sky import NUMBERS, Sky

WCS_KEYWORD = re.compile(
    r"WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|(PV|PS)[12]_\d+|WAT\d_\d{3}"
    r"|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH|[AB]P?_(ORDER|DMAX|\d_\d)|(CD|PC)00[12]00[12]"
)
"""WCS keywords of papers I and II, with SIP, TPV and TNX distortions; no alternate descriptions, and no
axes beyond an image's two."""
OLD = re.compile(r"(CD|PC)00(\d)00(\d)")
"""A matrix element as it was written before paper I: PC001002 is PC1_2."""
NUMBER = re.compile(r'(?<=[ "=])-?(?=[\d.])')
"""What is before a number's digits."""
ROOM = 68
"""Characters of a text in a card."""
TABLES = ("CPDIS1", "CPDIS2", "D2IMDIS1", "D2IMDIS2")
"""Distortions that lie in further HDUs (Calabretta et al. 2004), as HST's do."""


def wcs_of(headers: Sequence[Header]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The WCS keywords of the first header that has CTYPE1, numbers and strings, and a note where no sky positions
    follow from them, or not quite.

    {} when no header has one, and where no WCS follows from them at all.
    """
    found = _said(headers)
    try:
        placed = bool(Sky(found))
    except BadWcs as error:
        return {}, (f"no sky positions: {error}",)
    if placed:
        tables = ", ".join(key for key in TABLES if any(key in header for header in headers))
        return found, (f"positions without the distortion in tables ({tables})",) if tables else ()
    if not any(key in header for key in ("CTYPE1", "CRVAL1") for header in headers):
        return found, ()
    said = ", ".join(f"{key} = {found[key]!r:.40}" for key in ("CTYPE1", "CTYPE2") if key in found)
    return found, (f"no sky positions: expected a projection in CTYPE1 and CTYPE2, got {said or 'no CTYPE1'}",)


def _said(headers: Iterable[Header]) -> dict[str, Any]:
    for header in headers:
        if "CTYPE1" in header:
            return known({key: value_of(header, key) for key in header if WCS_KEYWORD.fullmatch(key)})
    return {}


def _meant(key: str, value: Any) -> Any:
    """A value as the standard has it: CTYPE in upper case, a number where a text says one."""
    if not isinstance(value, str):
        return value
    if (NUMBERS.fullmatch(key) or key in ("EQUINOX", "EPOCH")) and math.isfinite(number := number_of(value)):
        return number
    return value.upper() if key.startswith("CTYPE") else value


def known(cards: Mapping[str, Any]) -> dict[str, Any]:
    """The WCS keywords among some that have a value, with IRAF's texts in cards that no blank begins or ends.

    Keywords of old are renamed, numbers written as texts are numbers, axes and projections are upper case; EPOCH
    is EQUINOX where it says 1950 (FITS standard 4.0, 8.3): else it may be a date.
    """
    said = {key: value for key, value in cards.items() if value is not None and WCS_KEYWORD.fullmatch(key)}
    renamed = {OLD.sub(r"\1\2_\3", key): value for key, value in said.items()}
    found = {key: _meant(key, value) for key, value in renamed.items()}
    if found.pop("EPOCH", None) == 1950:
        found.setdefault("EQUINOX", 1950.0)
    for axis in "WAT1_", "WAT2_":
        pieces = [str(found.pop(key)) for key in sorted(found) if key.startswith(axis)]
        text = re.sub(" +", " ", "".join(one.ljust(ROOM) if len(one) == ROOM - 1 else one for one in pieces))
        found |= {f"{axis}{number:03d}": one for number, one in enumerate(_cut(text), 1)}
    return found


def _cut(text: str) -> list[str]:
    """Pieces of a text, all but the last as long as a card has room, with zeros before numbers so that no piece
    ends or begins with a blank.

    wcslib reads no others, and where a blank at the end of a card is lost two numbers are one.
    """
    pieces = []
    while len(text) > ROOM:
        last = max((found.end() for found in NUMBER.finditer(text, 0, ROOM - 1)), default=0)
        while last and " " in text[ROOM - 1 : ROOM + 1]:
            text = f"{text[:last]}0{text[last:]}"
        pieces.append(text[:ROOM])
        text = text[ROOM:]
    return [*pieces, text] if text else pieces
