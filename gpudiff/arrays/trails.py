"""Trailed sources: a PSF drawn along a line, fitted by least squares.

The Fourier transform of a uniform line of length L is a sinc along its direction, so the model is exact for any
length and angle (Veres et al. 2012, PASP 124, 1197).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from gpudiff.arrays.device import Launcher
from gpudiff.arrays.shifter import Shifter

LENGTHS, STEP, TURNS = (4.0, 7.0, 11.0, 16.0, 22.0, 30.0, 40.0), 10, 2
"""Pixels, and degrees from one angle to the next: what the fit may start from, so many angles to either side of
the one that is expected.  The best of them is refined."""
PLACES = np.array([(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)])
"""Pixels from the stamp's centre, where the middle may be to start with."""
ALONG = (-0.4, -0.2, 0.0, 0.2, 0.4)
"""Of its length, by which the middle may lie off the centre: noise puts a line's peak anywhere along it."""

ROUNDS = 30
"""Steps of a fit, at most."""
NEAR = 0.01
"""Squared signal to noise that a step may still promise where a fit ends: a tenth of an error."""
HOPE = 5.0
"""Times what its next step promises that a fit may still win, or it is given up: of 5,500 simulated trails one
needed more than 3, none more than 5; of 2,700 fits beside neighbours that won three, all of them of dipoles."""


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
    """Trails of a PSF in stamps of one size, each y, x of its middle from the stamp's centre, length, angle."""

    def __init__(self, psf: np.ndarray, side: int):
        """psf : (P, P), or (N, P, P) one for each stamp, unit sum, peak in the middle, P <= side; side : odd."""
        self.side = side
        self.size = scipy.fft.next_fast_len(side + psf.shape[-1], real=True)
        self._ky, self._kx = _frequencies(self.size)
        half = psf.shape[-1] // 2
        down, across = (np.exp(2j * np.pi * k * (half - side // 2)) for k in (self._ky, self._kx))
        self.spectrum = scipy.fft.rfft2(psf.astype(float), s=(self.size, self.size)) * (down * across)

    def image(self, y: float, x: float, length: float, angle: float) -> np.ndarray:
        """(side, side) float64 unit-sum trail."""
        return self.slopes(np.array([[y, x, length, angle]]), np.arange(1), 0, np.complex128)[0, 0]

    def slopes(self, values: np.ndarray, rows: np.ndarray, free: int = 4, kind: type = np.complex64) -> np.ndarray:
        """(M, 1 + free, side, side): unit-sum trails, and their slopes along the first `free` of their values.

        values : (M, 4); rows : (M,) of the PSFs, where each stamp has one
        kind : of their spectra; complex64 gives float32 good to 1e-6 of the peak
        """
        y, x, length, angle = (one[:, None, None] for one in values.T)
        ky, kx = self._ky, self._kx
        moved = np.exp(-2j * np.pi * y * ky).astype(kind) * np.exp(-2j * np.pi * x * kx).astype(kind)
        moved *= self.spectrum if self.spectrum.ndim == 2 else self.spectrum[rows]
        ky, kx = (one.astype(moved.real.dtype) for one in (ky, kx))
        turned = np.sin(np.radians(angle)), np.cos(np.radians(angle))
        sin, cos, length = (one.astype(kx.dtype) for one in (*turned, length))
        along = kx * cos + ky * sin
        drawn = np.sinc(length * along) if length.any() else np.ones((1, 1, 1), kx.dtype)
        spectra = np.empty((len(values), 1 + free, *moved.shape[1:]), kind)
        np.multiply(moved, drawn, out=spectra[:, 0])
        if free:
            np.multiply(kind(-2j * np.pi) * ky, spectra[:, 0], out=spectra[:, 1])
            np.multiply(kind(-2j * np.pi) * kx, spectra[:, 0], out=spectra[:, 2])
        if free > 2:
            phase = kx.dtype.type(np.pi) * length * along
            slope = np.divide(np.cos(phase) - drawn, phase, out=np.zeros_like(phase), where=phase != 0)
            moved *= kx.dtype.type(np.pi) * slope  # of the sinc
            np.multiply(moved, along, out=spectra[:, 3])
            np.multiply(moved, np.radians(length) * (ky * cos - kx * sin), out=spectra[:, 4])
        return _drawn(spectra, self.size, self.side)


def _drawn(spectra: np.ndarray, size: int, side: int) -> np.ndarray:
    """(..., side, side) of the images of half spectra (..., size, size // 2 + 1), which are used up."""
    rows = scipy.fft.ifft(spectra, axis=-2, overwrite_x=True)[..., :side, :]
    return scipy.fft.irfft(rows, size)[..., :side]


@lru_cache(8)
def _frequencies(size: int) -> tuple[np.ndarray, np.ndarray]:
    return np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]


@lru_cache(8)
def _lines(size: int) -> np.ndarray:
    """(angles, LENGTHS, ...) float32 spectra of all lines that a fit may start from."""
    ky, kx = _frequencies(size)
    radians = np.radians(np.arange(0, 180, STEP))[:, None, None]
    along = kx * np.cos(radians) + ky * np.sin(radians)
    return np.sinc((np.array(LENGTHS)[:, None, None] * along[:, None]).astype(np.float32))


class Starts:
    """What fits may start from: points and trails of one PSF, drawn once for many stamps of one size."""

    def __init__(self, psf: np.ndarray, side: int, powers: "Powers | None" = None):
        """psf : (P, P), side : as Line takes them; powers : `line_powers`, on whatever device"""
        self._line_powers = powers or line_powers
        line = Line(psf, side)
        spectra = line.spectrum.astype(np.complex64) * _lines(line.size)
        self._trails = np.ascontiguousarray(_drawn(spectra, line.size, side))
        point = line.image(0, 0, 0, 0).astype(np.float32)
        self._points = _moved(point[None], np.zeros(len(PLACES), int), PLACES)

    def best(
        self, data: np.ndarray, weight: np.ndarray, angle: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """((N, 2) y, x of the strongest point, (N, 4) y, x, length, angle of the strongest trail in the middle, at
        the point's place or moved along itself, (N,) `Trail.gain` of the one over the other).

        data, weight, angle : as fit_trails takes them
        """
        planes = np.stack([weight, weight * data], 1).astype(np.float32)
        every, points = np.arange(len(planes)), _powers(self._points, planes)
        places = PLACES[points.argmax(1)]
        turns = np.rint(angle / STEP).astype(int)[:, None] + np.arange(-TURNS, TURNS + 1)
        turns %= len(self._trails)
        powers = self._line_powers(self._trails, planes, turns, places)
        most = powers.reshape(len(planes), -1)
        top = most.argmax(1)
        which, length, place = np.unravel_index(top, powers.shape[1:])
        turn = turns[every, which]
        middle = np.where(place[:, None] == 0, places, _moves()[turn, length, place - 1])
        best = np.column_stack([middle, np.array(LENGTHS)[length], STEP * turn])
        return places, best, most[every, top] - points.max(1)


Powers = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def line_powers(trails: np.ndarray, planes: np.ndarray, turns: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(N, T, LENGTHS, 1 + ALONG) float32 squared signal to noise of trails at a given place and along themselves.

    trails : (angles, LENGTHS, S, S) float32, in the middle, from 0 degrees on, STEP apart
    planes : (N, 2, S, S) float32 weights, and these times data
    turns : (N, T) int, which of the angles; places : (N, 2) int y, x from the middle
    """
    count, _, side, _ = planes.shape
    seen = _moved(planes.reshape(-1, side, side), np.arange(2 * count), -np.repeat(places, 2, 0))
    seen = seen.reshape(planes.shape)
    powers = np.empty((*turns.shape, len(LENGTHS), 1 + len(ALONG)), np.float32)
    which = np.repeat(np.arange(len(LENGTHS)), len(ALONG))
    for turn in np.unique(turns):
        row, column = np.nonzero(turns == turn)
        moved = _moved(trails[turn], which, _moves()[turn].reshape(-1, 2))
        powers[row, column, :, 0] = _powers(trails[turn], seen[row])
        powers[row, column, :, 1:] = _powers(moved, planes[row]).reshape(-1, len(LENGTHS), len(ALONG))
    return powers


THREADS = 128
"""Of a block in the CUDA body, for a line of one length and angle on a stamp."""


def line_powers_cuda(
    launcher: Launcher, trails: np.ndarray, planes: np.ndarray, turns: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """`line_powers` on a GPU, by float32 sums; on the host."""
    powers = launcher.empty((*turns.shape, len(LENGTHS), 1 + len(ALONG)), np.float32)
    if powers.size:
        used, at = np.unique(turns, return_inverse=True)
        images = [launcher.upload(one, np.float32) for one in (trails[used], planes)]
        numbers = [launcher.upload(one, np.int32) for one in (at, places, _moves()[used])]
        grid = (len(LENGTHS), turns.shape[1], len(turns))
        arguments = [*images, *numbers, powers, np.int32(trails.shape[-1])]
        launcher.launch("trails", "line_powers", grid, (THREADS, 1, 1), arguments)
    return launcher.download(powers)


def _powers(models: np.ndarray, planes: np.ndarray) -> np.ndarray:
    """(N, M) squared signal to noise of models (M, S, S).  planes : (N, 2, S, S) weights, and these times data"""
    models = models.reshape(len(models), -1)
    weight, weighted = planes.reshape(len(planes), 2, -1).swapaxes(0, 1)
    return (weighted @ models.T) ** 2 / np.maximum(weight @ (models**2).T, 1e-30)


@cache
def _moves() -> np.ndarray:
    """(angles, LENGTHS, ALONG, 2) int: dy, dx of the trails of each angle and length, moved along themselves."""
    radians = np.radians(np.arange(0, 180, STEP))
    part = np.multiply.outer(LENGTHS, ALONG)
    return np.rint(np.stack([np.multiply.outer(of(radians), part) for of in (np.sin, np.cos)], -1)).astype(int)


def _moved(images: np.ndarray, rows: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """(M, S, S): images (N, S, S) of `rows`, each moved by whole pixels (M, 2), 0 where nothing comes from."""
    most, side = int(np.abs(moves).max(initial=0)), images.shape[1]
    wide = np.pad(images, ((0, 0), (most, most), (most, most)))
    return sliding_window_view(wide, (side, side), axis=(1, 2))[rows, most - moves[:, 0], most - moves[:, 1]]


def fit_trails(
    data: np.ndarray,
    weight: np.ndarray,
    psf: np.ndarray,
    angle: np.ndarray,
    least_gain: float = 0.0,
    starts: Starts | None = None,
) -> list[Trail | None]:
    """The trail that explains each stamp best; None where no start promises a third of `least_gain`, and where its
    fit has no hope to win that.

    data : (N, S, S) float32, 0 where there is no value; weight : (N, S, S) one over the variance, 0 there
    psf : (N, P, P); angle : (N,) degrees, where to start; starts : of about these PSFs, for stamps of this size
    """
    found: list[Trail | None] = [None] * len(data)
    if len(data) == 0:
        return found
    nearest, best, gain = (starts or Starts(psf[0], data.shape[1])).best(data, weight, angle)
    rows = np.flatnonzero(gain >= least_gain / 3)
    if len(rows) == 0:
        return found
    psf, data, weight = psf[rows], data[rows], weight[rows].astype(float)
    line = Line(psf, data.shape[1])
    shifter = Shifter(psf, data.shape[1], psf.shape[-1] - 1, np.float32)
    point, power = _refined(shifter.at, data, weight, nearest[rows], np.zeros(len(rows)))
    trail, power = _refined(line.slopes, data, weight, best[rows], power + least_gain)
    kept = np.flatnonzero(power > 0)
    points = np.pad(point, ((0, 0), (0, 2)))
    models = [line.slopes(one[kept], kept, 0, np.complex128) for one in (trail, points)]
    for k, both in zip(kept, np.concatenate(models, 1), strict=True):
        found[rows[k]] = _judged(both, trail[k], data[k], weight[k])
    return found


def fit_trail(
    data: np.ndarray, weight: np.ndarray, psf: np.ndarray, angle: float, least_gain: float = 0.0
) -> Trail | None:
    """`fit_trails` of one stamp."""
    return fit_trails(data[None], weight[None], psf[None], np.array([angle]), least_gain)[0]


def _judged(models: np.ndarray, values: np.ndarray, data: np.ndarray, weight: np.ndarray) -> Trail:
    """models : (2, S, S) of the trail and of the point that explain a stamp best; values : (4,) of the trail"""
    power = _power(*_sums(models[:, None], data, weight))
    y, x, length, direction = (float(value) for value in values)
    model = models[0]
    flux = float((weight * model * data).sum()) / max(float((weight * model**2).sum()), 1e-30)
    lit = (model > 0.1 * model.max()) & (weight > 0)
    error = weight * (data - flux * model) ** 2 - weight * (0.05 * flux * model) ** 2
    chi2 = float(error[lit].mean()) if lit.any() else np.inf
    return Trail(y, x, abs(length), (direction + 90) % 180 - 90, float(power[0] - power[1]), chi2)


def _refined(
    drawn: Callable[[np.ndarray, np.ndarray], np.ndarray],
    data: np.ndarray,
    weight: np.ndarray,
    start: np.ndarray,
    least: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """((M, K) the starts' values fitted, by damped least squares (Marquardt 1963), (M,) their squared signal to
    noise, 0 for a fit that was given up).

    The flux is left to each model (variable projection: Kaufman 1975, BIT 15, 49).
    drawn : `Line.slopes` or `Shifter.at`, with a PSF for each stamp; data, weight : (M, S, S); start : (M, K)
    least : (M,) squared signal to noise below which nobody wants to know
    """
    at, left, damping = start.astype(float), np.arange(len(start)), np.full(len(start), 1e-2)
    gram, right = _sums(drawn(at, left), data, weight)
    for _ in range(ROUNDS):
        step, promised = _step(gram[left], right[left], damping[left])
        hopeful = _power(gram[left], right[left]) + HOPE * promised >= least[left]
        right[left[~hopeful]] = 0
        left, step, promised = left[hopeful], step[hopeful], promised[hopeful]
        if len(left) == 0:
            break
        to = at[left] + step
        new = _sums(drawn(to, left), data[left], weight[left])
        better = (_power(*new) > _power(gram[left], right[left])) & _possible(to, data.shape[1])
        kept = left[better]
        at[kept], gram[kept], right[kept] = to[better], new[0][better], new[1][better]
        damping[left] = np.where(better, damping[left] / 8, damping[left] * 6)
        left = left[promised > NEAR]
    return at, _power(gram, right)


def _possible(values: np.ndarray, side: int) -> np.ndarray:
    """(N,) bool: points, or trails no longer than a stamp, with their middle on it."""
    return (np.abs(values[:, :3]) <= np.array([side // 2, side // 2, side])[: values.shape[1]]).all(1)


def _sums(images: np.ndarray, data: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((N, K, K) weighted products of images (N, K, S, S), (N, K) and with the data)."""
    flat = images.reshape(*images.shape[:2], -1)
    weight = weight.reshape(-1, 1, flat.shape[2])
    weighted = flat * weight
    return weighted @ flat.swapaxes(1, 2), (weighted @ data.reshape(-1, flat.shape[2], 1))[..., 0]


def _power(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(N,) squared signal to noise of the first image."""
    return right[:, 0] ** 2 / np.maximum(gram[:, 0, 0], 1e-30)


def _step(gram: np.ndarray, right: np.ndarray, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((N, free) step of the values behind the first image, (N,) the squared signal to noise that it promises)."""
    share = gram[:, 0] / np.maximum(gram[:, 0, :1], 1e-30)
    flux = right[:, :1] / np.maximum(gram[:, 0, :1], 1e-30)
    matrix = flux[..., None] ** 2 * (gram - gram[:, :1].swapaxes(1, 2) * share[:, None])[:, 1:, 1:]
    vector = flux * (right - right[:, :1] * share)[:, 1:]
    own = matrix.diagonal(axis1=1, axis2=2)
    matrix = matrix + np.eye(own.shape[1]) * (own * (damping[:, None] + 1e-10) + 1e-12)[:, None]
    step = np.linalg.solve(matrix, vector[..., None])[..., 0]
    return step, (step * vector).sum(1)
