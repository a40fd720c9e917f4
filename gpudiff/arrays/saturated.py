"""Saturated stars: found, their cores filled from the wings, the area their wings spoil.

A saturated core that is left empty makes the convolved image too faint for a kernel's width round it; that ring
is where most false detections of difference imaging lie.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from gpudiff.arrays.stamps import positions

WING = 20
"""Least half width of the box a star is fitted in, pixels; else it is the PSF's."""


@dataclass(frozen=True)
class SaturatedStar:
    """One star: centre (y, x), flux from the wings (0 when they could not be fitted), radius of its core."""

    y: float
    x: float
    flux: float
    core: float


def groups(saturated: np.ndarray, link: float = 5.0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(y, x) pixels of each cluster of saturated pixels, pixels closer than `link` being together.

    Touching pixels first, then blobs by way of their rims: all pairs of a bleeding star would be millions.
    """
    y, x = positions(saturated)
    if len(y) == 0:
        return []
    blob, rim = _blobs(saturated, y, x)
    pairs = rim[cKDTree(np.stack([y[rim], x[rim]], 1)).query_pairs(link, output_type="ndarray")]
    first, second = blob[pairs[:, 0]], blob[pairs[:, 1]]
    apart = first != second
    label = _joined(first[apart], second[apart], int(blob.max()) + 1)[blob]
    order = np.argsort(label, kind="stable")
    borders = np.nonzero(np.diff(label[order]))[0] + 1
    return [(y[part], x[part]) for part in np.split(order, borders)]


def _blobs(flags: np.ndarray, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((N,) number of the blob of touching pixels that each belongs to, which of them are on a blob's rim).

    y, x : (N,) the True pixels of `flags`, row by row.  They are few: whole planes are not looked at.
    """
    height, width = flags.shape
    at = y * width + x
    edges, inner = [], np.ones(len(at), bool)
    for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1)):
        j, i = y + dy, x + dx
        near = (j >= 0) & (j < height) & (i >= 0) & (i < width)
        near[near] = flags[j[near], i[near]]
        inner &= near | (dy * dx != 0)
        edges.append((np.flatnonzero(near), np.searchsorted(at, (j * width + i)[near])))
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
    image: np.ndarray,
    unusable: np.ndarray,
    noise2: float,
    gain: float,
    centre: tuple[float, float, float],
    psf: np.ndarray,
) -> tuple[SaturatedStar, np.ndarray | None, tuple[slice, slice]]:
    """(star, its model in a box, the box): PSF flux and position from the pixels outside the core.

    image : (H, W) sky-subtracted; psf : (P, P), unit sum; centre : from `core_of`.  The model is None when
    fewer than 20 usable pixels or a flux that is not positive are left.
    """
    y, x, core = centre
    iy, ix = round(y), round(x)
    wing = max(WING, psf.shape[0] // 2 - 2)
    box = (
        slice(max(0, iy - wing), min(image.shape[0], iy + wing + 1)),
        slice(max(0, ix - wing), min(image.shape[1], ix + wing + 1)),
    )
    data, rows, columns = image[box], *np.mgrid[box]
    usable = ~unusable[box] & (np.hypot(rows - y, columns - x) < max(9.0, 3 + 2.2 * core))
    if usable.sum() < 20:
        return SaturatedStar(y, x, 0.0, core), None, box
    splines = [ndimage.spline_filter(one) for one in (psf, *np.gradient(psf))]
    flux = 0.0
    values = data[usable].astype(np.float64)
    start = y, x
    for _ in range(5):
        shape, gy, gx = (_shifted(one, (rows - y)[usable], (columns - x)[usable]) for one in splines)
        flux = flux or max(float((values * shape).sum() / (shape**2).sum()), 1e-9)
        weight = 1 / (noise2 + np.maximum(values, 0) / gain + (0.03 * flux * shape) ** 2)
        design = np.stack([shape, -flux * gy, -flux * gx], 1)
        matrix = design.T @ (design * weight[:, None])
        matrix[1, 1] += 16.0
        matrix[2, 2] += 16.0
        flux_new, dy, dx = np.linalg.solve(matrix, design.T @ (weight * values))
        flux = float(flux_new)
        y += float(np.clip(dy, -0.5, 0.5))
        x += float(np.clip(dx, -0.5, 0.5))
        if abs(dy) + abs(dx) < 1e-3 or flux <= 0:
            break
    if flux <= 0 or np.hypot(y - start[0], x - start[1]) > core + 2:
        return SaturatedStar(*start, 0.0, core), None, box
    return SaturatedStar(y, x, flux, core), flux * _shifted(splines[0], rows - y, columns - x), box


def _shifted(spline: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Values of an image at positions from its middle; spline : (P, P) its cubic spline's coefficients."""
    half = spline.shape[0] // 2
    return ndimage.map_coordinates(spline, [rows + half, columns + half], mode="constant", prefilter=False)


REACH = 18.0
"""Pixels from a star, or 4.3 FWHM if that is more, to which its wings can spoil the difference."""
GROW = 4
"""A detection this close to the spoilt area is on its rim."""


def spoilt(
    matched: np.ndarray, variance: np.ndarray, stars: list[SaturatedStar], fwhm: float, share: float = 0.3
) -> np.ndarray:
    """(H, W) bool: where `share` of a saturated star's own light would exceed one sigma of the difference."""
    out = np.zeros(matched.shape, bool)
    for star in stars:
        reach = max(REACH, 4.3 * fwhm, 3 * star.core)
        edge = int(reach) + GROW + 2
        iy, ix = round(star.y), round(star.x)
        box = (
            slice(max(0, iy - edge), min(matched.shape[0], iy + edge + 1)),
            slice(max(0, ix - edge), min(matched.shape[1], ix + edge + 1)),
        )
        rows, columns = np.mgrid[box]
        distance = np.hypot(rows - star.y, columns - star.x)
        bright = (share * matched[box] > np.sqrt(variance[box])) & (distance < reach)
        bright |= distance < star.core
        out[box] |= ndimage.binary_dilation(bright, iterations=GROW)
    return out
