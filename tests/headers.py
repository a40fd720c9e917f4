"""FITS keywords that many tests want."""

from typing import Any

import numpy as np

SCALE = 0.2 / 3600
"""Degrees a pixel."""


def tangent(ra: float, dec: float, x: float, y: float, turn: float = 0.0) -> dict[str, Any]:
    """A tangent plane with (ra, dec) on CRPIX (x, y), which count from 1, turned by degrees from north up."""
    along, across = SCALE * np.cos(np.radians(turn)).item(), SCALE * np.sin(np.radians(turn)).item()
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": dec, "CRPIX1": x, "CRPIX2": y}
    return cards | {"CD1_1": -along, "CD1_2": across, "CD2_1": across, "CD2_2": along}
