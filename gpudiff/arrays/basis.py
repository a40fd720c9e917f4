"""The Alard-Lupton basis: Gaussians times Hermite polynomials, made orthogonal, convolved with stamps.

Alard & Lupton 1998 (ApJ 503, 325); the widths follow the two PSFs (Israel, Hessman & Schuh 2007, AN 328, 16).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft

from gpudiff.arrays.device import Launcher

FULL = ((0.5, 4), (1.0, 4), (2.0, 2), (4.0, 0))
"""(width over the matching width, degree) of each Gaussian: 37 functions."""
LARGE = ((0.7, 4), (1.5, 2), (3.5, 0))
MEDIUM = ((0.7, 2), (1.4, 2), (3.0, 0))
SMALL = ((0.8, 2), (1.6, 0))
ALL = (SMALL, MEDIUM, LARGE, FULL)
NEW = 1e-9
"""Share of a function that has to be new for `turned` to keep it: less is rounding."""


def count(gaussians: tuple[tuple[float, int], ...]) -> int:
    """Functions in a basis."""
    return sum((degree + 1) * (degree + 2) // 2 for _, degree in gaussians)


@dataclass(frozen=True)
class Basis:
    """M orthogonal functions, and the separable factors that they are mixed from.

    functions : (M, K, K) float64; mix : (M, B) from `orthogonal`; separable : from `factors`
    shell : (M,) int, the same for functions of one Gaussian and degree, whatever way they point; 0 for the first
    """

    functions: np.ndarray
    mix: np.ndarray
    separable: list[np.ndarray]
    shell: np.ndarray

    def convolve(self, stamps: np.ndarray, size: int) -> np.ndarray:
        """(N, M + 1, size * size) float32: every stamp convolved with every function, and a last one of ones."""
        mixed = convolve_stamps(stamps, self.separable, self.mix, size)
        return np.concatenate([mixed, np.ones_like(mixed[:, :1])], 1)


def basis(gaussians: tuple[tuple[float, int], ...], width: float, half: int, psf: np.ndarray) -> Basis:
    """The basis of some Gaussians for a kernel of half width `half`; psf : of the image that will be convolved.

    Low degrees come first, and of one degree the Gaussian nearest to the matching width: a kernel is mostly that.
    """
    separable = factors(gaussians, width, half)
    raw = images(separable)
    of = [(degree, abs(np.log(factor)), factor) for factor, most in gaussians for degree in _degrees(most)]
    order = sorted(range(len(raw)), key=of.__getitem__)
    ordered = orthogonal(raw[order], psf)
    last = ordered.shape[1] - 1 - np.argmax(ordered[:, ::-1] != 0, 1)  # the raw function that is new in each
    mix = np.empty_like(ordered)
    mix[:, order] = ordered
    shells = {one: n for n, one in enumerate(sorted(set(of)))}
    return Basis(np.tensordot(mix, raw, 1), mix, separable, np.array([shells[of[order[n]]] for n in last]))


def _degrees(most: int) -> list[int]:
    """Degree of each function of one Gaussian, as `images` orders them."""
    return [i + j for j in range(most + 1) for i in range(most + 1 - j)]


def factors(gaussians: tuple[tuple[float, int], ...], width: float, half: int) -> list[np.ndarray]:
    """For each Gaussian a (degree + 1, 2 half + 1) array: He_n(t) exp(-t^2 / 2), t = pixel / (factor width)."""
    pixel = np.arange(-half, half + 1)
    out = []
    for factor, degree in gaussians:
        t = pixel / max(factor * width, 0.45)
        hermite = [np.polynomial.hermite_e.hermeval(t, np.eye(degree + 1)[n]) for n in range(degree + 1)]
        out.append(np.array(hermite) * np.exp(-0.5 * t * t))
    return out


def images(basis: list[np.ndarray]) -> np.ndarray:
    """(B, K, K) the basis functions f_i(x) f_j(y), i + j <= degree, j outer."""
    return np.array([np.outer(f[j], f[i]) for f in basis for j in range(len(f)) for i in range(len(f) - j)])


def orthogonal(functions: np.ndarray, psf: np.ndarray) -> np.ndarray:
    """(M, B) map from the raw functions to M that are orthogonal once convolved with the PSF.

    Each is a raw function and what takes those before it out.  The first has unit sum, all others sum 0, so that
    the photometric scale is one coefficient, and these have, convolved, unit norm.  What leaves less than 3 % of
    a function is dropped: no star constrains it, and float32 stamps do not resolve it.

    functions : (B, K, K), the first with a sum; psf : (P, P) of the image that will be convolved
    """
    seen = _seen(functions, psf).reshape(len(functions), -1)
    share = functions.sum((1, 2)) / functions[0].sum()
    flat = seen[1:] - share[1:, None] * seen[0]
    norm = np.maximum(np.linalg.norm(flat, axis=1), 1e-9 * np.linalg.norm(seen[0]))
    flat /= norm[:, None]
    kept = np.flatnonzero(np.abs(np.diag(np.linalg.qr(flat.T, "r"))) > 0.03)
    made = np.linalg.inv(np.linalg.qr(flat[kept].T, "r")).T / norm[kept]
    mix = np.zeros((len(kept) + 1, len(functions)))
    mix[0, 0] = 1 / functions[0].sum()
    mix[1:, 1 + kept] = np.tril(made)
    mix[1:, 0] = -mix[1:] @ share
    return mix


def _seen(functions: np.ndarray, psf: np.ndarray) -> np.ndarray:
    """(B, S, S) each function convolved with the PSF, in the first corner of a square that holds it."""
    size = scipy.fft.next_fast_len(functions.shape[1] + psf.shape[0] - 1, real=True)
    spectrum = np.fft.rfft2(psf, (size, size))
    return np.fft.irfft2(np.fft.rfft2(functions, (size, size)) * spectrum, (size, size))


def turned(basis: Basis, psf: np.ndarray, kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(turn (M, M), shell (M,)): an orthogonal map from the functions to others, few of which vary over a field.

    Over a field stars move (alignment), grow (seeing, focus) and are sheared (optics, guiding).  So behind the
    first function, which stays, come the two that move a star, the one that makes it grow and the two that shear
    it, a shell each; then what is left of every shell.

    psf : of the image that will be convolved; kernel : (M,) coefficients of the kernel that makes that star
    """
    seen = _seen(basis.functions, psf)
    changes = motions(np.tensordot(kernel, seen, 1), (len(basis.functions[0]) + len(psf)) / 2 - 1)
    wanted = [np.tensordot(one, seen[1:], ((1, 2), (1, 2))) for one in changes]
    wanted += [np.eye(len(kernel) - 1)[basis.shell[1:] == n] for n in np.unique(basis.shell[1:])]
    turn, shell = np.eye(len(kernel)), [0]
    for n, rows in enumerate(wanted, 1):
        done = turn[1 : len(shell), 1:]
        rows = rows / (np.linalg.norm(rows, axis=1)[:, None] + 1e-30)
        for _ in range(2):  # the second time for what rounding left
            rows = rows - rows @ done.T @ done
        _, size, axes = np.linalg.svd(rows, full_matrices=False)
        new = axes[size > NEW]
        turn[len(shell) : len(shell) + len(new), 1:] = new
        shell += [n] * len(new)
    return turn, np.array(shell)


def motions(star: np.ndarray, middle: float) -> list[np.ndarray]:
    """[(2, S, S), (1, S, S), (2, S, S)]: what moving, growing and shearing change of a star.

    star : (S, S), 0 along its rim; middle : its centre, pixels, along both axes
    """
    size = len(star)
    wave = np.fft.fftfreq(size)
    frequency = np.where(wave == -0.5, 0, 2j * np.pi * wave)  # the derivative of the last wave is not told
    spectrum = np.fft.fft2(star)
    dy, dx = (np.fft.ifft2(spectrum * one).real for one in (frequency[:, None], frequency))
    y, x = np.arange(size)[:, None] - middle, np.arange(size) - middle
    return [np.array(one) for one in ([dy, dx], [2 * star + y * dy + x * dx], [x * dx - y * dy, x * dy + y * dx])]


def convolve_stamps(stamps: np.ndarray, basis: list[np.ndarray], mix: np.ndarray, size: int) -> np.ndarray:
    """(N, M, size * size) float32: every stamp convolved with every mixed basis function, by matrix products.

    stamps : (N, S, S) with S = size + K - 1; basis : from `factors`; mix : (M, B) from `orthogonal`
    """
    count, side = stamps.shape[:2]
    across = np.concatenate([_toeplitz(row, side, size) for f in basis for row in f], 1)
    rows = (stamps.reshape(-1, side) @ across).reshape(count, side, -1, size)
    rows = np.ascontiguousarray(rows.transpose(0, 2, 3, 1))  # stamp, x function, x, y
    out, first = [], 0
    for f in basis:
        for j in range(len(f)):
            part = rows[:, first : first + len(f) - j].reshape(-1, side) @ _toeplitz(f[j], side, size)
            out.append(part.reshape(count, len(f) - j, size * size))
        first += len(f)
    mixed = mix.astype(np.float32) @ np.concatenate(out, 1)
    mixed = mixed.reshape(count, -1, size, size).transpose(0, 1, 3, 2)
    return np.ascontiguousarray(mixed).reshape(count, -1, size * size)


def _toeplitz(function: np.ndarray, inputs: int, outputs: int) -> np.ndarray:
    matrix = np.zeros((inputs, outputs), np.float32)
    for column in range(outputs):
        matrix[column : column + len(function), column] = function[::-1]
    return matrix


# ---------------------------------------------------------------- on a GPU
BLOCK = 256
"""Threads of a block in the CUDA bodies."""


def convolve_cuda(launcher: Launcher, basis: Basis, stamps: np.ndarray, size: int) -> Any:
    """`Basis.convolve` on a GPU: (N, M + 1, size * size) float32 on the device.  stamps : (N, S, S)"""
    count, side = stamps.shape[:2]
    filters = np.concatenate([rows[:, ::-1] for rows in basis.separable])
    functions, mixed = basis.mix.shape[1], len(basis.mix)
    separable = launcher.empty((count, functions, size, size), np.float32)
    arrays = [launcher.upload(stamps, np.float32), launcher.upload(filters, np.float32)]
    arrays += [launcher.upload(_table(basis.separable), np.int32), separable]
    sizes = map(np.int32, (side, size, filters.shape[1], functions))
    grid, shared = (len(filters), count, 1), 4 * side * size
    launcher.launch("basis", "separate", grid, (BLOCK, 1, 1), [*arrays, *sizes], shared)
    values = launcher.empty((count, mixed + 1, size * size), np.float32)
    arrays = [separable, launcher.upload(basis.mix, np.float64), values]
    sizes = map(np.int32, (functions, mixed, size * size))
    launcher.launch("basis", "mix", (-(-size * size // BLOCK), count, 1), (BLOCK, 1, 1), [*arrays, *sizes])
    return values


def _table(separable: list[np.ndarray]) -> np.ndarray:
    """(A, 4) of each filter: its place in its Gaussian, that one's first filter, filters and first function."""
    rows, filters, functions = [], 0, 0
    for each in separable:
        number = len(each)
        rows += [(i, filters, number, functions) for i in range(number)]
        filters, functions = filters + number, functions + number * (number + 1) // 2
    return np.array(rows)
