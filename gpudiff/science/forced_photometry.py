"""Fluxes at the positions of known objects that a frame shows and nothing was detected at."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.measure import own_photons
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.zone_join import unit_vectors, zone_join
from gpudiff.model.forced import ForcedSquares
from gpudiff.model.frame import Difference
from gpudiff.model.sky import Sky
from gpudiff.model.tables import FORCED_FLUXES, FORCED_SOURCE, Table
from gpudiff.science.cut import cut_difference
from gpudiff.science.forced import MIDDLE, correlated, light_squares, own_variance, science_flux, with_photons

Known = Callable[[float, float, float], Table]
"""(ra, dec, radius), degrees, to a table with diaObjectId, ra, dec: all objects there, perhaps some beside."""


@dataclass(frozen=True)
class Place:
    """Positions between pixels: offsets (N,) from whole ones, and the flux found there."""

    dy: np.ndarray
    dx: np.ndarray
    flux: np.ndarray


def forced_squares(difference: Difference, sources: Table, known: Known, gate: float) -> ForcedSquares | None:
    """What `measured` makes fluxes at known positions from, now or later; None without a WCS, or any such object.

    sources : the frame's DIASources; an object within `gate` arcsec of one was detected and is left out
    """
    frame = difference.science.frame
    sky = Sky(frame.wcs)
    if not sky:
        return None
    objects = known(*_circle(sky, difference.image.shape))
    x, y = sky.to_pixels(objects["ra"], objects["dec"])
    rows = np.flatnonzero(_inside(x, y, difference.image.shape))
    near, _ = zone_join(objects["ra"][rows], objects["dec"][rows], sources["ra"], sources["dec"], gate)
    rows = np.delete(rows, np.unique(near))
    if len(rows) == 0:
        return None
    y, x = y[rows], x[rows]
    row, column = np.rint(y).astype(int), np.rint(x).astype(int)
    cut = cut_difference(difference, row, column)
    return ForcedSquares(
        places=_places(difference, objects.take(rows), row, column),
        dy=y - row,
        dx=x - column,
        data=cut.data,
        weight=cut.weight,
        psf=cut.psf,
        scale=float(difference.quality.score_scale * correlated(difference, difference.psf[MIDDLE])),
        own=own_variance(difference),
        science=light_squares(difference, row, column),
    )


def measured(squares: ForcedSquares, device: Device = CPU) -> Table:
    """The places with their PSF fluxes on difference and science image: Table of FORCED_SOURCE.

    device : where they are measured
    Errors include the object's own photons.  NaN where no pixel of the PSF is usable; `pixelFlags` says what lies
    in its core.
    """
    profile = device.shifted(squares.psf, squares.dy, squares.dx)
    flux, error = device.forced(squares.data, squares.weight, profile)
    photons = flux * squares.own * own_photons(profile, squares.weight)
    place = Place(squares.dy, squares.dx, np.nan_to_num(flux))
    science, science_error = science_flux(squares.science, place, device)
    return squares.places.replace(
        psfFlux=flux,
        psfFluxErr=np.where(
            np.isfinite(flux), np.sqrt(with_photons((squares.scale * error) ** 2, photons)), np.nan
        ),
        scienceFlux=science,
        scienceFluxErr=np.where(np.isfinite(science), science_error, np.nan),
    )


def _places(difference: Difference, objects: Table, row: np.ndarray, column: np.ndarray) -> Table:
    """What is known of the objects before their fluxes are: those are NaN."""
    seen, count = difference.science.frame.observation, len(objects)
    core = stamps(difference.mask, row, column, 1)
    return Table(
        FORCED_SOURCE,
        {
            **{name: np.full(count, np.nan) for name in FORCED_FLUXES},
            "diaObjectId": objects["diaObjectId"],
            "visit": np.full(count, seen.frame.visit),
            "detector": np.full(count, seen.frame.detector),
            "band": np.full(count, seen.band, "U68"),
            "midpointMjdTai": np.full(count, seen.midpoint_mjd_tai),
            "ra": objects["ra"],
            "dec": objects["dec"],
            "pixelFlags": np.bitwise_or.reduce(core, (1, 2)),
        },
    )


def _circle(sky: Sky, shape: tuple[int, ...]) -> tuple[float, float, float]:
    """(ra, dec, radius), degrees, of a circle that holds the image."""
    height, width = shape
    edge_x = np.array([0, width - 1, 0, width - 1, (width - 1) / 2])
    edge_y = np.array([0, 0, height - 1, height - 1, (height - 1) / 2])
    ra, dec = sky.to_sky(edge_x, edge_y)
    vectors = unit_vectors(ra, dec)
    radius = np.degrees(np.arccos(np.clip(vectors[:4] @ vectors[4], -1, 1)).max())
    return float(ra[4]), float(dec[4]), float(radius)


def _inside(x: np.ndarray, y: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    height, width = shape
    with np.errstate(invalid="ignore"):
        return np.asarray((x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1))
