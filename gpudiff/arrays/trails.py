"""Trailed sources: a PSF drawn along a line, fitted by least squares.

The Fourier transform of a uniform line of length L is a sinc along its direction, so the model is exact for any
length and angle (Veres et al. 2012, PASP 124, 1197).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft

LENGTHS, STEP, TURNS = (4.0, 7.0, 11.0, 16.0, 22.0, 30.0, 40.0), 10, 2
"""Pixels, and degrees from one angle to the next: what the fit may start from, so many angles to either side of
the one that is expected.  The best of them is refined."""
PLACES = [(float(y), float(x)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
"""Pixels from the stamp's centre, where the middle may be to start with."""
ALONG = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Of its length, by which the middle may lie off the centre: noise puts a line's peak anywhere along it."""


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
        down, across = (np.exp(2j * np.pi * k * (half - side // 2)) for k in (self._ky, self._kx))
        self._spectrum = scipy.fft.rfft2(psf.astype(float), s=(self._size, self._size)) * (down * across)

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
        spectrum = self._spectrum * (down * across)
        if length:
            spectrum *= np.sinc(length * along)
        return scipy.fft.irfft2(spectrum, s=(self._size, self._size))[: self._side, : self._side]


class Starts:
    """What a fit may start from: points and trails of one PSF, drawn once for many stamps of one size."""

    def __init__(self, psf: np.ndarray, side: int):
        """psf, side : as Line takes them"""
        line = Line(psf, side)
        angles = range(0, 180, STEP)
        lines = np.array([(length, angle) for angle in angles for length in LENGTHS])
        self._points = _Models(line.images(np.array(PLACES), np.zeros((1, 2))).reshape(len(PLACES), -1))
        trails = line.images(np.zeros((1, 2)), lines).reshape(len(angles), len(LENGTHS), side, side)
        self._trails = [_Models(each.reshape(len(LENGTHS), -1)) for each in trails]
        self._moves = [_moves(angle) for angle in angles]
        self._moved = [
            _Models(np.array([_shifted(each[n // len(ALONG)], *move) for n, move in enumerate(moves)]))
            for each, moves in zip(trails, self._moves, strict=True)
        ]

    def best(self, data: np.ndarray, weight: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """(y, x, length, angle), each of four, of the strongest point, and of the strongest trail in the middle,
        at the point's place or moved along itself.  data, weight, angle : as fit_trail takes them"""
        planes = np.stack([weight, weight * data]).astype(np.float32)
        y, x = place = PLACES[int(np.argmax(self._points.powers(planes)))]
        seen = np.array([_shifted(plane, -int(y), -int(x)).reshape(data.shape) for plane in planes])
        first, found = round(angle / STEP) - TURNS, []
        for turn in range(first, first + 2 * TURNS + 1):
            turn %= len(self._trails)
            powers = self._trails[turn].powers(seen)
            n = int(np.argmax(powers))
            found.append((float(powers[n]), (*place, LENGTHS[n], STEP * turn)))
            powers = self._moved[turn].powers(planes)
            n = int(np.argmax(powers))
            found.append((float(powers[n]), (*self._moves[turn][n], LENGTHS[n // len(ALONG)], STEP * turn)))
        return np.array([y, x, 0.0, 0.0]), np.array(max(found)[1], float)


class _Models:
    """(M, S * S) float32 models and their squares."""

    def __init__(self, models: np.ndarray):
        self.models, self.squares = models, models**2

    def powers(self, planes: np.ndarray) -> np.ndarray:
        """(M,) squared signal to noise of each.  planes : (2, S, S) weights, and weights times data"""
        weight, weighted = planes.reshape(2, -1)
        return (self.models @ weighted) ** 2 / np.maximum(self.squares @ weight, 1e-30)


def _moves(angle: float) -> list[tuple[int, int]]:
    """(dy, dx) of the trails of each length at an angle, moved along themselves."""
    down, across = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    return [(round(part * length * down), round(part * length * across)) for length in LENGTHS for part in ALONG]


def _shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """(S * S,) the image (S, S) moved by whole pixels, 0 where nothing comes from."""
    height, width = image.shape
    out = np.zeros_like(image)
    out[max(dy, 0) : height + dy, max(dx, 0) : width + dx] = image[
        max(-dy, 0) : height - dy, max(-dx, 0) : width - dx
    ]
    return out.ravel()


def fit_trail(
    data: np.ndarray,
    weight: np.ndarray,
    psf: np.ndarray,
    angle: float,
    least_gain: float = 0.0,
    starts: Starts | None = None,
) -> Trail | None:
    """The trail that explains a stamp best; None where no start promises a third of `least_gain`.

    data : (S, S) float32, 0 where there is no value; weight : (S, S) one over the variance, 0 there
    psf : (P, P); angle : degrees, where to start; starts : of about this PSF, for stamps of this size
    """
    line = Line(psf, data.shape[0])

    def power(values: np.ndarray) -> float:
        y, x, length, direction = values
        model = line.image(y, x, abs(length), direction)
        return float((weight * model * data).sum()) ** 2 / max(float((weight * model**2).sum()), 1e-30)

    nearest, best = (starts or Starts(psf, data.shape[0])).best(data, weight, angle)
    if power(best) - power(nearest) < least_gain / 3:
        return None
    root = np.sqrt(weight)

    def residual(values: np.ndarray) -> np.ndarray:
        y, x, length, direction = values
        model = line.image(y, x, abs(length), direction)
        flux = float((weight * model * data).sum()) / max(float((weight * model**2).sum()), 1e-30)
        return (root * (data - flux * model)).ravel()

    from scipy.optimize import least_squares  # heavy, and few frames have a trail

    def refined(start: np.ndarray, free: int) -> np.ndarray:
        """The start with its first `free` values fitted."""
        scale = np.array([1.0, 1.0, 3.0, 10.0])[:free]
        limits = {"method": "lm", "xtol": 1e-3, "ftol": 1e-5, "max_nfev": 60}
        fit = least_squares(lambda v: residual(np.append(v, start[free:])), start[:free], x_scale=scale, **limits)
        return np.append(fit.x, start[free:])

    found, point = refined(best, 4), refined(nearest, 2)
    y, x, length, direction = (float(value) for value in found)
    model = line.image(y, x, abs(length), direction)
    flux = float((weight * model * data).sum()) / max(float((weight * model**2).sum()), 1e-30)
    lit = (model > 0.1 * model.max()) & (weight > 0)
    error = weight * (data - flux * model) ** 2 - weight * (0.05 * flux * model) ** 2
    chi2 = float(error[lit].mean()) if lit.any() else np.inf
    return Trail(y, x, abs(length), (direction + 90) % 180 - 90, power(found) - power(point), chi2)
