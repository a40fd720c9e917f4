"""Two images' bright stars brought together: do they coincide, under which map."""

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree

from gpudiff.arrays.mesh import robust_sigma
from gpudiff.arrays.passes import CPU, Device
from gpudiff.arrays.polynomial import terms
from gpudiff.arrays.resample import Place
from gpudiff.model.frame import Exposure
from gpudiff.science.stars import centred, prominent, sky_noise, spoilt

MOST = 1000
"""Stars of an image that are looked at, the brightest."""
COMPARED = 200
"""Science stars that are looked for in the template."""
RADIUS = 2.0
"""Pixels within which two stars are one."""
SELDOM = 0.1
"""Stars that chance brings together where three are no chance: that many come once in 5,000 such pairs."""
WIDE = 6.0
"""The same while a map is still rough."""
PATTERN = 60, 120
"""Brightest science and template stars that patterns are made of."""
NEIGHBOURS = 6
"""Nearest neighbours with which a star makes triangles."""
INVARIANT = 0.01
"""How much the ratios of two triangles' sides may differ."""


@dataclass(frozen=True)
class BrightStars:
    """y, x : (N,) centres, pixels, brightest first; width : median Gaussian width of the brighter half, pixels."""

    y: np.ndarray
    x: np.ndarray
    width: float

    def __len__(self) -> int:
        return len(self.y)

    @property
    def nbytes(self) -> int:
        return self.y.nbytes + self.x.nbytes

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(np.stack([self.y, self.x], 1))


def bright_stars(exposure: Exposure, device: Device = CPU, half: int = 0) -> BrightStars:
    """The brightest unmasked stars of an exposure, at most MOST, at least 10 sigma.

    device : where they are looked for; if it holds the image, then as it is
    half : pixels from the middle of the frame within which they are looked for, on the CPU, and then at most
        COMPARED, for a crowd's moments cost more than all else; 0: everywhere
    """
    if half:
        top, left = (max(side // 2 - half, 0) for side in exposure.shape)
        some = exposure.image[top : top + 2 * half, left : left + 2 * half]
        y, x = CPU.peaks(np.ascontiguousarray(some), 10 * sky_noise(exposure))
        y, x = y + top, x + left
    else:
        y, x = device.peaks(exposure.image, 10 * sky_noise(exposure), name=exposure.held)
    clean = ~spoilt(exposure, y, x, 2) & prominent(exposure, y, x, 10)
    y, x = y[clean], x[clean]
    order = np.lexsort((x, y, -exposure.image[y, x]))[: COMPARED if half else MOST]
    y, x = y[order], x[order]
    if len(y) == 0:
        return BrightStars(np.empty(0), np.empty(0), 1.4)
    y, x, (dy, dx, sigma) = centred(exposure, y, x, CPU if half else device)
    width = float(np.median(sigma[: max(len(sigma) // 2, 1)]))
    star = (np.abs(dy) < 1.9) & (np.abs(dx) < 1.9) & (sigma > 0.6 * width)
    return BrightStars((y + dy)[star], (x + dx)[star], width)


@dataclass(frozen=True)
class Fit:
    """How well science stars, mapped into the template, meet its stars.

    mine, its : (count,) rows of the stars that met; inside : science stars that the template should show
    chance : how many would meet if none were the same
    residual : median distance, pixels; NaN for none; order : of the polynomial fitted, -1 for none
    """

    FEWEST: ClassVar[int] = 4

    mine: np.ndarray
    its: np.ndarray
    inside: int
    chance: float
    residual: float
    order: int = -1

    @property
    def count(self) -> int:
        return len(self.mine)

    @property
    def holds(self) -> bool:
        """Whether they are the same stars."""
        return self.count >= max(self.FEWEST, 0.4 * self.inside, 2 * self.chance)

    @property
    def agrees(self) -> bool:
        """The same under a map that was not made from stars: three suffice where chance brings none together."""
        return self.holds or (self.count == 3 and self.count >= 0.4 * self.inside and self.chance < SELDOM)

    @property
    def said(self) -> str:
        said = f"{self.count} of {self.inside} stars coincide"
        return said if self.count == 0 else f"{said} within {self.residual:.2f} px"


def agreement(
    place: Place, mine: BrightStars, its: BrightStars, shape: tuple[int, int], radius: float = RADIUS
) -> Fit:
    """The COMPARED brightest science stars, mapped by `place`, against those of a template of `shape`.

    A template star meets one science star, the nearest: a map that draws all of them together meets none.
    """
    none = np.empty(0, int)
    if min(len(mine), len(its)) == 0:
        return Fit(none, none, 0, 0.0, float("nan"))
    ty, tx = place(mine.y, mine.x)
    height, width = shape
    rows = np.flatnonzero((ty > 4) & (ty < height - 5) & (tx > 4) & (tx < width - 5))[:COMPARED]
    if len(rows) == 0:
        return Fit(none, none, 0, 0.0, float("nan"))
    distance, other = its.tree.query(np.stack([ty[rows], tx[rows]], 1))
    nearest = np.lexsort((distance, other))
    near = np.zeros(len(rows), bool)
    near[nearest[np.unique(other[nearest], return_index=True)[1]]] = True
    near &= distance < radius
    chance = len(rows) * min(1.0, len(its) * np.pi * radius**2 / (height * width))
    residual = float(np.median(distance[near])) if near.any() else float("nan")
    return Fit(rows[near], other[near], len(rows), chance, residual)


# ---------------------------------------------------------------- a better map
SMALL = 0.1
"""Pixels of median residual with which a map is left as it is."""


def refined(
    place: Place,
    fit: Fit,
    mine: BrightStars,
    its: BrightStars,
    shape: tuple[int, int],
    template_shape: tuple[int, int],
) -> tuple[Place, Fit]:
    """(map, fit) with a polynomial correction of the lowest order that helps; those given where none does.

    Order 0 needs 4 stars, 1 needs 8, 2 needs 24, 3 needs 60.
    """
    best = place, fit
    for order, needed in ((0, 4), (1, 8), (2, 24), (3, 60)):
        place, now = best
        if now.count < needed or now.residual < SMALL:
            continue
        tried = corrected(place, now, mine, its, shape, order)
        seen = agreement(tried, mine, its, template_shape)
        if seen.count >= 0.9 * now.count and seen.residual < 0.8 * now.residual:
            best = tried, Fit(seen.mine, seen.its, seen.inside, seen.chance, seen.residual, order)
    return best


def corrected(
    place: Place, fit: Fit, mine: BrightStars, its: BrightStars, shape: tuple[float, float], order: int
) -> Place:
    """The map plus a polynomial of the science position fitted to the stars that met, outliers left out."""
    height, width = shape

    def design(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(terms(2 * x / width - 1, 2 * y / height - 1, order))

    y, x = mine.y[fit.mine], mine.x[fit.mine]
    ty, tx = place(y, x)
    wanted = np.stack([its.y[fit.its] - ty, its.x[fit.its] - tx], 1)
    matrix = design(y, x)
    keep = np.ones(len(y), bool)
    for _ in range(5):
        coefficients = np.linalg.lstsq(matrix[keep], wanted[keep], rcond=None)[0]
        off = np.hypot(*(wanted - matrix @ coefficients).T)
        limit = 3 * max(robust_sigma(np.concatenate([off[keep], -off[keep]])), 0.01)
        if (off < limit).sum() < 2 * matrix.shape[1]:
            break
        keep = off < limit

    def better(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ty, tx = place(y, x)
        shift = (design(y.ravel(), x.ravel()) @ coefficients).reshape(*y.shape, 2)
        return ty + shift[..., 0], tx + shift[..., 1]

    return better


# ---------------------------------------------------------------- a map from nothing
@dataclass(frozen=True)
class Found:
    """A map between the images and how well their stars meet under it."""

    place: Place
    fit: Fit


def similar(mine: BrightStars, its: BrightStars, shape: tuple[int, int]) -> Found | None:
    """The shift, rotation and scale under which most stars meet, or None.

    Triangles of neighbouring bright stars are compared by the ratios of their sides, and every pair that
    agrees is tried (Groth 1986, AJ 91, 1244; Beroiz et al. 2020, Astron. Comput. 32, 100384).
    """
    corners, invariants = _triangles(mine, PATTERN[0])
    other_corners, other_invariants = _triangles(its, PATTERN[1])
    if min(len(corners), len(other_corners)) == 0:
        return None
    pairs = cKDTree(invariants).query_ball_tree(cKDTree(other_invariants), INVARIANT)
    first = np.repeat(np.arange(len(pairs)), [len(p) for p in pairs])
    second = np.array([j for p in pairs for j in p], int)
    if len(second) == 0:
        return None
    here = (mine.x + 1j * mine.y)[corners[first]]
    there = (its.x + 1j * its.y)[other_corners[second]]
    turn = (there[:, 2] - there[:, 0]) / (here[:, 2] - here[:, 0])
    shift = there.mean(1) - turn * here.mean(1)
    rough = np.abs(turn[:, None] * here + shift[:, None] - there).max(1) < 3
    best: Found | None = None
    for number in _most_voted(turn[rough], shift[rough], mine):
        place = _similarity(turn[rough][number], shift[rough][number])
        fit = agreement(place, mine, its, shape, WIDE)
        if best is None or fit.count > best.fit.count:
            best = Found(place, fit)
    return None if best is None else _settled(best, mine, its, shape)


def similar_or_mirrored(mine: BrightStars, its: BrightStars, shape: tuple[int, int]) -> Found | None:
    """As `similar`, of a template that may be mirrored, where no WCS says that it is not."""
    found = similar(mine, its, shape)
    if found is not None:
        return found
    last = shape[1] - 1
    mirrored = similar(mine, BrightStars(its.y, last - its.x, its.width), shape)
    if mirrored is None:
        return None

    def place(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ty, tx = mirrored.place(y, x)
        return ty, last - tx

    return Found(place, mirrored.fit)


def _triangles(stars: BrightStars, most: int) -> tuple[np.ndarray, np.ndarray]:
    """((T, 3) rows of the corners, (T, 2) ratios of the sides); corners opposite to the sides in rising order."""
    count = min(len(stars), most)
    if count < 4:
        return np.empty((0, 3), int), np.empty((0, 2))
    points = (stars.x + 1j * stars.y)[:count]
    flat = np.stack([points.real, points.imag], 1)
    _, near = cKDTree(flat).query(flat, min(NEIGHBOURS, count - 1) + 1)
    sets = {
        tuple(sorted((row[0], row[i], row[j]))) for row in near for i in range(1, len(row)) for j in range(1, i)
    }
    corners = np.array(sorted(sets), int)
    sides = np.abs(points[corners[:, [1, 2, 0]]] - points[corners[:, [2, 0, 1]]])
    order = np.argsort(sides, axis=1)
    corners, sides = np.take_along_axis(corners, order, 1), np.take_along_axis(sides, order, 1)
    return corners, np.stack([sides[:, 1] / sides[:, 2], sides[:, 0] / sides[:, 2]], 1)


def _most_voted(turn: np.ndarray, shift: np.ndarray, mine: BrightStars) -> np.ndarray:
    """Rows of the similarities that the most others resemble: where they put two far corners of the field."""
    if len(turn) == 0:
        return np.empty(0, int)
    far = np.array([0, mine.x.max() + 1j * mine.y.max()])
    seen = turn[:, None] * far + shift[:, None]
    votes = cKDTree(np.concatenate([seen.real, seen.imag], 1)).query_ball_point(
        np.concatenate([seen.real, seen.imag], 1), 20, return_length=True
    )
    return np.argsort(-votes, kind="stable")[:40]


def _similarity(turn: complex, shift: complex) -> Place:
    def place(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there = turn * (x + 1j * y) + shift
        return there.imag, there.real

    return place


def _settled(found: Found, mine: BrightStars, its: BrightStars, shape: tuple[int, int]) -> Found | None:
    """The rough map fitted to its stars, closer and closer; None when they are not the same stars."""
    place, fit = found.place, found.fit
    extent = float(mine.y.max()) + 1, float(mine.x.max()) + 1
    for radius, order in ((WIDE, 1), (WIDE, 1), (WIDE / 2, 2), (RADIUS, 2)):
        if fit.count < 6:
            return None
        place = corrected(place, fit, mine, its, extent, order if fit.count >= 24 else 1)
        fit = agreement(place, mine, its, shape, radius)
    fit = agreement(place, mine, its, shape)
    return Found(place, fit) if fit.holds else None
