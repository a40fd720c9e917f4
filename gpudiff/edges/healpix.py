"""HEALPix cells, nested (Gorski et al. 2005, ApJ 622, 759): of positions, and those that a circle touches."""

import numpy as np

WIDE = 5.0
"""Degrees, from which on a look at every cell is faster than the search, which takes minutes for the whole sky."""


def cells(ra: np.ndarray, dec: np.ndarray, nside: int) -> np.ndarray:
    """(N,) int64 cells of (N,) positions, degrees, finite."""
    from astropy_healpix.healpy import ang2pix

    return np.asarray(ang2pix(nside, ra % 360, dec, nest=True, lonlat=True), np.int64)


def cone(ra: float, dec: float, radius: float, nside: int) -> np.ndarray:
    """The cells that a circle touches, rising, perhaps a few beside it.  Degrees."""
    from astropy import units
    from astropy_healpix.core import healpix_cone_search

    if radius > WIDE:
        return _wide(ra, dec, radius, nside)
    where = (ra % 360) * units.deg, dec * units.deg, radius * units.deg
    return np.sort(healpix_cone_search(*where, nside, order="nested"))


def _wide(ra: float, dec: float, radius: float, nside: int) -> np.ndarray:
    """The cells whose middle is no farther than the radius and half a cell's longest diagonal."""
    from astropy_healpix.healpy import nside2resol, pix2ang

    found = np.arange(12 * nside**2)
    to_ra, to_dec = np.radians(pix2ang(nside, found, nest=True, lonlat=True))
    there, turn = np.radians(dec), to_ra - np.radians(ra)
    cosine = np.sin(there) * np.sin(to_dec) + np.cos(there) * np.cos(to_dec) * np.cos(turn)
    return found[cosine >= np.cos(min(np.pi, np.radians(radius) + 1.5 * nside2resol(nside)))]


def ranges(found: np.ndarray) -> np.ndarray:
    """(R, 2) int64 first cell and the one after the last of each run in rising cells."""
    breaks = np.flatnonzero(np.diff(found) > 1)
    first, last = np.append(0, breaks + 1), np.append(breaks, len(found) - 1)
    return np.stack([found[first], found[last] + 1], -1).astype(np.int64) if len(found) else np.empty((0, 2), int)
