"""Flux in nanojansky, and in electrons."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

AB_ZERO_NJY = 3.630780547701013e12
"""Flux of magnitude 0 in the AB system, nJy: 10**(48.6 / -2.5) erg/s/cm2/Hz (Oke & Gunn 1983)."""
NANOJANSKY = {
    **{"nJy": 1.0, "uJy": 1e3, "mJy": 1e6, "Jy": 1e9, "MJy": 1e15},
    **dict.fromkeys(("nanomaggy", "nanomaggies", "nmgy", "nMgy"), AB_ZERO_NJY / 1e9),
    **dict.fromkeys(("maggy", "maggies", "mgy"), AB_ZERO_NJY),
}
"""nJy in the units of flux that a BUNIT may name; one maggy is magnitude 0 (Finkbeiner et al. 2004)."""
ELECTRONS = re.compile(r"(electrons?|e-?)(?P<rate> ?/ ?s(ec(onds?)?)?|[ .*]?s(ec)?(\*\*|\^)?\(?-1\)?)?")


def nanojansky(unit: str, zero_point: float | None) -> float | None:
    """nJy in one image unit of flux; None when nobody knows.

    unit : BUNIT; where it names a flux, that is what counts
    zero_point : AB magnitude of one image unit, or None
    """
    named = NANOJANSKY.get(unit.strip())
    if named is not None or zero_point is None:
        return named
    return AB_ZERO_NJY * 10 ** (-0.4 * zero_point)


def electrons(unit: str, exposure_s: float) -> float | None:
    """Electrons in one image unit, where BUNIT says that it is electrons, or electrons a second; else None.

    exposure_s : NaN when unknown
    """
    named = ELECTRONS.fullmatch(unit.strip().lower())
    if named is None:
        return None
    return 1.0 if not named["rate"] else exposure_s if math.isfinite(exposure_s) and exposure_s > 0 else None


@dataclass(frozen=True)
class Light:
    """In which band detections were made, and what their fluxes are worth.

    band : (N,) str, as the frames name it; '' when unknown
    scale : (N,) float64, nJy in one image unit; 1 where nobody knows
    """

    band: np.ndarray
    scale: np.ndarray

    @classmethod
    def of_frame(cls, count: int, band: str, unit: str, zero_point: float | None) -> "Light":
        """That of `count` detections of one frame."""
        return cls(np.full(count, band), np.full(count, nanojansky(unit, zero_point) or 1.0))

    @classmethod
    def together(cls, parts: Sequence["Light"]) -> "Light":
        """That of the detections of several frames, one after the other."""
        return cls(np.concatenate([one.band for one in parts]), np.concatenate([one.scale for one in parts]))

    def take(self, rows: np.ndarray) -> "Light":
        """Some of them."""
        return Light(self.band[rows], self.scale[rows])

    def seen_in(self, band: str) -> np.ndarray:
        """(N,) bool, those of a band: its letter, or a name whose first word is that letter."""
        names = np.asarray(self.band, str)
        return (names == band) | np.char.startswith(names, band + " ")
