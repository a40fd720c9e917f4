"""Squares cut out of a difference round its detections, with their weights and the PSF there."""

import numpy as np

from gpudiff.arrays.measure import Cut, psf_stamps, weighed
from gpudiff.model.frame import Difference
from gpudiff.model.kernel import PsfModel
from gpudiff.science.psf import given

BOX = 7, 14
"""Least and greatest half width of the stamps sources are measured on, pixels; between them 1.6 FWHM."""


def cut_difference(difference: Difference, y: np.ndarray, x: np.ndarray) -> Cut:
    """The difference at (y, x), (N,) int pixels."""
    return _cut(difference, difference.image, difference.psf, y, x)


def cut_matched(difference: Difference, y: np.ndarray, x: np.ndarray) -> Cut:
    """The matched template there; its weight is the difference's: no pixel of it is trusted more."""
    return _cut(difference, difference.matched, difference.matched_psf, y, x)


def _cut(difference: Difference, image: np.ndarray, thirds: np.ndarray, y: np.ndarray, x: np.ndarray) -> Cut:
    data, weight = weighed(image, difference.variance, y, x, box_of(difference))
    return Cut(data, weight, profiles(difference, thirds, y, x))


def box_of(difference: Difference) -> int:
    """Half width of the stamps sources are measured on, pixels."""
    return int(np.clip(np.ceil(1.6 * difference.quality.science_fwhm), *BOX))


def profiles(difference: Difference, thirds: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, S, S) PSF at each position from one of the difference's (9, P, P) stacks, cut to the stamps.

    What the stack has lost of its light beyond its edge stays lost: fluxes are those of the whole PSF.
    """
    model: PsfModel = given(thirds, difference.science.shape, difference.science.name)
    share = np.float32(thirds.sum((1, 2), dtype=float).mean())
    full = psf_stamps(model.coefficients, model.order, model.shape, y, x) * share
    edge = full.shape[1] // 2 - box_of(difference)
    return full[:, edge:-edge, edge:-edge] if edge > 0 else full
