"""Polynomials over the field: u = 2x/W - 1 and v = 2y/H - 1, terms u^i v^j with i + j <= order, j outer."""

import numpy as np


def powers(order: int) -> list[tuple[int, int]]:
    """(i, j) of each term u^i v^j, in the order every coefficient array of gpudiff uses."""
    return [(i, j) for j in range(order + 1) for i in range(order + 1 - j)]


def field(position: np.ndarray | float, pixels: int) -> np.ndarray:
    """Field coordinate in [-1, 1) of a pixel position along an axis of `pixels`."""
    return 2.0 * np.asarray(position, np.float64) / pixels - 1.0


def terms(u: np.ndarray | float, v: np.ndarray | float, order: int) -> np.ndarray:
    """(..., T) float64 values of the terms at field coordinates u, v (`field`), of shapes that broadcast."""
    if np.ndim(u) == np.ndim(v) == 0:  # one position, as of every tile: without NumPy's overhead
        return np.array([float(u) ** i * float(v) ** j for i, j in powers(order)])
    u, v = np.asarray(u, np.float64), np.asarray(v, np.float64)
    return np.stack([u**i * v**j for i, j in powers(order)], -1)


def gradients(u: np.ndarray | float, v: np.ndarray | float, order: int) -> tuple[np.ndarray, np.ndarray]:
    """(..., T) d terms / du and (..., T) d terms / dv, at one position or at (N,)."""
    du = np.array([i * u ** max(i - 1, 0) * v**j for i, j in powers(order)])
    dv = np.array([j * u**i * v ** max(j - 1, 0) for i, j in powers(order)])
    return du.T, dv.T


def rectangle(coefficients: np.ndarray, u: np.ndarray, v: np.ndarray, order: int) -> np.ndarray:
    """(len(v), len(u)) float32 polynomial on a grid, as two small products; coefficients : (T,), of `terms`."""
    matrix = np.zeros((order + 1, order + 1))
    for value, (i, j) in zip(coefficients, powers(order), strict=True):
        matrix[j, i] = value
    rows = np.stack([v**j for j in range(order + 1)], 1).astype(np.float32)
    columns = np.stack([u**i for i in range(order + 1)]).astype(np.float32)
    return rows @ matrix.astype(np.float32) @ columns
