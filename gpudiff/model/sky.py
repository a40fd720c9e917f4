"""Sky positions: FITS WCS keywords in, (ra, dec) out.  astropy does the work and is imported on first use."""

import math
import re
from numbers import Real
from typing import Any

import numpy as np

from gpudiff.model.errors import BadWcs

NUMBERS = re.compile(r"(CRPIX|CRVAL|CDELT|CROTA)\d|(CD|PC)\d_\d|PV\d_\d+|(LON|LAT)POLE")
"""Keywords without whose numbers there is no projection; wcslib takes text in their place for 0."""


class Sky:
    """Pixel to sky and back by FITS WCS (Greisen & Calabretta 2002); without a celestial WCS all is NaN."""

    def __init__(self, cards: dict[str, Any]):
        """cards : FITS WCS keywords, {} for none.  Raises BadWcs for keywords that no projection follows from."""
        self._wcs = None
        _check_numbers(cards)
        if cards:
            import warnings

            from astropy.io.fits import Header
            from astropy.wcs import WCS

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    wcs = WCS(Header(cards), relax=True)
                    wcs.wcs.set()
                except Exception as error:  # wcslib has a kind for each mistake, astropy some more
                    reason = " ".join(str(error).split())
                    raise BadWcs(f"expected a FITS WCS, got keywords that make none: {reason}") from None
            if wcs.has_celestial:
                plain = (wcs.naxis, wcs.wcs.lng, wcs.wcs.lat) == (2, 0, 1)
                self._wcs = wcs if plain else wcs.celestial  # a copy, as long in the making

    def __bool__(self) -> bool:
        return self._wcs is not None

    def to_sky(self, x: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        """ICRS (ra, dec), degrees, of 0-based pixel positions."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        if self._wcs is None:
            return np.full(x.shape, np.nan), np.full(x.shape, np.nan)
        ra, dec = self._wcs.all_pix2world(x, y, 0)
        return np.asarray(ra), np.asarray(dec)

    def to_pixels(self, ra: Any, dec: Any) -> tuple[np.ndarray, np.ndarray]:
        """0-based pixel positions (x, y) of ICRS degrees; NaN where the projection has none."""
        ra, dec = np.asarray(ra, float), np.asarray(dec, float)
        if self._wcs is None:
            return np.full(ra.shape, np.nan), np.full(ra.shape, np.nan)
        x, y = self._wcs.all_world2pix(ra, dec, 0, quiet=True)
        return np.asarray(x), np.asarray(y)

    def jacobian(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N, 2, 2) d(ra cos dec, dec) / d(x, y), degrees a pixel."""
        x, y = np.asarray(x, float), np.asarray(y, float)
        steps = np.array([(0, 0), (-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])[:, :, None]
        ra, dec = self.to_sky(x + steps[:, 0], y + steps[:, 1])
        dra = (ra[2::2] - ra[1::2] + 180) % 360 - 180
        return np.stack([dra * np.cos(np.radians(dec[0])), dec[2::2] - dec[1::2]], 1).transpose(2, 1, 0)


def _check_numbers(cards: dict[str, Any]) -> None:
    for key, value in cards.items():
        number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
        if not number and NUMBERS.fullmatch(key):
            raise BadWcs(f"expected a FITS WCS, got {key} = {value!r:.40}, which is no number")


def within(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float, radius: float) -> np.ndarray:
    """(N,) bool: at most `radius` degrees (up to 90) from a place, on the great circle."""
    dec_rad, dec0_rad = np.radians(dec), np.radians(dec0)
    half = np.sin((dec_rad - dec0_rad) / 2) ** 2
    half += np.cos(dec_rad) * np.cos(dec0_rad) * np.sin(np.radians(ra - ra0) / 2) ** 2
    return half <= np.sin(np.radians(radius) / 2) ** 2
