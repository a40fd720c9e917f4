"""Flux in nanojansky."""

AB_ZERO_NJY = 3.630780547701013e12
"""Flux of magnitude 0 in the AB system, nJy: 10**(48.6 / -2.5) erg/s/cm2/Hz (Oke & Gunn 1983)."""
NANOJANSKY = {"nJy": 1.0, "uJy": 1e3, "mJy": 1e6, "Jy": 1e9}
"""nJy in the units of flux that a BUNIT may name."""


def nanojansky(unit: str, zero_point: float | None) -> float | None:
    """nJy in one image unit of flux; None when nobody knows.

    unit : BUNIT; where it names a flux, that is what counts
    zero_point : AB magnitude of one image unit, or None
    """
    named = NANOJANSKY.get(unit.strip())
    if named is not None or zero_point is None:
        return named
    return AB_ZERO_NJY * 10 ** (-0.4 * zero_point)
