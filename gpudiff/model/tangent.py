"""The tangent plane of a WCS without distortion, by ERFA: astropy.wcs takes a tenth of a second to import."""

from dataclasses import dataclass
from typing import Any, Self

import erfa
import numpy as np

ONE = {"CRPIX": 0.0, "CRVAL": 0.0, "CDELT": 1.0}
"""What a keyword of each axis is where it is left out (FITS standard 4.0, table 22)."""


@dataclass(frozen=True)
class Tangent:
    """Pixels to the sky and back by TAN (Calabretta & Greisen 2002, 5.1.3), with the methods of astropy's WCS.

    matrix : (2, 2) radians of the plane a pixel; reference : (2,) 1-based pixel; pole : its (ra, dec), radians
    """

    matrix: np.ndarray
    reference: np.ndarray
    pole: tuple[float, float]

    @classmethod
    def of(cls, cards: dict[str, Any]) -> Self | None:
        """The plane of WCS keywords whose numbers are such; None where they say more than TAN in ICRS or FK5, or
        nothing sensible."""
        axes = [{name: cards.get(f"{name}{axis}", value) for name, value in ONE.items()} for axis in (1, 2)]
        longitude, latitude = (axis["CRVAL"] for axis in axes)
        if not (_is_tan(cards) and 0 <= longitude < 360 and -90 < latitude < 90):
            return None
        names = [f"{i}_{j}" for i in (1, 2) for j in (1, 2)]
        if any(f"CD{name}" in cards for name in names):
            if any(f"PC{name}" in cards for name in names):
                return None
            degrees = np.array([cards.get(f"CD{name}", 0.0) for name in names], float).reshape(2, 2)
        else:
            turn = [cards.get(f"PC{name}", float(name in ("1_1", "2_2"))) for name in names]
            degrees = np.array(turn, float).reshape(2, 2) * [[axis["CDELT"]] for axis in axes]
        if np.linalg.matrix_rank(degrees) < 2:
            return None
        reference = np.array([axis["CRPIX"] for axis in axes], float)
        return cls(np.radians(degrees), reference, (np.radians(longitude), np.radians(latitude)))

    def all_pix2world(self, x: np.ndarray, y: np.ndarray, origin: int) -> tuple[np.ndarray, np.ndarray]:
        """(ra, dec), degrees, of pixels whose first has the number `origin`."""
        x, y = x + (1 - origin - self.reference[0]), y + (1 - origin - self.reference[1])
        (a, b), (c, d) = self.matrix
        with np.errstate(invalid="ignore"):
            ra, dec = erfa.ufunc.tpsts(a * x + b * y, c * x + d * y, *self.pole)
        return np.degrees(ra), np.degrees(dec)

    def all_world2pix(
        self, ra: np.ndarray, dec: np.ndarray, origin: int, quiet: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of degrees; NaN for what is a quarter of the sky or more from the pole."""
        with np.errstate(invalid="ignore"):
            xi, eta, failed = erfa.ufunc.tpxes(np.radians(ra), np.radians(dec), *self.pole)
        xi, eta = np.where(failed, np.nan, (xi, eta))
        (a, b), (c, d) = np.linalg.inv(self.matrix)
        x, y = a * xi + b * eta, c * xi + d * eta
        return x + (self.reference[0] - 1 + origin), y + (self.reference[1] - 1 + origin)


def _is_tan(cards: dict[str, Any]) -> bool:
    """Whether keywords say a TAN of right ascension and declination, in ICRS or FK5 of 2000, in degrees."""
    said = {key: value.strip() if isinstance(value, str) else value for key, value in cards.items()}
    return (
        (said.get("CTYPE1"), said.get("CTYPE2")) == ("RA---TAN", "DEC--TAN")
        and said.get("CUNIT1", "deg") == said.get("CUNIT2", "deg") == "deg"
        and said.get("LONPOLE", 180) == 180
        and said.get("RADESYS", "ICRS") in ("ICRS", "FK5")
        and said.get("EQUINOX", 2000) == 2000
    )
