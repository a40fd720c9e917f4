"""MatchingKernel and PsfModel: small images that vary over the field as polynomials."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FieldImage:
    """A (K, K) image at every position of the field, each of its pixels a polynomial in (u, v).

    coefficients : (P, K, K) float64, one image a term u^i v^j (j outer, i inner, i + j <= order)
    order : of the polynomial
    shape : (H, W) of the frame; u = 2x/W - 1, v = 2y/H - 1
    """

    coefficients: np.ndarray
    order: int
    shape: tuple[int, int]

    def terms(self, y: Any, x: Any) -> np.ndarray:
        """(P,) values of the polynomial's terms at a pixel position; (P, N) at many."""
        u, v = 2.0 * x / self.shape[1] - 1, 2.0 * y / self.shape[0] - 1
        return np.array([u**i * v**j for j in range(self.order + 1) for i in range(self.order + 1 - j)])

    def at(self, y: float, x: float) -> np.ndarray:
        """(K, K) float64 image at a pixel position."""
        return np.tensordot(self.terms(y, x), self.coefficients, 1)

    def spectrum(self) -> Callable[[float, float, int], np.ndarray]:
        """spectrum(y, x, size) -> (size, size // 2 + 1) complex128 of the image at a pixel position, its first
        pixel at [0, 0] of a periodic square: each term is transformed once."""
        spectra: dict[int, np.ndarray] = {}

        def at(y: float, x: float, size: int) -> np.ndarray:
            if size not in spectra:  # as pairs of real numbers, whose products with real terms take half the time
                spectra[size] = (
                    np.fft.rfft2(self.coefficients, (size, size)).reshape(len(self.coefficients), -1).view(float)
                )
            return (self.terms(y, x) @ spectra[size]).view(complex).reshape(size, -1)

        return at

    @property
    def half(self) -> int:
        """Half width: K = 2 half + 1."""
        return self.coefficients.shape[1] // 2

    def at_thirds(self) -> np.ndarray:
        """(9, K, K) float32 at the centres of a 3 x 3 grid of the frame, rows of y outer."""
        height, width = self.shape
        centres = [((2 * j + 1) * height / 6, (2 * i + 1) * width / 6) for j in range(3) for i in range(3)]
        return np.array([self.at(y, x) for y, x in centres], np.float32)


class PsfModel(FieldImage):
    """A PSF that varies over the field."""

    def round(self) -> "PsfModel":
        """The same, zero outside its inscribed circle."""
        axis = np.arange(-self.half, self.half + 1)
        inside = np.hypot(axis, axis[:, None]) <= self.half
        return replace(self, coefficients=np.where(inside, self.coefficients, 0))

    def at(self, y: float, x: float, half: int | None = None) -> np.ndarray:
        """(2 half + 1, ...) float64 PSF, unit sum, zero outside the model's inscribed circle."""
        image = super().at(y, x)
        own = self.half
        axis = np.arange(-own, own + 1)
        image = np.where(np.hypot(axis, axis[:, None]) <= own, image, 0)
        image = image / image.sum()
        if half is None or half == own:
            return image
        if half > own:
            return np.pad(image, half - own)
        return image[own - half : own + half + 1, own - half : own + half + 1]

    def at_all(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """(N, K, K) float64, what `at` gives at each of (N,) positions."""
        images = np.tensordot(self.terms(y, x).T, self.round().coefficients, 1)
        return images / images.sum((1, 2), keepdims=True)


@dataclass(frozen=True)
class MatchingKernel(FieldImage):
    """The kernel that takes the convolved image's PSF and photometric scale to the target's.

    background : (Q,) coefficients of the differential background, target minus matched, image units
    background_order : of its polynomial
    """

    background: np.ndarray
    background_order: int

    def sums(self) -> np.ndarray:
        """(P,) polynomial coefficients of the kernel sum: the photometric scale over the field."""
        return self.coefficients.sum((1, 2))
