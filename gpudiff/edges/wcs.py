"""FITS header keywords to those of a WCS that places pixels on the sky."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from astropy.io.fits import Header

from gpudiff.edges.header import value_of
from gpudiff.model.sky import Sky

WCS_KEYWORD = re.compile(
    r"WCSAXES|(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA)[12]|(CD|PC)[12]_[12]|(PV|PS)[12]_\d+|WAT\d_\d{3}"
    r"|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|[AB]P?_(ORDER|DMAX|\d_\d)"
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


def wcs_keywords(headers: Iterable[Header]) -> dict[str, Any]:
    """The WCS keywords of the first header that has CTYPE1: numbers and strings, {} when none has.

    {} too where they place no pixel: coordinates that lie in a table (-TAB), a singular CD matrix, such as 0.
    Keywords of old are renamed; EPOCH is EQUINOX where it says 1950 (FITS standard 4.0, 8.3): else it may be a
    date.
    """
    found = _said(headers)
    return {} if _in_a_table(found) or _flat(found) else found


def positions(headers: Iterable[Header]) -> tuple[str, ...]:
    """A note where no sky positions follow from a WCS in headers, or not quite.  Raises BadWcs, as Sky does."""
    headers = [*headers]
    found = _said(headers)
    if Sky(wcs_keywords(headers)):
        tables = [key for key in TABLES if any(key in header for header in headers)]
        return (f"positions without the distortion in tables ({', '.join(tables)})",) if tables else ()
    if not any(key in header for key in ("CTYPE1", "CRVAL1") for header in headers):
        return ()
    said = ", ".join(f"{key} = {found[key]!r:.40}" for key in ("CTYPE1", "CTYPE2") if key in found)
    why = " and a singular CD matrix" if _flat(found) else ""
    return (f"no sky positions: expected a projection in CTYPE1 and CTYPE2, got {said or 'no CTYPE1'}{why}",)


def _said(headers: Iterable[Header]) -> dict[str, Any]:
    for header in headers:
        if "CTYPE1" in header:
            new = {OLD.sub(r"\1\2_\3", key): key for key in header}
            found = known({key: value_of(header, old) for key, old in new.items() if WCS_KEYWORD.fullmatch(key)})
            old = "EPOCH" in header and value_of(header, "EPOCH") == 1950
            return {"EQUINOX": 1950.0} | found if old else found
    return {}


def known(cards: Mapping[str, Any]) -> dict[str, Any]:
    """The WCS keywords among some that have a value, with IRAF's texts in cards that no blank begins or ends."""
    found = {key: value for key, value in cards.items() if value is not None and WCS_KEYWORD.fullmatch(key)}
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


def _in_a_table(cards: Mapping[str, Any]) -> bool:
    return any(str(cards.get(key)).strip().endswith("-TAB") for key in ("CTYPE1", "CTYPE2"))


def _flat(cards: Mapping[str, Any]) -> bool:
    """Whether there is a CD matrix that is singular, as one of 0 is: nobody solved the field."""
    matrix = [cards.get(key, 0.0) for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2")]
    if not any(re.fullmatch(r"CD\d_\d", key) for key in cards) or any(isinstance(one, str) for one in matrix):
        return False
    return bool(matrix[0] * matrix[3] == matrix[1] * matrix[2])
