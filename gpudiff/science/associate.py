"""Known or new: DIASources of a frame against the DIAObjects known so far, by likelihood, one to one.

For a source and an object r apart (arcsec, in the tangent plane), with C the sum of both position covariances
and of a systematic floor, the cost of calling them one is

    0.5 r^T C^-1 r + 0.5 ln |C|

and the price of calling the source new is -ln(2 pi rho), rho the local density of unrelated objects: both are
negative log likelihoods of finding an object just there, with the same constant left out (the likelihood
ratio of Sutherland & Saunders 1992, MNRAS 259, 413).  In a crowded field a source may so be new although an
object lies within the gate.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gpudiff.arrays.zone_join import zone_join
from gpudiff.model.association import KNOWN, NEW, Association
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.objects import covariance, new_objects, separation, update

FLOOR = 0.05
"""Systematic error of positions, arcsec, per axis: what stays when the statistical errors go to zero."""
NEIGHBOURHOOD = 30.0
"""Radius within which unrelated objects are counted, arcsec."""
FORBIDDEN = 1e6
"""Cost of a pair that is none, in an assignment."""


def associate(sources: Table, known: Table, radius: float, now: float) -> Association:
    """What each DIASource is: one of the `known` objects, or a new one.

    sources : Table of model.tables.DIASOURCE, of one frame; flagged ones count as any
    known : Table of model.tables.DIAOBJECT, all objects that may lie within NEIGHBOURHOOD of a source
    radius : the gate, arcsec; beyond it a source is new
    now : MJD TAI, the time of the decision

    A known object becomes the weighted mean of its position and the source's.  A new one has the source's
    position and its diaSourceId as diaObjectId.  A source without a sky position is new.
    """
    i, j, cost, price = candidates(sources, known, radius)
    chosen = assign(i, j, cost, price)
    runner_up, probability = judge(i, j, cost, price, chosen)
    objects = new_objects(sources, now)
    joined = np.flatnonzero(chosen >= 0)
    updated = update(known.take(chosen[joined]), sources.take(joined), now)
    columns = {name: column.copy() for name, column in objects.columns.items()}
    for name, column in updated.columns.items():
        columns[name][joined] = column
    ids = np.append(known["diaObjectId"], 0)
    kind = np.where(chosen >= 0, KNOWN, NEW).astype(np.int8)
    none = np.zeros(len(sources), np.int64)
    return Association(kind, none, none, ids[runner_up], probability, Table(DIAOBJECT, columns))


def candidates(
    sources: Table, known: Table, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Every pair within the gate, and what it costs to pair nobody.

    Source index, object index and cost of each pair: three (P,), rising in source; and (N,) the price of
    calling each source new, -ln(2 pi density), density in objects per square arcsec.  The density is (1 + n)
    over the area of the neighbourhood, n the objects in it but beyond the gate: those within may be the source
    itself.  The 1 keeps an empty sky finite.
    """
    i, j = zone_join(sources["ra"], sources["dec"], known["ra"], known["dec"], max(NEIGHBOURHOOD, radius))
    r, turn = separation(sources.take(i), known.take(j))
    gated = np.hypot(r[:, 0], r[:, 1]) <= radius
    unrelated = np.bincount(i[~gated], minlength=len(sources))
    price = -np.log(2 * (1 + unrelated) / NEIGHBOURHOOD**2)
    i, j, r, turn = i[gated], j[gated], r[gated], turn[gated]
    theirs = turn @ covariance(known.take(j)) @ turn.swapaxes(1, 2)
    total = covariance(sources.take(i)) + theirs + FLOOR**2 * np.eye(2)
    chi2 = np.einsum("ni,ni->n", r, np.linalg.solve(total, r[:, :, None])[:, :, 0])
    return i, j, 0.5 * chi2 + 0.5 * np.log(np.linalg.det(total)), price


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
    i: np.ndarray, j: np.ndarray, cost: np.ndarray, price: np.ndarray, chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Index of the best candidate that was not chosen (-1: none), and the probability of what was; both (N,).

    The probability is the choice's likelihood over the sum of those of all candidates and of "new".
    """
    runner_up = np.full(len(price), -1)
    other = j != chosen[i]
    by_cost = np.flatnonzero(other)[np.argsort(-cost[other], kind="stable")]
    runner_up[i[by_cost]] = j[by_cost]
    picked = price.copy()
    picked[i[~other]] = cost[~other]
    odds = np.exp(np.minimum(picked - price, 700.0))
    np.add.at(odds, i, np.exp(np.minimum(picked[i] - cost, 700.0)))
    return runner_up, 1 / odds
