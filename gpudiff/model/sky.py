"""Sky positions: FITS WCS keywords in, (ra, dec) out.

A plain tangent plane is `model.tangent`'s; astropy does all others and is imported on first use.
"""

import math
import re
from numbers import Real
from typing import Any

import numpy as np

from gpudiff.model.cards import card_images
from gpudiff.model.errors import BadWcs
from gpudiff.model.tangent import Tangent

NUMBERS = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA)\d|(CD|PC)\d_\d|PV\d_\d+|(LON|LAT)POLE")
"""Keywords without whose numbers there is no projection; wcslib takes text in their place for 0."""
WHERE = re.compile(r"ERROR \d+ in \w+\(\) at line \d+ of file \S+: ")
"""Where wcslib stumbled, which says nothing of the keywords."""
SIP = re.compile(r"(AP?|BP?)_(ORDER|DMAX|\d_\d)")
PLAIN = re.compile(
    rf"(CTYPE|CUNIT|CRVAL|CRPIX|CDELT)[12]|(CD|PC)[12]_[12]|(LON|LAT)POLE|RADESYS|EQUINOX|{SIP.pattern}"
)
"""Keywords of two axes that are read without astropy's search of a whole header: in 0.1 ms, not 4."""


class Sky:
    """Pixel to sky and back by FITS WCS (Greisen & Calabretta 2002); without a celestial WCS all is NaN."""

    def __init__(self, cards: dict[str, Any]):
        """cards : FITS WCS keywords, {} for none.  Raises BadWcs for keywords that no projection follows from."""
        self._wcs, self._frame, self._latitude_first = None, None, False
        _check_values(cards)
        cards = _named_tpv(cards)
        if _is_plain(cards) and not any(map(SIP.fullmatch, cards)):
            self._wcs = Tangent.of(cards)
        if cards and self._wcs is None:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    wcs = _plain(cards) if _is_plain(cards) else _any(cards)
                    wcs.wcs.set()
                except Exception as error:  # wcslib has a kind for each mistake, astropy some more
                    reason = WHERE.sub("", " ".join(str(error).split()))
                    raise BadWcs(f"expected a FITS WCS, got keywords that make none: {reason}") from None
            if wcs.has_celestial:
                wcs = wcs if wcs.naxis == 2 else wcs.celestial  # a copy, as long in the making
                self._wcs, self._frame = wcs, _other_frame(wcs)
                self._latitude_first = wcs.wcs.lat < wcs.wcs.lng

    def __bool__(self) -> bool:
        return self._wcs is not None

    def to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """ICRS (ra, dec), degrees, of 0-based pixel positions."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        if self._wcs is None:
            return np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        ra, dec = self._wcs.all_pix2world(x, y, 0)[:: -1 if self._latitude_first else 1]
        if self._frame is not None:
            ra, dec = _turned(ra, dec, self._frame, "icrs")
        return np.asarray(ra), np.asarray(dec)

    def to_pixels(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """0-based pixel positions (x, y) of ICRS degrees; NaN where the projection has none."""
        ra, dec = np.asarray(ra, float), np.asarray(dec, float)
        if self._wcs is None:
            return np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
        if self._frame is not None:
            ra, dec = _turned(ra, dec, "icrs", self._frame)
        place = (dec, ra) if self._latitude_first else (ra, dec)
        x, y = self._wcs.all_world2pix(*place, 0, quiet=True)
        return np.asarray(x), np.asarray(y)

    def jacobian(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, 2, 2) d(ra cos dec, dec) / d(x, y), degrees a pixel."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        steps = np.array([(0, 0), (-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])[:, :, None]
        ra, dec = self.to_sky(x + steps[:, 0], y + steps[:, 1])
        dra = (ra[2::2] - ra[1::2] + 180) % 360 - 180
        return np.stack([dra * np.cos(np.radians(dec[0])), dec[2::2] - dec[1::2]], 1).transpose(2, 1, 0)


def _named_tpv(cards: dict[str, Any]) -> dict[str, Any]:
    """The keywords with SCAMP's TAN, which has polynomials in PV on both axes, under its later name TPV.

    wcslib knows it by terms beyond the fourth, which polynomials of the first degree have not: it would take them
    for the pole of a TAN, whose PV are all on one axis.
    """
    if {key[:3] for key in cards} >= {"PV1", "PV2"}:
        return {key: re.sub("-TAN *$", "-TPV", one) if isinstance(one, str) else one for key, one in cards.items()}
    return cards


def _other_frame(wcs: Any) -> Any:
    """The frame of astropy in which a celestial WCS is when it is galactic, or of B1950; None else.

    Equatorial coordinates of other equinoxes are taken for ICRS: such keywords are wrong more often than not.
    Raises BadWcs for a frame that nobody knows.
    """
    if wcs.wcs.lngtyp == "RA" and not (wcs.wcs.radesys.startswith("FK4") or wcs.wcs.equinox == 1950):
        return None
    from astropy.wcs.utils import wcs_to_celestial_frame

    try:
        return wcs_to_celestial_frame(wcs)
    except ValueError:
        raise BadWcs(f"expected equatorial or galactic coordinates, got {', '.join(wcs.wcs.ctype)}") from None


def _turned(longitude: np.ndarray, latitude: np.ndarray, frame: Any, into: Any) -> tuple[np.ndarray, np.ndarray]:
    """Degrees in another frame; NaN stays so."""
    from astropy.coordinates import SkyCoord

    made = SkyCoord(longitude, latitude, unit="deg", frame=frame).transform_to(into).spherical
    return made.lon.deg, made.lat.deg


def _is_plain(cards: dict[str, Any]) -> bool:
    """Whether all keywords are PLAIN, and SIP polynomials, where there are any, of the second order or more."""
    orders = (value for key, value in cards.items() if key.endswith("_ORDER"))
    return all(map(PLAIN.fullmatch, cards)) and all(type(one) is int and one > 1 for one in orders)


def _any(cards: dict[str, Any]) -> Any:
    """The WCS of any keywords."""
    from astropy.io.fits import Header
    from astropy.wcs import WCS

    return WCS(Header(cards), relax=True)


def _plain(cards: dict[str, Any]) -> Any:
    """The WCS of keywords that are all PLAIN: the same as astropy makes of them."""
    from astropy.wcs import WCS, Wcsprm

    wcs = WCS(naxis=2)
    wcs.wcs = Wcsprm(card_images((key, one) for key, one in cards.items() if not SIP.fullmatch(key)), relax=True)
    wcs.sip = _sip(cards, wcs.wcs.crpix)
    wcs.fix()
    return wcs


def _sip(cards: dict[str, Any], crpix: np.ndarray) -> Any:
    """The distortion by SIP (Shupe et al. 2005), forward and, where it is given, backward; None without one."""
    from astropy.wcs import Sip

    def polynomial(name: str) -> np.ndarray | None:
        order = cards.get(f"{name}_ORDER")
        if order is None:
            return None
        made = np.zeros((order + 1, order + 1))
        for i, j in np.ndindex(made.shape):
            made[i, j] = cards.get(f"{name}_{i}_{j}", 0.0) if i + j <= order else 0.0
        return made

    a, b, ap, bp = map(polynomial, ("A", "B", "AP", "BP"))
    if (a is None) != (b is None) or (ap is None) != (bp is None):
        raise ValueError("expected the orders of both SIP polynomials of a direction, got one")
    return None if a is None and ap is None else Sip(a, b, ap, bp, crpix)


def _check_values(cards: dict[str, Any]) -> None:
    for key, value in cards.items():
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number and NUMBERS.fullmatch(key):
            raise BadWcs(f"expected a FITS WCS, got {key} = {value!r:.40}, which is no number")
        if key.startswith("CTYPE") and str(value).strip().endswith("-TAB"):
            raise BadWcs(f"expected a FITS WCS, got {key} = {value!r:.40}: a table, which is not read")
    name, own = ("CD", 0.0) if any(re.fullmatch(r"CD\d_\d", key) for key in cards) else ("PC", 1.0)
    a, d = (cards.get(f"{name}{place}", own) for place in ("1_1", "2_2"))
    if a * d == cards.get(f"{name}1_2", 0.0) * cards.get(f"{name}2_1", 0.0):  # as 0 is: nobody solved the field
        raise BadWcs(f"expected a FITS WCS, got a singular {name} matrix")


def unit_vectors(ra: Any, dec: Any) -> np.ndarray:
    """(..., 3) unit vectors of (...) degrees."""
    ra_rad, dec_rad = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec_rad) * np.cos(ra_rad), np.cos(dec_rad) * np.sin(ra_rad), np.sin(dec_rad)], axis=-1)


def angles(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec), (...) degrees, of (..., 3) vectors of any length."""
    x, y, z = np.moveaxis(direction, -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))


def separation(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """(N,) arcsec along the great circle to a place; degrees in, NaN where a position is."""
    return 3600 * np.degrees(2 * np.arcsin(np.sqrt(np.clip(_haversine(ra, dec, ra0, dec0), 0, 1))))


def within(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float, radius: float) -> np.ndarray:
    """(N,) bool: at most `radius` degrees (up to 90) from a place, on the great circle."""
    return _haversine(ra, dec, ra0, dec0) <= np.sin(np.radians(radius) / 2) ** 2


def _haversine(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Square of the sine of half the angle: right at the poles and for small angles (Sinnott 1984)."""
    phi, phi0 = np.radians(dec), np.radians(dec0)
    square = np.sin((phi - phi0) / 2) ** 2
    square += np.cos(phi) * np.cos(phi0) * np.sin(np.radians(ra - ra0) / 2) ** 2
    return square
