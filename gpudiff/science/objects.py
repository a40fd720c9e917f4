"""DIAObjects: their positions and covariances, and how a detection changes them."""

import numpy as np

from gpudiff.arrays.zone_join import ARCSEC, unit_vectors
from gpudiff.model.tables import DIAOBJECT, Table

UNKNOWN_ERROR = 0.3
"""Error per axis, arcsec, of a position whose error is not a positive number."""


def separation(source: Table, other: Table) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) source minus other, arcsec east and north in the plane that touches the sphere at the source,
    and (N, 2, 2) the turn of the other's east and north into the source's: it matters near a pole only.
    """
    east, north = _directions(source)
    east_other, north_other = _directions(other)
    apart = unit_vectors(source["ra"], source["dec"]) - unit_vectors(other["ra"], other["dec"])
    basis = np.stack([east, north], 1)
    turn = basis @ np.stack([east_other, north_other], 1).swapaxes(1, 2)
    return (basis @ apart[:, :, None])[:, :, 0] / ARCSEC, turn


def covariance(table: Table) -> np.ndarray:
    """(N, 2, 2) position covariance, arcsec squared, east then north; always positive definite.

    An error that is not a positive number counts as UNKNOWN_ERROR, a correlation beyond 0.99 as 0.99.
    """
    errors = 3600 * np.stack([table["raErr"], table["decErr"]], -1).astype(float)
    with np.errstate(invalid="ignore"):
        errors = np.where((errors > 0) & np.isfinite(errors), errors, UNKNOWN_ERROR)
    limit = 0.99 * errors[:, 0] * errors[:, 1]
    cross = np.clip(np.nan_to_num(table["ra_dec_Cov"].astype(float) * 3600**2), -limit, limit)
    return np.stack([errors[:, 0] ** 2, cross, cross, errors[:, 1] ** 2], -1).reshape(-1, 2, 2)


def new_objects(sources: Table, now: float) -> Table:
    """A DIAObject for each source, seen once."""
    columns = {name: sources[name] for name in ("ra", "dec", "raErr", "decErr", "ra_dec_Cov")}
    seen = sources["midpointMjdTai"]
    return Table(
        DIAOBJECT,
        {
            **columns,
            "diaObjectId": sources["diaSourceId"],
            "nDiaSources": np.ones(len(sources)),
            "firstDiaSourceMjdTai": seen,
            "lastDiaSourceMjdTai": seen,
            "validityStartMjdTai": np.full(len(sources), now),
        },
    )


def update(objects: Table, sources: Table, now: float) -> Table:
    """The objects after one more detection each: row i saw source i.

    Position and covariance are the mean weighted by inverse covariance (the systematic floor left out: it
    does not average down, so it belongs to the comparison, not to the mean).
    """
    r, turn = separation(objects, sources)
    own, theirs = covariance(objects), turn @ covariance(sources) @ turn.swapaxes(1, 2)
    gain = own @ np.linalg.inv(own + theirs)
    ra, dec = _moved(objects, -(gain @ r[:, :, None])[:, :, 0])
    mean = own - gain @ own
    seen = sources["midpointMjdTai"]
    return objects.replace(
        ra=ra,
        dec=dec,
        raErr=np.sqrt(mean[:, 0, 0]) / 3600,
        decErr=np.sqrt(mean[:, 1, 1]) / 3600,
        ra_dec_Cov=mean[:, 0, 1] / 3600**2,
        nDiaSources=objects["nDiaSources"] + 1,
        firstDiaSourceMjdTai=np.fmin(objects["firstDiaSourceMjdTai"], seen),
        lastDiaSourceMjdTai=np.fmax(objects["lastDiaSourceMjdTai"], seen),
        validityStartMjdTai=np.full(len(objects), now),
    )


def rebuild(sources: Table, owner: np.ndarray, now: float) -> Table:
    """The DIAObjects that the detections left to them make: a withdrawn detection no longer counts.

    sources : their detections, in order of time; owner : (N,) int64 diaObjectId of each.
    Rising in diaObjectId; an object of which no detection is left is not in the result.
    """
    ids, row = np.unique(owner, return_inverse=True)
    rank = _rank_within(owner)
    first = new_objects(sources, now)
    columns = {name: np.empty(len(ids), column.dtype) for name, column in first.columns.items()}
    for n in range(rank.max() + 1 if rank.size else 0):
        turn = np.flatnonzero(rank == n)
        at = row[turn]
        objects = Table(DIAOBJECT, {name: column[at] for name, column in columns.items()})
        made = update(objects, sources.take(turn), now) if n else first.take(turn).replace(diaObjectId=ids[at])
        for name, column in made.columns.items():
            columns[name][at] = column
    return Table(DIAOBJECT, columns)


def _rank_within(owner: np.ndarray) -> np.ndarray:
    """(N,) how many earlier entries are equal to each entry."""
    order = np.argsort(owner, kind="stable")
    start = np.flatnonzero(np.diff(owner[order], prepend=-1))
    rank = np.empty(len(owner), int)
    rank[order] = np.arange(len(owner)) - np.repeat(start, np.diff(start, append=len(owner)))
    return rank


def _directions(table: Table) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) unit vectors east and north at each position."""
    ra, dec = np.radians(table["ra"]), np.radians(table["dec"])
    zero = np.zeros_like(ra)
    east = np.stack([-np.sin(ra), np.cos(ra), zero], -1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], -1)
    return east, north


def _moved(table: Table, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec), degrees, of the positions moved by (N, 2) arcsec east and north."""
    east, north = _directions(table)
    v = unit_vectors(table["ra"], table["dec"]) + ARCSEC * (step[:, :1] * east + step[:, 1:] * north)
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(
        np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))
    )
