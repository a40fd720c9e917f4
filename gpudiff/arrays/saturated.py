"""Saturated stars: found, their cores filled from the wings, the area their wings spoil.

A saturated core that is left empty makes the convolved image too faint for a kernel's width round it; that ring
is where most false detections of difference imaging lie.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from gpudiff.arrays.stamps import distinct, inside, square, stamps

WING = 20
"""Least half width of the box a star is fitted in, pixels; else it is the PSF's."""


@dataclass(frozen=True)
class SaturatedStar:
    """One star: centre (y, x), flux from the wings (0 when they could not be fitted), radius of its core."""

    y: float
    x: float
    flux: float
    core: float


def groups(y: np.ndarray, x: np.ndarray, link: float = 5.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(y, x) pixels of each cluster of saturated pixels, pixels closer than `link` being together.

    Touching pixels first, then blobs by way of their rims: all pairs of a bleeding star would be millions.
    y, x : (N,) the saturated pixels, row by row
    """
    if len(y) == 0:
        return []
    blob, rim = _blobs(y, x)
    pairs = rim[cKDTree(np.stack([y[rim], x[rim]], 1)).query_pairs(link, output_type="ndarray")]
    first, second = blob[pairs[:, 0]], blob[pairs[:, 1]]
    apart = first != second
    label = _joined(first[apart], second[apart], int(blob.max()) + 1)[blob]
    order = np.argsort(label, kind="stable")
    borders = np.nonzero(np.diff(label[order]))[0] + 1
    return [(y[part], x[part]) for part in np.split(order, borders)]


def _blobs(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((N,) number of the blob of touching pixels that each belongs to, which of them are on a blob's rim)."""
    width = x.max() + 2
    at = y * width + x
    edges, inner = [], np.ones(len(at), bool)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1)):
        j, i = y + dy, x + dx
        place = np.minimum(np.searchsorted(at, j * width + i), len(at) - 1)
        near = (y[place] == j) & (x[place] == i)
        inner &= near | (dy * dx != 0)
        edges.append((np.flatnonzero(near), place[near]))
    first, second = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    return _joined(first, second, len(at)), np.flatnonzero(~inner)


def _joined(first: np.ndarray, second: np.ndarray, count: int) -> np.ndarray:
    """(count,) number of the group that each belongs to, when first[n] and second[n] are of one; in order."""
    graph = coo_array((np.ones(len(first), bool), (first, second)), (count, count))
    return connected_components(graph, directed=False)[1]


def core_of(y: np.ndarray, x: np.ndarray) -> tuple[float, float, float]:
    """(y, x, radius) of the widest blob of a cluster: the star, whichever way its charge bled."""
    top, left = y.min(), x.min()
    box = np.zeros((y.max() - top + 3, x.max() - left + 3), bool)
    box[y - top + 1, x - left + 1] = True
    depth = ndimage.distance_transform_edt(box)
    deepest = depth.max()
    rows, columns = np.nonzero(depth >= 0.7 * deepest)
    return float(rows.mean() + top - 1), float(columns.mean() + left - 1), float(deepest)


def fit_wings(
    data: np.ndarray,
    usable: np.ndarray,
    noise2: np.ndarray,
    gain: float,
    start: np.ndarray,
    core: np.ndarray,
    psf: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(flux (N,), place (N, 2) y, x from the stamp's centre, models (N, S, S)): PSF flux and position of each star
    from the pixels outside its core; flux 0, where it started, where fewer than 20 usable pixels or a flux that is
    not positive are left.

    data : (N, S, S) sky-subtracted; usable : (N, S, S) bool; noise2 : (N,) variance of a sky pixel
    start : (N, 2), core : (N,), both from `core_of`; psf : (N, P, P), unit sum
    """
    half = data.shape[1] // 2
    reach = np.maximum(9.0, 3 + 2.2 * core)
    rim = max(0, half + 10 - psf.shape[1] // 2)
    spline = ndimage.spline_filter1d(ndimage.spline_filter1d(psf, axis=1), axis=2)
    spline = np.pad(spline, ((0, 0), (1, 1), (1, 1)), "reflect")  # as the filter continues it
    spline = np.pad(spline, ((0, 0), (rim, rim), (rim, rim)))
    flux, place = np.zeros(len(data)), start.astype(float)
    size = np.ceil(np.log2(reach))
    for one in np.unique(size):
        n = np.flatnonzero(size == one)
        cut = min(half, int(np.ceil(reach[n].max())))
        inner = slice(half - cut, half + cut + 1)
        axis = np.arange(-cut, cut + 1)
        distance = np.hypot(axis[:, None] - start[n, 0, None, None], axis - start[n, 1, None, None])
        near = usable[n, inner, inner] & (distance < reach[n, None, None])
        flux[n], place[n] = _fitted(data[n, inner, inner], near, noise2[n], gain, start[n], spline[n])
    found = (flux > 0) & (np.hypot(*(place - start).T) <= core + 2)
    flux, place = np.where(found, flux, 0), np.where(found[:, None], place, start)
    return flux, place, flux[:, None, None] * _moved(spline, half, place)


def _fitted(
    data: np.ndarray, near: np.ndarray, noise2: np.ndarray, gain: float, start: np.ndarray, spline: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(flux, place) of `fit_wings` from the pixels that are `near`, by Gauss-Newton; flux 0 with too few."""
    half, near = data.shape[1] // 2, near.reshape(len(data), -1)
    values = np.where(near, data.reshape(len(data), -1), 0).astype(float)
    flux, place = np.zeros(len(data)), start.astype(float)
    moving = near.sum(1) >= 20
    for _ in range(5):
        n = np.flatnonzero(moving)
        if len(n) == 0:
            break
        design = _sloped(_moved(spline[n], half + 1, place[n])).reshape(len(n), 3, -1) * near[n, None]
        shape, light = design[:, 0], values[n]
        first = np.maximum((light * shape).sum(1) / np.maximum((shape**2).sum(1), 1e-30), 1e-9)
        now = np.where(flux[n] != 0, flux[n], first)[:, None]
        weight = 1 / (noise2[n, None] + np.maximum(light, 0) / gain + (0.03 * now * shape) ** 2)
        design[:, 1:] *= -now[..., None]
        weighted = design * weight[:, None]
        matrix = weighted @ design.transpose(0, 2, 1) + np.diag([0.0, 16.0, 16.0])
        flux[n], *step = np.linalg.solve(matrix, weighted @ light[..., None])[..., 0].T
        place[n] += np.clip(np.transpose(step), -0.5, 0.5)
        moving[n] = (np.abs(step).sum(0) >= 1e-3) & (flux[n] > 0)
    return flux, place


def _moved(spline: np.ndarray, half: int, place: np.ndarray) -> np.ndarray:
    """(N, S, S) image, S = 2 half + 1, when its middle is at (N, 2) y, x `place`.

    spline : (N, Q, Q) cubic spline coefficients, 0 in a wide rim
    """
    side = 2 * half + 1
    at = spline.shape[1] // 2 - half - place
    first = np.floor(at).astype(int) - 1
    squares = sliding_window_view(spline, (side + 3, side + 3), (1, 2))
    window = squares[np.arange(len(spline)), *first.T]
    past = (at - first - 1)[..., None]
    left = 1 - past
    parts = [left**3, 4 - 6 * past**2 + 3 * past**3, 4 - 6 * left**2 + 3 * left**3, past**3]
    down, across = (np.concatenate(parts, -1)[:, n, :, None, None] / 6 for n in range(2))
    rows = sum(down[:, k] * window[:, k : k + side] for k in range(4))
    return sum(across[:, k] * rows[..., k : k + side] for k in range(4))


def _sloped(image: np.ndarray) -> np.ndarray:
    """(N, 3, S, S) of (N, S + 2, S + 2): the image without its rim, its slopes along y and x."""
    inner = slice(1, -1)
    slope_y = (image[:, 2:, inner] - image[:, :-2, inner]) / 2
    return np.stack([image[:, inner, inner], slope_y, (image[:, inner, 2:] - image[:, inner, :-2]) / 2], 1)


REACH = 18.0
"""Pixels from a star, or 4.3 FWHM if that is more, to which its wings can spoil the difference."""
GROW = 4
"""A detection this close to the spoilt area is on its rim."""


def spoilt(
    matched: np.ndarray, variance: np.ndarray, stars: list[SaturatedStar], fwhm: float, share: float = 0.3
) -> np.ndarray:
    """(N,) numbers of pixels within GROW of where `share` of a saturated star's own light would exceed one sigma.

    matched, variance : (H, W) float32, of the difference, also on a device.  Stars of one reach go together.
    """
    width = matched.shape[1]
    place, core = np.array([(s.y, s.x) for s in stars]).reshape(-1, 2), np.array([s.core for s in stars])
    reach = np.maximum(max(REACH, 4.3 * fwhm), 3 * core)
    edges, found = reach.astype(int) + GROW + 2, [np.empty(0, int)]
    for edge in np.unique(edges).tolist():
        n = np.flatnonzero(edges == edge)
        y, x = np.rint(place[n]).astype(int).T
        rows, columns = square(y, x, np.arange(-edge, edge + 1))
        distance = np.hypot(rows - place[n, 0, None, None], columns - place[n, 1, None, None])
        bright = share * stamps(matched, y, x, edge) > np.sqrt(stamps(variance, y, x, edge))
        bright = (bright & (distance < reach[n, None, None])) | (distance < core[n, None, None])
        there = inside(matched.shape, y, x, edge)
        star, row, column = np.nonzero(_within(bright & there, GROW) & there)
        found.append((y[star] + row - edge) * width + x[star] + column - edge)
    return distinct(np.concatenate(found))


def _within(flags: np.ndarray, steps: int) -> np.ndarray:
    """(N, S, S) bool: pixels at most so many steps, along the axes, from one that is True."""
    for _ in range(steps):
        wider = flags.copy()
        for to, at in ((slice(1, None), slice(-1)), (slice(-1), slice(1, None))):
            wider[:, to] |= flags[:, at]
            wider[:, :, to] |= flags[:, :, at]
        flags = wider
    return flags
