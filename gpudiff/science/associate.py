"""What each DIASource of a frame is: a Solar System object, one of the DIAObjects, unknown and moving, or new.

By likelihood, one to one.  For a source and a predicted or known object r apart (arcsec, in the tangent plane),
with C the sum of both position covariances and of a systematic floor, the cost of calling them one is

    0.5 r^T C^-1 r + 0.5 ln |C| - ln c

and the price of calling the source new is -ln(2 pi rho), rho the local density of unrelated objects: both are
negative log likelihoods of finding an object just there, with the same constant left out (the likelihood
ratio of Sutherland & Saunders 1992, MNRAS 259, 413).  In a crowded field a source may so be new although an
object lies within the gate.

c is how much more often a frame detects such an object than one of an earlier night's: a predicted mover bright
enough to be listed is nearly always there, what was seen an hour ago mostly, and of the many objects that
were ever seen only some vary just now.  So Solar System objects come before tonight's, and tonight's before
the rest, where positions do not say otherwise; a static object that fits clearly better wins over a mover.

A source with a trail is in motion, unless it lies on a static object so well that a false trail is likelier.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gpudiff.arrays.zone_join import ARCSEC, unit_vectors, zone_join
from gpudiff.model.association import KNOWN, MOVING, NEW, TONIGHT, Association
from gpudiff.model.photometry import Light
from gpudiff.model.tables import DIAOBJECT, PREDICTED, Table
from gpudiff.science.objects import covariance, moved, new_objects, separation, update
from gpudiff.science.proper_motion import shift
from gpudiff.science.tracklets import LinkLimits, link

FLOOR = 0.05
"""Systematic error of positions, arcsec, per axis: what stays when the statistical errors go to zero."""
NEIGHBOURHOOD = 30.0
"""Radius within which unrelated objects are counted, arcsec; no gate reaches farther."""
FORBIDDEN = 1e6
"""Cost of a pair that is none, in an assignment."""
NIGHT = 0.6
"""Days: an object first seen within so many is one of tonight's."""
MORE_OFTEN = {"mover": 4.0, "tonight": 2.0}
"""c: how much more often they are detected in a frame than objects of earlier nights; chosen, not measured."""
FALSE_TRAIL = 1e-3
"""Share of point sources that are measured as trails; chosen, not measured."""
_PLACE = ("ra", "dec", "raErr", "decErr", "ra_dec_Cov")


def looks(frames: Sequence[Table], radius: float) -> Iterator[slice]:
    """Which frames of a visit, in their order, are one look at the sky, and may be associated as one: no two of
    their detections may be one and the same, that is, are nearer to each other than twice the gate.

    frames : Tables of DIASOURCE; radius : the gate, arcsec
    """
    frame = np.repeat(np.arange(len(frames)), [len(one) for one in frames])
    ra, dec = (np.concatenate([one[name] for one in frames]) for name in ("ra", "dec"))
    i, j = zone_join(ra, dec, ra, dec, 2 * radius)
    earlier, later = frame[i], frame[j]
    shared = np.full(len(frames), -1)  # the last frame before each with which it may have a detection in common
    np.maximum.at(shared, later, np.where(earlier < later, earlier, -1))
    start = 0
    for n, other in enumerate(shared.tolist()):
        if other >= start:
            yield slice(start, n)
            start = n
    yield slice(start, len(frames))


def associate(
    sources: Table,
    known: Table,
    radius: float,
    now: float,
    *,
    movers: Table | None = None,
    loose: Table | None = None,
    light: Light | None = None,
    limits: LinkLimits | None = None,
) -> Association:
    """What each DIASource is.

    sources : Table of model.tables.DIASOURCE, of one look; flagged ones count as any
    known : Table of model.tables.DIAOBJECT, all objects that may lie within NEIGHBOURHOOD of a source, of the
        snapshot and of tonight
    radius : the gate, arcsec; beyond it a source is new.  A mover's gate is longer by half its motion during the
        exposure, and wider by three sigma of its prediction, up to NEIGHBOURHOOD
    now : MJD TAI, the time of the decision
    movers : Table of PREDICTED, at the middle of the exposure; loose : Table of LOOSE, what tracklets may begin
        with; light : of the sources; limits : of tracklets

    A known object becomes the weighted mean of its position and the source's.  A new one has the source's
    position and its diaSourceId as diaObjectId.  A source without a sky position is new.  What moves joins no
    DIAObject and makes none.
    """
    movers = Table.empty(PREDICTED) if movers is None else movers
    time = (
        float(np.nanmedian(sources["midpointMjdTai"])) if np.isfinite(sources["midpointMjdTai"]).any() else np.nan
    )
    tonight = known["firstDiaSourceMjdTai"] > time - NIGHT
    i, j, cost, price = candidates(sources, known, radius, time, tonight)
    i_mover, j_mover, mover_cost = mover_candidates(sources, movers, radius)
    i, j = np.concatenate([i, i_mover]), np.concatenate([j, j_mover + len(known)])
    cost = np.concatenate([cost, mover_cost])
    chosen = assign(i, j, cost, price)
    runner_up, probability = judge(i, j, cost, price, chosen, len(known))
    joined = (chosen >= 0) & (chosen < len(known))
    predicted = chosen >= len(known)
    kind = np.full(len(sources), NEW, np.int8)
    kind[joined] = np.where(tonight[chosen[joined]], TONIGHT, KNOWN)
    kind[predicted | ((chosen < 0) & (sources["trailLength"] > 0))] = MOVING
    ss_object_ids = np.zeros(len(sources), np.int64)
    ss_object_ids[predicted] = movers["ssObjectId"][chosen[predicted] - len(known)]
    tracklets = np.zeros(len(sources), np.int64)
    if loose is not None:
        settled = np.isin(loose["diaSourceId"], known["diaObjectId"][chosen[joined]])  # an object's first is loose
        loose = loose.take(~settled)
        free = np.flatnonzero((chosen < 0) & np.isfinite(sources["ra"]))
        tracklets[free] = link(sources.take(free), loose, limits or LinkLimits())
        kind[tracklets > 0] = MOVING
    objects = _objects(sources, known, chosen, joined, now, light)
    objects["diaObjectId"][kind == MOVING] = 0
    ids = np.append(known["diaObjectId"], 0)
    return Association(kind, ss_object_ids, tracklets, ids[runner_up], probability, objects)


def _objects(
    sources: Table, known: Table, chosen: np.ndarray, joined: np.ndarray, now: float, light: Light | None
) -> Table:
    """Each source's object: the one it joined, after it, or one of its own."""
    rows = np.flatnonzero(joined)
    objects = new_objects(sources, now, light)
    theirs = light.take(rows) if light else None
    updated = update(known.take(chosen[rows]), sources.take(rows), now, theirs)
    columns = {name: column.copy() for name, column in objects.columns.items()}
    for name, column in updated.columns.items():
        columns[name][rows] = column
    return Table(DIAOBJECT, columns)


def candidates(
    sources: Table, known: Table, radius: float, time: float, tonight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair within the gate, and what it costs to pair nobody.

    Source index, object index and cost of each pair: three (P,), rising in source; and (N,) the price of
    calling each source new, -ln(2 pi density), density in objects per square arcsec.  The density is (1 + n)
    over the area of the neighbourhood, n the objects in it but beyond the gate: those within may be the source
    itself.  The 1 keeps an empty sky finite.
    time : MJD TAI, to which significant proper motions carry the objects; tonight : (M,) bool, which are tonight's
    """
    known = _places(known, time)
    i, j = zone_join(sources["ra"], sources["dec"], known["ra"], known["dec"], NEIGHBOURHOOD)
    neighbours = np.bincount(i, minlength=len(sources))
    close = _chord(sources, known, i, j) <= 1.0001 * radius  # in a crowded field few are: the exact gate is below
    i, j = i[close], j[close]
    r, turn = separation(sources, known, i, j)
    gated = np.hypot(r[:, 0], r[:, 1]) <= radius
    i, j, r, turn = i[gated], j[gated], r[gated], turn[gated]
    unrelated = neighbours - np.bincount(i, minlength=len(sources))
    price = -np.log(2 * (1 + unrelated) / NEIGHBOURHOOD**2)
    theirs = turn @ covariance(known, j) @ turn.swapaxes(1, 2)
    cost = _cost(r, covariance(sources, i) + theirs)
    cost -= np.where(tonight[j], np.log(MORE_OFTEN["tonight"]), 0)
    cost -= np.where(sources["trailLength"][i] > 0, np.log(FALSE_TRAIL), 0)
    return i, j, cost, price


def mover_candidates(sources: Table, movers: Table, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of a source and a predicted object within its gate: source index, mover index and cost.

    The gate is a rectangle with the motion for its axis.  A source may be a part of the trail, so along the
    motion the prediction's variance is larger by the square of the trail's length over 12.
    """
    if not len(movers):
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0)
    i, j = zone_join(sources["ra"], sources["dec"], movers["ra"], movers["dec"], NEIGHBOURHOOD)
    r, _ = separation(sources, movers, i, j)
    trail = np.stack([movers["eastTrail"], movers["northTrail"]], -1).astype(float)[j]
    length = np.hypot(*trail.T)
    along = trail / np.where(length > 0, length, 1)[:, None]
    reach = radius + 3 * movers["error"][j]
    forward = np.abs(np.sum(r * along, -1))
    aside = np.sqrt(np.maximum(np.sum(r * r, -1) - forward**2, 0))
    inside = (aside <= reach) & (forward <= reach + 0.5 * length)
    i, j, r, trail = i[inside], j[inside], r[inside], trail[inside]
    error = movers["error"][j].astype(float)[:, None, None] ** 2 * np.eye(2)
    total = covariance(sources, i) + error + trail[:, :, None] * trail[:, None, :] / 12
    return i, j, _cost(r, total) - np.log(MORE_OFTEN["mover"])


def _chord(sources: Table, known: Table, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(P,) arcsec between pairs along the chord: no longer than the arc, no shorter than in the tangent plane."""
    ours, theirs = (unit_vectors(one["ra"], one["dec"]) for one in (sources, known))
    return np.linalg.norm(ours[i] - theirs[j], axis=1) / ARCSEC


def _cost(r: np.ndarray, total: np.ndarray) -> np.ndarray:
    """0.5 r^T C^-1 r + 0.5 ln |C|, C the (P, 2, 2) covariances and the floor."""
    a, b, d = total[:, 0, 0] + FLOOR**2, total[:, 0, 1], total[:, 1, 1] + FLOOR**2
    determinant = a * d - b * b
    chi2 = (d * r[:, 0] ** 2 - 2 * b * r[:, 0] * r[:, 1] + a * r[:, 1] ** 2) / determinant
    return 0.5 * chi2 + 0.5 * np.log(determinant)


def _places(known: Table, time: float) -> Table:
    """The objects' positions and their errors alone, at a time."""
    step = shift(known, time)
    rows = np.flatnonzero(step.any(1))
    place = Table(tuple(c for c in DIAOBJECT if c.name in _PLACE), {name: known[name] for name in _PLACE})
    if rows.size == 0:
        return place
    ra, dec = place["ra"].copy(), place["dec"].copy()
    ra[rows], dec[rows] = moved(place.take(rows), step[rows])
    return place.replace(ra=ra, dec=dec)


def assign(i: np.ndarray, j: np.ndarray, cost: np.ndarray, price: np.ndarray) -> np.ndarray:
    """(N,) index of the object of each source, -1 for new: the one-to-one choice with the least total cost.

    i, j, cost : (P,) the candidate pairs; price : (N,) of new.
    Sources that compete for no object are settled at once; the small groups that do, by the assignment
    problem (Crouse 2016, IEEE TAES 52, 1679) with one column of "new" for each source.
    """
    chosen = np.full(len(price), -1)
    good = cost < price[i]
    i, j, cost = i[good], j[good], cost[good]
    if i.size == 0:
        return chosen
    objects, column = np.unique(j, return_inverse=True)
    size = len(price) + len(objects)
    graph = coo_array((np.ones(i.size), (i, column + len(price))), shape=(size, size))
    _, group = connected_components(graph, directed=False)
    pair_group = group[i]
    alone = np.bincount(pair_group, minlength=size)[pair_group] == 1
    chosen[i[alone]] = j[alone]
    rest = np.flatnonzero(~alone)
    rest = rest[np.argsort(pair_group[rest], kind="stable")]
    for pairs in np.split(rest, np.flatnonzero(np.diff(pair_group[rest])) + 1):
        _assign_group(chosen, i[pairs], j[pairs], cost[pairs], price)
    return chosen


def _assign_group(chosen: np.ndarray, i: np.ndarray, j: np.ndarray, cost: np.ndarray, price: np.ndarray) -> None:
    sources, row = np.unique(i, return_inverse=True)
    objects, column = np.unique(j, return_inverse=True)
    matrix = np.full((len(sources), len(objects) + len(sources)), FORBIDDEN)
    matrix[row, column] = cost
    own = np.arange(len(sources))
    matrix[own, len(objects) + own] = price[sources]
    for r, c in zip(*linear_sum_assignment(matrix), strict=True):
        chosen[sources[r]] = objects[c] if c < len(objects) else -1


def judge(
    i: np.ndarray, j: np.ndarray, cost: np.ndarray, price: np.ndarray, chosen: np.ndarray, objects: int
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the best DIAObject that was not chosen (-1: none), and the probability of what was; both (N,).

    objects : candidates from this index on are movers, which are nobody's runner-up but share the probability

    The probability is the choice's likelihood over the sum of those of all candidates and of "new".
    """
    runner_up = np.full(len(price), -1)
    other = j != chosen[i]
    fixed = other & (j < objects)
    by_cost = np.flatnonzero(fixed)[np.argsort(-cost[fixed], kind="stable")]
    runner_up[i[by_cost]] = j[by_cost]
    picked = price.copy()
    picked[i[~other]] = cost[~other]
    odds = np.exp(np.minimum(picked - price, 700.0))
    np.add.at(odds, i, np.exp(np.minimum(picked[i] - cost, 700.0)))
    return runner_up, 1 / odds
