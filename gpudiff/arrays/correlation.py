"""Correlation of the noise between neighbouring pixels."""

from functools import lru_cache

import numpy as np
import scipy.fft


def autocorrelation(values: np.ndarray, use: np.ndarray, reach: int) -> tuple[np.ndarray, int]:
    """((2 reach + 1)^2 float64 mean products of pixels that far apart, number of pixels used).

    The middle is the variance; not normalised.  values : (H, W), zero mean; use : (H, W) bool, the others are
    left out of both factors.  Good to 1e-6 of the variance.
    """
    size = [
        scipy.fft.next_fast_len(side + reach, real=True) for side in values.shape
    ]  # room for the pairs' distance
    spectra = scipy.fft.rfft2(np.array([np.where(use, values, 0), use], np.float32), s=size)
    power = (spectra.real**2 + spectra.imag**2).astype(float)
    down, back = _waves(size[0], size[1], reach)
    real, imaginary = np.split(down @ power, 2, 1)
    products, pairs = real @ back.real - imaginary @ back.imag  # a few distances of all: no transform
    return products / np.maximum(np.rint(pairs), 1), int(use.sum())


@lru_cache(8)
def _waves(rows: int, columns: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """What takes the power (rows, columns // 2 + 1) of a half spectrum to the middle of its transform: cosines and
    then sines down its columns, (2 D, rows), and (columns // 2 + 1, D) complex along what rows are left; D = 2
    reach + 1.  To be read only."""
    index = np.arange(-reach, reach + 1)[:, None]
    down, across = (np.exp(2j * np.pi / side * index * np.arange(side)) for side in (rows, columns))
    twice = np.full(columns // 2 + 1, 2.0)  # of a column and of the one that is not there
    twice[0], twice[columns // 2 :] = 1, 2 - (columns % 2 == 0)
    return np.concatenate([down.real, down.imag]), (twice * across[:, : len(twice)]).T / (rows * columns)


def of_kernel(kernel: np.ndarray, reach: int) -> np.ndarray:
    """(2 reach + 1)^2 autocorrelation of white unit noise after convolution with a kernel."""
    size = kernel.shape[0] + max(kernel.shape[0], reach)
    power = np.abs(np.fft.rfft2(kernel, (size, size))) ** 2
    full = np.fft.irfft2(power, (size, size))
    index = np.arange(-reach, reach + 1)
    return full[np.ix_(index, index)]


def passed(kernel: np.ndarray, profile: np.ndarray) -> float:
    """Variance of a sum weighted by `profile` (P, P) over white unit noise convolved with `kernel` (K, K)."""
    size = kernel.shape[0] + profile.shape[0]
    power = [np.abs(np.fft.fft2(image, (size, size))) ** 2 for image in (kernel, profile)]
    return float((power[0] * power[1]).sum()) / size**2
