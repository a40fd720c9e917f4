"""How significant the light of static stars is, and its shift by a pixel: what a kernel's error is a share of."""

from typing import Any

import numpy as np
import scipy.fft

from gpudiff.arrays.afar import Afar
from gpudiff.arrays.device import Launcher
from gpudiff.arrays.stamps import stamps


def light_round(
    matched: np.ndarray,
    variance: np.ndarray,
    lost: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    psf: np.ndarray,
    reach: int,
) -> tuple[np.ndarray, np.ndarray]:
    """(light, shift) of `significance` in the squares of `reach` round stars, (N, 2 reach + 1, 2 reach + 1).

    matched, variance : (H, W) float32, lost : (H, W) bool: no value there, nor where the variance is not positive;
        all also on a device
    y, x : (N,) int, pixels; psf : as `significance` takes it
    """
    if isinstance(matched, Afar) and isinstance(variance, Afar) and isinstance(lost, Afar):
        planes = matched.there, variance.there, lost.there
        return matched.on_device(lambda launcher, _: light_round_cuda(launcher, *planes, y, x, psf, reach))
    wide = reach + psf.shape[1] // 2
    light, noise, gone = (stamps(plane, y, x, wide) for plane in (matched, variance, lost))
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.where(gone | ~(noise > 0), 0, 1 / noise)
    return significance(np.where(gone, 0, np.nan_to_num(light)), weight, psf)


def significance(matched: np.ndarray, weight: np.ndarray, psf: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(light, shift), both (N, R, R) float32: squared signal to noise of the matched filter, R = S - K + 1.

    light : of the matched template's own light; shift : of what a move by one pixel would leave, both axes added.
    The noise of ZOGY's astrometric term is of this form (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27, eq. 31 to 33).

    matched : (N, S, S) float32 light of the matched template; weight : (N, S, S) one over the variance, 0 for no
    value; psf : (N, K, K), unit sum, K odd
    """
    side, reach = matched.shape[1], psf.shape[1]
    size = scipy.fft.next_fast_len(side, real=True)
    slope_y, slope_x = np.gradient(matched, axis=(1, 2))
    planes = np.stack([matched * weight, slope_y * weight, slope_x * weight, weight], 1).astype(np.float32)
    flipped = psf[:, ::-1, ::-1].astype(np.float32)
    filters = scipy.fft.rfft2(np.stack([flipped, flipped**2], 1), s=(size, size))
    spectra = scipy.fft.rfft2(planes, s=(size, size))
    spectra[:, :3] *= filters[:, :1]
    spectra[:, 3] *= filters[:, 1]
    light, down, across, information = scipy.fft.irfft2(spectra, s=(size, size))[
        :, :, reach - 1 : side, reach - 1 : side
    ].transpose(1, 0, 2, 3)
    return _shares(light, down, across, information)


def _shares(
    light: np.ndarray, down: np.ndarray, across: np.ndarray, information: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(light, shift) of their sums under the PSF."""
    information = np.maximum(information, 1e-6 * max(float(information.max(initial=0)), 1e-30))
    return light**2 / information, (down**2 + across**2) / information


CLIP, CLIPPED = 3.0, 0.9733
"""Sigmas beyond which a star's pixel is not the kernel's error but a change; a unit normal's variance within."""
SURE = 1.5
"""Standard errors that a share must differ from 0 by."""
ROUNDS = 12
"""Fits, each of the weights that the one before tells."""


def learn(score: np.ndarray, light: np.ndarray, shift: np.ndarray) -> tuple[float, float]:
    """(flux, shift) >= 0 for which score^2 is 1 + flux^2 light + shift^2 shift on average, changes clipped.

    score, light, shift : (N, n), n pixels of each of N static stars
    A share that could be chance is 0; its error counts a star's pixels as belonging together (White 1980,
    Econometrica 48, 817, by clusters).
    """
    squared = score.astype(np.float64).ravel() ** 2
    rows = np.stack([light.ravel(), shift.ravel()]).astype(np.float64)
    typical = np.median(squared) / 0.455 - 1  # 0.455: median of chi2 of one degree of freedom
    found, excess = np.maximum(typical, 0) / np.maximum(np.median(rows, 1), 1e-30) / 2, squared / CLIPPED - 1
    design, target, gram = rows, excess, np.eye(2)
    for _ in range(ROUNDS):
        expected = 1 + found @ rows
        weight = (squared < CLIP**2 * expected) / expected
        design, target = rows * weight, excess * weight
        found, gram = _not_negative(design, target)
    error = _errors(design.reshape(2, *score.shape), (target - found @ design).reshape(score.shape), gram)
    flux, move = np.sqrt(np.where(found > SURE * error, found, 0))
    return float(flux), float(move)


def _not_negative(design: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((2,) coefficients, (2, 2) their normal matrix): least squares, none below 0; of (2, n) and (n,)"""
    gram, right = design @ design.T, design @ target
    found = np.linalg.lstsq(gram, right, rcond=None)[0]
    if (found < 0).any():
        alone = np.maximum(right / np.maximum(np.diag(gram), 1e-30), 0)
        kept = np.arange(2) == np.argmax(alone * right)
        found, gram = np.where(kept, alone, 0.0), np.diag(np.diag(gram))
    return found, gram


def _errors(design: np.ndarray, left: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """(2,) of the coefficients, each star's pixels belonging together; of (2, N, n) and what is left, (N, n)"""
    pull = (design * left).sum(2)
    inverse = np.linalg.pinv(gram)
    return np.asarray(np.sqrt(np.diag(inverse @ (pull @ pull.T) @ inverse)))


# ---------------------------------------------------------------- on a GPU
THREADS = 128


def light_round_cuda(
    launcher: Launcher,
    matched: Any,
    variance: Any,
    lost: Any,
    y: np.ndarray,
    x: np.ndarray,
    psf: np.ndarray,
    reach: int,
) -> tuple[np.ndarray, np.ndarray]:
    """`light_round` on a GPU, by float32 sums; on the host.

    matched, variance : (1, H, W) float32, lost : (1, H, W) uint8, on the device
    """
    side, half = 2 * reach + 1, psf.shape[1] // 2
    sums = launcher.empty((4, len(y), side, side), np.float32)
    if len(y):
        places = [launcher.upload(np.asarray(one), np.int32) for one in (y, x)]
        sizes = map(np.int32, (*matched.shape[:0:-1], len(y), reach, half))
        arguments = [matched, variance, lost, *places, launcher.upload(psf, np.float32), sums, *sizes]
        grid = (-(-len(y) * side**2 // THREADS), 1, 1)
        launcher.launch("star_light", "light_round", grid, (THREADS, 1, 1), arguments)
    return _shares(*launcher.download(sums))
