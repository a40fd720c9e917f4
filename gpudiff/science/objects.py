"""DIAObjects: position, proper motion and brightness, and how a detection changes them."""

import numpy as np

from gpudiff.arrays.zone_join import ARCSEC, unit_vectors
from gpudiff.model.photometry import Light
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.brightness import first_fluxes, one_more_flux
from gpudiff.science.proper_motion import first_time, one_more_time

Rows = np.ndarray | slice

UNKNOWN_ERROR = 0.3
"""Error per axis, arcsec, of a position whose error is not a positive number."""


def separation(
    source: Table, other: Table, i: Rows = slice(None), j: Rows = slice(None)
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) source minus other, arcsec east and north in the plane that touches the sphere at the source,
    and (N, 2, 2) the turn of the other's east and north into the source's: it matters near a pole only.

    i, j : rows of the source and of the other that make the pairs, all of them unless given
    """
    ra, dec, ra_other, dec_other = source["ra"][i], source["dec"][i], other["ra"][j], other["dec"][j]
    basis = _directions(ra, dec)
    apart = unit_vectors(ra, dec) - unit_vectors(ra_other, dec_other)
    turn = basis @ _directions(ra_other, dec_other).swapaxes(1, 2)
    return (basis @ apart[:, :, None])[:, :, 0] / ARCSEC, turn


def covariance(table: Table, rows: Rows = slice(None)) -> np.ndarray:
    """(N, 2, 2) position covariance, arcsec squared, east then north; always positive definite.

    An error that is not a positive number counts as UNKNOWN_ERROR, a correlation beyond 0.99 as 0.99.
    """
    errors = 3600 * np.stack([table["raErr"][rows], table["decErr"][rows]], -1).astype(float)
    with np.errstate(invalid="ignore"):
        errors = np.where((errors > 0) & np.isfinite(errors), errors, UNKNOWN_ERROR)
    limit = 0.99 * errors[:, 0] * errors[:, 1]
    cross = np.clip(np.nan_to_num(table["ra_dec_Cov"][rows].astype(float) * 3600**2), -limit, limit)
    return np.stack([errors[:, 0] ** 2, cross, cross, errors[:, 1] ** 2], -1).reshape(-1, 2, 2)


def new_objects(sources: Table, now: float, light: Light | None = None) -> Table:
    """A DIAObject for each source, seen once.

    light : of each source; None: nothing is known of it, and the columns of brightness stay empty
    """
    columns = {name: sources[name] for name in ("ra", "dec", "raErr", "decErr", "ra_dec_Cov")}
    seen = sources["midpointMjdTai"]
    return Table(
        DIAOBJECT,
        {
            **columns,
            **first_time(seen),
            **first_fluxes(sources, light),
            "diaObjectId": sources["diaSourceId"],
            "nDiaSources": np.ones(len(sources)),
            "firstDiaSourceMjdTai": seen,
            "lastDiaSourceMjdTai": seen,
            "validityStartMjdTai": np.full(len(sources), now),
        },
    )


def update(objects: Table, sources: Table, now: float, light: Light | None = None) -> Table:
    """The objects after one more detection each: row i saw source i.

    Position and covariance are the mean weighted by inverse covariance (the systematic floor left out: it
    does not average down, so it belongs to the comparison, not to the mean).
    """
    r, turn = separation(objects, sources)
    own, theirs = covariance(objects), turn @ covariance(sources) @ turn.swapaxes(1, 2)
    gain = own @ np.linalg.inv(own + theirs)
    ra, dec = moved(objects, -(gain @ r[:, :, None])[:, :, 0])
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
        **one_more_time(objects, seen, -r, _weight(own), _weight(theirs)),
        **one_more_flux(objects, sources, light),
    )


def rebuild(
    sources: Table, owner: np.ndarray, now: float, light: Light | None = None, before: Table | None = None
) -> Table:
    """The DIAObjects that the detections left to them make: a withdrawn detection no longer counts.

    sources : their detections, in order of time; owner : (N,) int64 diaObjectId of each; light : of each
    before : objects as the snapshot has them; they begin with that, and only later detections are added
    Rising in diaObjectId; an object of which no detection is left is not in the result.
    """
    ids, row = np.unique(owner, return_inverse=True)
    columns = {c.name: np.zeros(len(ids), c.dtype) for c in DIAOBJECT}
    begun = np.zeros(len(ids), bool)
    if before is not None:
        _, at, theirs = np.intersect1d(ids, before["diaObjectId"], return_indices=True)
        begun[at] = True
        for name, column in columns.items():
            column[at] = before[name][theirs]
    rank = _rank_within(owner) + begun[row]
    counted = begun[row] & (sources["midpointMjdTai"] <= columns["lastDiaSourceMjdTai"][row])
    rank[counted] = -1
    first = new_objects(sources, now, light)
    for n in range(rank.max() + 1 if rank.size else 0):
        turn = np.flatnonzero(rank == n)
        at = row[turn]
        objects = Table(DIAOBJECT, {name: column[at] for name, column in columns.items()})
        seen = light.take(turn) if light else None
        again = update(objects, sources.take(turn), now, seen) if n else None
        made = again or first.take(turn).replace(diaObjectId=ids[at])
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


def _weight(covariance: np.ndarray) -> np.ndarray:
    """(N,) one over the mean variance of both axes, arcsec**-2."""
    return 2 / np.trace(covariance, axis1=1, axis2=2)


def _directions(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """(N, 2, 3) unit vectors east and north at each position, degrees."""
    ra, dec = np.radians(ra), np.radians(dec)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], -1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], -1)
    return np.stack([east, north], 1)


def moved(table: Table, step: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ra, dec), degrees, of the positions moved by (N, 2) arcsec east and north."""
    basis = _directions(table["ra"], table["dec"])
    v = unit_vectors(table["ra"], table["dec"]) + ARCSEC * np.einsum("ni,nik->nk", step, basis)
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(
        np.arctan2(v[:, 2], np.hypot(v[:, 0], v[:, 1]))
    )
