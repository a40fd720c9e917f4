"""Dipoles: two PSFs of opposite sign, fitted to stamps of the difference and of what was subtracted.

Two lobes closer than a PSF's width show on a difference only as flux times separation; the template, which has
the negative lobe alone, tells the two apart (Reiss & Lupton 2016, LSST DMTN-007).
"""

from dataclasses import dataclass

import numpy as np

from gpudiff.arrays.measure import Cut
from gpudiff.arrays.shifter import Shifter

ROUNDS = 25
"""Steps of a fit, at most."""
NEAR = 1e-6
"""chi2 that a step may still promise where a fit ends: a thousandth of an error."""
NEAREST = 0.02
"""Pixels: two lobes are not put closer, where flux and separation cannot be told apart."""
DIAGONAL = np.arange(6)
POSITIVE, NEGATIVE, SUBTRACTED = (0.5, 1.0), (-0.5, -1.0), (-0.5, 1.0)
"""Lobes: how far from the middle to the positive lobe, and the sign of their light on the image; the last is the
negative lobe's star on the template."""


@dataclass(frozen=True)
class DipoleFit:
    """parameters : (N, 6) mean flux of the lobes, flux of the positive less that of the negative one, y and x of
        their middle from the stamp's centre, y and x from the negative to the positive lobe
    covariance : (N, 6, 6); chi2 : (N,) of the difference alone, on `pixels` (N,) of it
    """

    parameters: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    pixels: np.ndarray

    def with_rows(self, rows: np.ndarray, other: "DipoleFit", where: np.ndarray) -> "DipoleFit":
        """The same with those `rows` (M,) that `where` (M,) says taken from `other`, which has M dipoles."""
        out = [value.copy() for value in (self.parameters, self.covariance, self.chi2, self.pixels)]
        for value, new in zip(out, (other.parameters, other.covariance, other.chi2, other.pixels), strict=True):
            value[rows[where]] = new[where]
        return DipoleFit(*out)

    @property
    def lobes(self) -> np.ndarray:
        """(N, 2) flux of the positive and of the negative lobe; both above 0 for a dipole."""
        mean, more = self.parameters[:, 0], self.parameters[:, 1]
        return np.stack([mean + more / 2, mean - more / 2], 1)

    @property
    def length(self) -> np.ndarray:
        """(N,) pixels between the lobes."""
        return np.hypot(self.parameters[:, 4], self.parameters[:, 5])

    @property
    def angle(self) -> np.ndarray:
        """(N,) degrees from +x to +y, from the negative to the positive lobe, (-180, 180]."""
        return np.degrees(np.arctan2(self.parameters[:, 4], self.parameters[:, 5]))


def fit_dipoles(difference: Cut, start: np.ndarray, template: Cut | None = None) -> DipoleFit:
    """The dipole nearest to each start that explains a stamp best, by damped least squares (Marquardt 1963).

    start : (N, 6) as `DipoleFit.parameters`
    template : what was subtracted there, with its own PSF; it too is then explained, by the negative lobe
    """
    images: list[Image] = [(difference, Shifter(difference.psf), np.array([POSITIVE, NEGATIVE]).T)]
    if template is not None:
        images.append((template, Shifter(template.psf), np.array([SUBTRACTED]).T))
    at, left, damping = start.astype(float), np.arange(len(start)), np.full(len(start), 1e-2)
    chi2, matrix, vector = _equations(images, at, left)
    reach = difference.psf.shape[1] // 2
    for _ in range(ROUNDS):
        if len(left) == 0:
            break
        step = _step(matrix[left], vector[left], damping[left])
        promised, to = (step * vector[left]).sum(1), at[left] + step
        new_chi2, new_matrix, new_vector = _equations(images, to, left)
        better = (new_chi2.sum(1) < chi2[left].sum(1)) & _possible(to, reach)
        kept = left[better]
        at[kept], chi2[kept], matrix[kept], vector[kept] = (
            new[better] for new in (to, new_chi2, new_matrix, new_vector)
        )
        damping[left] *= np.where(better, 1 / 8, 6)
        left = left[promised > NEAR]
    covariance = np.linalg.inv(_raised(matrix, np.zeros(len(matrix))))
    return DipoleFit(_upright(at), covariance, chi2[:, 0], (difference.weight > 0).sum((1, 2)))


def _step(matrix: np.ndarray, vector: np.ndarray, damping: np.ndarray) -> np.ndarray:
    return np.linalg.solve(_raised(matrix, damping), vector[..., None])[..., 0]


def _raised(matrix: np.ndarray, damping: np.ndarray) -> np.ndarray:
    """The matrices with so much (N,) more of their diagonals, and what keeps one invertible whose parameters have
    units as far apart as flux and pixels."""
    own = matrix.diagonal(axis1=1, axis2=2)
    out = matrix.copy()
    out[:, DIAGONAL, DIAGONAL] = own + (1e-10 * own + 1e-12) + own * damping[:, None]
    return out


def _possible(at: np.ndarray, reach: int) -> np.ndarray:
    """(N,) bool: both lobes on the stamp, and not on one another."""
    far = np.abs(at[:, 2:4]) + np.abs(at[:, 4:]) / 2
    return (far < reach).all(1) & (np.hypot(at[:, 4], at[:, 5]) > NEAREST)


def _upright(at: np.ndarray) -> np.ndarray:
    """The same dipoles with a positive mean flux: what is a negative mean is a dipole the other way round."""
    turned = at * np.array([-1, 1, 1, 1, -1, -1])
    return np.where(at[:, :1] < 0, turned, at)


def _equations(
    images: "list[Image]", at: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(chi2 (N, images), J^T W J (N, 6, 6), J^T W residual (N, 6)) of `rows` (N,) of the images together."""
    sums = []
    for cut, shifter, lobes in images:
        drawn = _drawn(shifter, at, rows, *lobes)
        residual = drawn[:, 6]
        np.subtract(cut.data[rows].reshape(residual.shape), residual, out=residual)
        weight = cut.weight[rows].reshape(residual.shape)[:, None]
        sums.append((drawn * weight) @ drawn.transpose(0, 2, 1))
    both = sum(sums[1:], sums[0])
    return np.stack([one[:, 6, 6] for one in sums], 1), both[:, :6, :6], both[:, :6, 6]


def _drawn(shifter: Shifter, at: np.ndarray, rows: np.ndarray, half: np.ndarray, sign: np.ndarray) -> np.ndarray:
    """(N, 7, S * S) an image's slopes along the six parameters, and the image, drawn from lobes.

    half, sign : (L,) as in POSITIVE
    """
    flux = sign * (at[:, :1] + half * at[:, 1:2])
    places = at[:, None, 2:4] + half[:, None] * at[:, None, 4:]
    lobes = shifter.at(places.reshape(-1, 2), np.repeat(rows, len(half)))
    share = np.zeros((len(at), 7, len(half), 3))
    share[:, 0, :, 0], share[:, 1, :, 0], share[:, 6, :, 0] = sign, half * sign, flux
    share[:, 2, :, 1] = share[:, 3, :, 2] = flux
    share[:, 4, :, 1] = share[:, 5, :, 2] = half * flux
    return share.reshape(len(at), 7, 3 * len(half)) @ lobes.reshape(len(at), 3 * len(half), lobes.shape[-1] ** 2)


Image = tuple[Cut, Shifter, np.ndarray]
"""What is explained: pixels, their PSF, and (2, L) as in POSITIVE of the lobes that the image has."""
