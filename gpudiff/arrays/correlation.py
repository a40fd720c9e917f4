"""Correlation of the noise between neighbouring pixels."""

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
    index = np.arange(-reach, reach + 1)[:, None]
    down, across = (np.exp(2j * np.pi / side * index * np.arange(side)) for side in size)
    twice = np.full(power.shape[2], 2.0)  # of a column and of the one that is not there
    twice[0], twice[size[1] // 2 :] = 1, 2 - (size[1] % 2 == 0)
    back = (twice * across[:, : len(twice)]).T / (size[0] * size[1])
    products, pairs = (down @ power @ back).real  # a few distances of all: no transform
    return products / np.maximum(np.rint(pairs), 1), int(use.sum())


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
