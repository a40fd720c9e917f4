"""Rays of light of bright stars: how much of a detection lies on a line through a star."""

from itertools import chain

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

STEPS = 64
"""Samples on either side of a star."""
INNER, OUTER = (0.7, -5.0), (1.5, 15.0)
"""Distance from the star over the detection's, and pixels more: where a ray is as bright as at the detection."""
CLEAR = 4.0
"""Pixels outside a star's core where its light is looked at."""
CORRELATED = 1.3
"""FWHM along a line that one independent value of the score takes up."""
FEWEST = 12
"""Samples with a value below which nothing is said."""
CLIP = 5.0
"""Score beyond which there may be a source beside another star."""
MEDIAN = 1.25
"""Error of a median over that of a mean."""


def ray_light(
    score: np.ndarray,
    detection: tuple[np.ndarray, np.ndarray],
    star: tuple[np.ndarray, np.ndarray],
    core: np.ndarray,
    near: np.ndarray,
    fwhm: float,
) -> tuple[np.ndarray, np.ndarray]:
    """((P,) light, (P,) its error) on the lines through pairs of a detection and a star, in units of the score.

    The median before and beyond the detection, and at the same distances on the star's other side: the spikes of
    a mirror's supports come in opposite pairs.  Positive where it has the detection's sign; 0 where too little of
    the line has a value.
    score : (H, W) float32, unit normal where nothing is, 0 where there is no value and beyond the image
    detection, star : (y, x), (P,) float; core : (P,) px from the star that are its own
    near : (P,) px from the detection that are its own; fwhm : px
    """
    dy, dx = detection[0] - star[0], detection[1] - star[1]
    away = np.maximum(np.hypot(dy, dx), 1e-6)
    low = np.maximum(INNER[0] * away + INNER[1], core + CLEAR)
    high = np.maximum(OUTER[0] * away + OUTER[1], low + 1)
    radius = low[:, None] + (high - low)[:, None] * np.linspace(0, 1, STEPS)
    signed = np.concatenate([radius, -radius], 1) / away[:, None]
    values = nearest(score, star[0][:, None] + dy[:, None] * signed, star[1][:, None] + dx[:, None] * signed)
    here = np.rint(detection[0]).astype(int), np.rint(detection[1]).astype(int)
    values *= np.sign(nearest(score, *here))[:, None]
    values[:, :STEPS][np.abs(radius - away[:, None]) < near[:, None]] = 0
    count, light = median_of_known(values)
    spacing = (high - low) / (STEPS - 1)
    error = MEDIAN / np.sqrt(np.maximum(count * spacing / (CORRELATED * fwhm), 1))
    return np.where(count >= FEWEST, light, 0.0), error


def unrest_beside_others(
    score: np.ndarray,
    offset: tuple[np.ndarray, np.ndarray],
    own: np.ndarray,
    stars: tuple[np.ndarray, np.ndarray],
    brightness: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """((P,) variance, (P,) its error) of the score beyond noise at a place beside a star, by the other stars.

    The mean square of the score at that place beside them, and at the opposite one, less 1, in proportion to the
    square of their brightness, of those at least half as bright as the star; 0 where they are fewer than FEWEST.
    score : as in `ray_light`, what is beyond CLIP counts as that; offset : (y, x), (P,) px from the star
    own : (P,) int, the star; stars : (y, x), (S,) float; brightness : (S,) > 0
    """
    sides = np.array([1, -1])[:, None]
    values = nearest(score, *(of + sides * at[:, None, None] for of, at in zip(stars, offset, strict=True)))
    known = (values != 0) & (brightness >= 0.5 * brightness[own][:, None])[:, None]
    known[np.arange(len(own)), :, own] = False
    count = np.maximum(known.sum((1, 2)), 1)
    excess = (np.minimum(values**2, CLIP**2) - 1) * ((brightness[own][:, None] / brightness) ** 2)[:, None]
    mean = (known * excess).sum((1, 2)) / count
    scatter = (known * (excess - mean[:, None, None]) ** 2).sum((1, 2)) / count
    return np.where(known.sum((1, 2)) >= FEWEST, mean, 0.0), np.sqrt(scatter / count)


def nearest(image: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The values of an (H, W) image at the nearest pixels, 0 beyond it; a new array of the shape of y, x."""
    places = [at if at.dtype.kind == "i" else np.rint(at).astype(int) for at in (y, x)]
    row, column = (np.clip(at, 0, side - 1) for at, side in zip(places, image.shape, strict=True))
    return np.where((row == places[0]) & (column == places[1]), image[row, column], 0)


def median_of_known(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((N,) number, (N,) median) of each row's values that are not 0; the median of none is 0."""
    known = values != 0
    count = known.sum(1)
    ordered = np.sort(np.where(known, values, np.inf), axis=1)
    rows = np.arange(len(values))
    middle = 0.5 * (ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, count // 2 * (count > 0)])
    return count, np.where(count > 0, middle, 0.0)


def blobs(y: np.ndarray, x: np.ndarray, width: int) -> np.ndarray:
    """(N,) int: the number of the blob of touching pixels (by their sides) that each of some pixels belongs to.

    y, x : (N,) int, in the image's order; width : of the image.  For few pixels of a large image.
    """
    place = y.astype(np.int64) * (width + 1) + x  # a column more, so that a row's ends do not touch the next row
    pairs = []
    for step in (1, width + 1):
        at = np.searchsorted(place, place + step)
        found = np.nonzero(place[np.minimum(at, len(place) - 1)] == place + step)[0]
        pairs.append(np.stack([found, at[found]]))
    first, second = np.concatenate(pairs, 1)
    graph = coo_array((np.ones(len(first)), (first, second)), (len(place), len(place)))
    return connected_components(graph, directed=False)[1]


def pairs_near(
    places: tuple[np.ndarray, np.ndarray], stars: tuple[np.ndarray, np.ndarray], reach: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """(P,) indices of places and (P,) of stars: all pairs at most `reach` px apart, star by star.

    places : (y, x), (N,) px; stars : (y, x), (S,) px; reach : one, or (S,) of each star
    """
    if len(places[0]) == 0 or len(stars[0]) == 0:
        return np.empty(0, int), np.empty(0, int)
    near = cKDTree(np.stack(places, 1)).query_ball_point(np.stack(stars, 1), reach)
    n = np.fromiter(chain.from_iterable(near), int)
    return n, np.repeat(np.arange(len(near)), np.fromiter(map(len, near), int))
