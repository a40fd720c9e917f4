"""Trailed sources: a PSF drawn along a line, fitted by least squares.

The Fourier transform of a uniform line of length L is a sinc along its direction, so the model is exact for any
length and angle (Veres et al. 2012, PASP 124, 1197).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

LENGTHS = (4.0, 7.0, 11.0, 16.0, 22.0, 30.0, 40.0)
"""Pixels: where the fit starts from; the best of them is refined."""


@dataclass(frozen=True)
class Trail:
    """y, x : middle, pixels from the stamp's centre; length, pixels; angle, degrees from +x to +y, (-90, 90]
    gain : squared signal to noise of the trail over that of the best point source
    chi2 : a pixel, over the pixels the trail lights
    """

    y: float
    x: float
    length: float
    angle: float
    gain: float
    chi2: float


class Line:
    """Trails of one PSF in stamps of one size."""

    def __init__(self, psf: np.ndarray, side: int):
        """psf : (P, P) unit sum, peak in the middle, P <= side; side : of the stamps, odd."""
        self._side = side
        self._size = scipy.fft.next_fast_len(side + psf.shape[0], real=True)
        self._ky = np.fft.fftfreq(self._size)[:, None]
        self._kx = np.fft.rfftfreq(self._size)[None]
        half = psf.shape[0] // 2
        middle = np.exp(2j * np.pi * (self._ky + self._kx) * (half - side // 2))
        self._spectrum = scipy.fft.rfft2(psf, s=(self._size, self._size)) * middle

    def images(self, places: np.ndarray, lines: np.ndarray) -> np.ndarray:
        """(P * L, side, side) float32, good to 1e-6 of the peak, of all (L, 2) length, angle as in `image` at the
        first of (P, 2) y, x, then at the second."""
        (y, x), (length, angle) = places.T[:, :, None, None], lines.T[:, :, None, None]
        along = length * (self._kx * np.cos(np.radians(angle)) + self._ky * np.sin(np.radians(angle)))
        down, across = np.exp(-2j * np.pi * y * self._ky), np.exp(-2j * np.pi * x * self._kx)
        drawn = self._spectrum.astype(np.complex64) * np.sinc(along.astype(np.float32))
        moved = down.astype(np.complex64) * across.astype(np.complex64)
        spectra = (drawn * moved[:, None]).reshape(-1, *self._spectrum.shape)
        return scipy.fft.irfft2(spectra, s=(self._size, self._size))[:, : self._side, : self._side]

    def image(self, y: float, x: float, length: float, angle: float) -> np.ndarray:
        """(side, side) float64 unit-sum trail whose middle is (y, x) from the stamp's centre."""
        radians = np.radians(angle)
        along = self._kx * np.cos(radians) + self._ky * np.sin(radians)
        down, across = np.exp(-2j * np.pi * y * self._ky), np.exp(-2j * np.pi * x * self._kx)
        spectrum = self._spectrum * np.sinc(length * along) * down * across
        return scipy.fft.irfft2(spectrum, s=(self._size, self._size))[: self._side, : self._side]


def fit_trail(
    data: np.ndarray, weight: np.ndarray, psf: np.ndarray, angle: float, least_gain: float = 0.0
) -> Trail | None:
    """The trail that explains a stamp best; None where no start promises a third of `least_gain`.

    data : (S, S) float32, 0 where there is no value; weight : (S, S) one over the variance, 0 there
    psf : (P, P); angle : degrees, where to start
    """
    line = Line(psf, data.shape[0])

    def power(values: np.ndarray) -> float:
        y, x, length, direction = values
        model = line.image(y, x, abs(length), direction)
        return float((weight * model * data).sum()) ** 2 / max(float((weight * model**2).sum()), 1e-30)

    seen, weighted = (plane.ravel().astype(np.float32) for plane in (weight, weight * data))

    def strongest(places: list[tuple[float, ...]], lines: list[tuple[float, ...]]) -> np.ndarray:
        models = line.images(np.array(places), np.array(lines)).reshape(len(places) * len(lines), -1)
        powers = (models @ weighted) ** 2 / np.maximum(models**2 @ seen, 1e-30)
        place, drawn = divmod(int(np.argmax(powers)), len(lines))
        return np.array([*places[place], *lines[drawn]], float)

    nearest = strongest([(y, x) for y in (-1.0, 0.0, 1.0) for x in (-1.0, 0.0, 1.0)], [(0.0, 0.0)])
    point = power(nearest)
    best = strongest(
        list(dict.fromkeys([(0.0, 0.0), tuple(nearest[:2])])),
        [(length, angle + turn) for length in LENGTHS for turn in (-15, 0, 15)],
    )
    if power(best) - point < least_gain / 3:
        return None
    root = np.sqrt(weight)

    def residual(values: np.ndarray) -> np.ndarray:
        y, x, length, direction = values
        model = line.image(y, x, abs(length), direction)
        flux = float((weight * model * data).sum()) / max(float((weight * model**2).sum()), 1e-30)
        return (root * (data - flux * model)).ravel()

    from scipy.optimize import least_squares  # heavy, and few frames have a trail

    scale = np.array([1.0, 1.0, 3.0, 10.0])
    found = least_squares(residual, best, x_scale=scale, method="lm", xtol=1e-3, ftol=1e-5, max_nfev=60).x
    y, x, length, direction = (float(value) for value in found)
    model = line.image(y, x, abs(length), direction)
    flux = float((weight * model * data).sum()) / max(float((weight * model**2).sum()), 1e-30)
    lit = (model > 0.1 * model.max()) & (weight > 0)
    error = weight * (data - flux * model) ** 2 - weight * (0.05 * flux * model) ** 2
    chi2 = float(error[lit].mean()) if lit.any() else np.inf
    return Trail(y, x, abs(length), (direction + 90) % 180 - 90, power(found) - point, chi2)
