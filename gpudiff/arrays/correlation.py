"""Correlation of the noise between neighbouring pixels."""

import numpy as np


def autocorrelation(values: np.ndarray, use: np.ndarray, reach: int) -> tuple[np.ndarray, int]:
    """((2 reach + 1)^2 float64 mean products of pixels that far apart, number of pixels used).

    The middle is the variance; not normalised.  values : (H, W), zero mean; use : (H, W) bool, the others are
    left out of both factors.
    """
    clean = np.where(use, values, 0).astype(np.float32)
    weight = use.astype(np.float32)
    out = np.zeros((2 * reach + 1, 2 * reach + 1))
    height, width = values.shape
    for j in range(reach + 1):
        for i in range(-reach if j else 0, reach + 1):
            first = (slice(0, height - j), slice(max(0, -i), width - max(0, i)))
            second = (slice(j, height), slice(max(0, i), width + min(0, i)))
            pairs = float(np.vdot(weight[first], weight[second]))
            mean = float(np.vdot(clean[first], clean[second])) / max(pairs, 1.0)
            out[reach + j, reach + i] = out[reach - j, reach - i] = mean
    return out, int(use.sum())


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
