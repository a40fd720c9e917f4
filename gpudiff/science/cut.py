"""Squares cut out of a difference round its detections, with their weights and the PSF there."""

import numpy as np

from gpudiff.arrays.measure import Cut, psf_stamps
from gpudiff.arrays.stamps import stamps
from gpudiff.model.frame import Difference
from gpudiff.model.kernel import PsfModel
from gpudiff.science.psf import given

BOX = 7, 14
"""Least and greatest half width of the stamps sources are measured on, pixels; between them 1.6 FWHM."""


def cut_difference(difference: Difference, y: np.ndarray, x: np.ndarray) -> Cut:
    """The difference at (y, x), whole pixels."""
    return _cut(difference, difference.image, difference.psf, y, x)


def cut_matched(difference: Difference, y: np.ndarray, x: np.ndarray) -> Cut:
    """The matched template at (y, x); its weight is the difference's: no pixel of it is trusted more."""
    return _cut(difference, difference.matched, difference.matched_psf, y, x)


def _cut(difference: Difference, image: np.ndarray, thirds: np.ndarray, y: np.ndarray, x: np.ndarray) -> Cut:
    box = box_of(difference)
    data = stamps(image, y, x, box)
    variance = stamps(difference.variance, y, x, box)
    known = np.isfinite(data) & (variance > 0) & inside(image.shape, y, x, box)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(known, 1 / variance, 0).astype(np.float32)
    return Cut(np.where(known, data, 0), weight, profiles(difference, thirds, y, x))


def box_of(difference: Difference) -> int:
    """Half width of the stamps sources are measured on, pixels."""
    return int(np.clip(np.ceil(1.6 * difference.quality.science_fwhm), *BOX))


def inside(shape: tuple[int, ...], y: np.ndarray, x: np.ndarray, box: int) -> np.ndarray:
    """(N, S, S) bool: stamp pixels that lie on the image."""
    offset = np.arange(-box, box + 1)
    rows, columns = y[:, None] + offset, x[:, None] + offset
    rows_in, columns_in = (rows >= 0) & (rows < shape[0]), (columns >= 0) & (columns < shape[1])
    return rows_in[:, :, None] & columns_in[:, None, :]


def profiles(difference: Difference, thirds: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(N, S, S) PSF at each position from one of the difference's (9, P, P) stacks, cut to the stamps.

    What the stack has lost of its light beyond its edge stays lost: fluxes are those of the whole PSF.
    """
    model: PsfModel = given(thirds, difference.science.shape, difference.science.name)
    share = np.float32(thirds.sum((1, 2), dtype=float).mean())
    full = psf_stamps(model.coefficients, model.order, model.shape, y, x) * share
    edge = full.shape[1] // 2 - box_of(difference)
    return full[:, edge:-edge, edge:-edge] if edge > 0 else full
