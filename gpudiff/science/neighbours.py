"""Positions on the sky that are asked again and again who lies near a place."""

import numpy as np

from gpudiff.arrays.zone_join import Zones, joined


class Neighbours:
    """Positions, sorted once."""

    def __init__(self, ra: np.ndarray, dec: np.ndarray, radius: float):
        """ra, dec : (M,) degrees, ICRS; radius : arcsec, at most 10 degrees"""
        self._zones, self._count = Zones.of(ra, dec, radius), len(ra)

    def of(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Which of them lie within the radius of any of (N,) places: int64 indices, rising, each once."""
        near = np.zeros(self._count, bool)
        near[joined(ra, dec, self._zones)[1]] = True
        return np.flatnonzero(near)
