"""What every engine does with the planes of a difference: residual sky, measured noise, mask."""

from dataclasses import dataclass, field

import numpy as np

from gpudiff.arrays import residual_sky
from gpudiff.arrays.afar import Afar
from gpudiff.arrays.parallel import over
from gpudiff.arrays.tiles import Tile
from gpudiff.model.frame import Exposure
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.plane import SmoothPlane, constant
from gpudiff.science import noise as noises

RIM = 12
"""Pixels from the edge within which a pixel without a value is lost to the edge."""

WIDER = 3.5
"""FWHM that the weights of a residual sky are wide (1 sigma), at least: a finer one takes the wings of sources."""


@dataclass
class Planes:
    """What the passes over the pixels fill in, all (H, W)."""

    image: np.ndarray
    variance: np.ndarray
    model: np.ndarray
    lost: np.ndarray
    blank: np.ndarray
    """Sky alone (arrays.quiet_sky.sky_only)."""
    score: np.ndarray = field(default_factory=lambda: np.empty(0))
    weight: SmoothPlane = field(default_factory=lambda: constant(0.0, (0, 0)))
    """Of a pixel's own value in the residual sky that was subtracted there."""

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "Planes":
        """Planes whose values are still to be written, but the score."""
        image, variance, model = (np.empty(shape, np.float32) for _ in range(3))
        return cls(image, variance, model, np.empty(shape, bool), np.empty(shape, bool))

    def lose(self, spoilt: np.ndarray) -> None:
        """Pixels that have no value either.  spoilt : (N,) their numbers, each once"""
        where = np.divmod(spoilt, self.lost.shape[1])
        self.lost[where] = True
        self.blank[where] = False

    def allow_for(self, seen: noises.Noise) -> None:
        """Multiply the variance by what was seen over it, where that is better known."""
        if seen.calibrated:
            self.variance *= np.float32(seen.seen)

    def calibrate(self, scale: tuple[float, float], seen: noises.Noise) -> tuple[tuple[float, float], float]:
        """((scatter of difference / sigma, of the score) that was divided out, what was divided out before).

        scale : both on blank sky, NaN where it is too little.  All 1, nothing divided, where the noise is known.
        """
        if not seen.calibrated or np.isnan(scale[0]):
            return (1.0, 1.0), 1.0
        self.variance *= np.float32(scale[0] ** 2)
        self.score /= np.float32(scale[1])
        return scale, float(np.sqrt(seen.seen))


class ResidualSky:
    """The smooth sky left in a difference whose stars have that FWHM (pixels), summed up tile by tile."""

    def __init__(self, pieces: list[Tile], fwhm: float) -> None:
        self._columns = sum(tile.y0 == 0 for tile in pieces)
        self._shape = pieces[0].shape
        side = residual_sky.CELLS
        self._finest = WIDER * fwhm * side / (pieces[0].y1 - pieces[0].y0)
        self._cells = np.zeros((2, side * (len(pieces) // self._columns), side * self._columns))

    def add(self, tile: Tile, sums: np.ndarray) -> None:
        """Take up a tile's.  sums : (2, CELLS, CELLS) `cell_sums` of its core"""
        j, i = divmod(tile.index, self._columns)
        side = residual_sky.CELLS
        self._cells[:, side * j : side * (j + 1), side * i : side * (i + 1)] = sums

    def put(self, sums: np.ndarray) -> None:
        """Take up all tiles.  sums : (T, 2, CELLS, CELLS) `cell_sums` of each"""
        side = residual_sky.CELLS
        rows = sums.reshape(-1, self._columns, 2, side, side)
        self._cells = rows.transpose(2, 0, 3, 1, 4).reshape(self._cells.shape).astype(float)

    def smooth(self, threads: int = 1, image: np.ndarray | None = None) -> tuple[SmoothPlane, SmoothPlane]:
        """The plane that the cells show, as fine as they show that it must be, and `Planes.weight`.

        image : the difference, where it may lie on a device that the surfaces are fitted on
        """

        def surfaces(jobs: list[residual_sky.Job]) -> list[residual_sky.Surface]:
            assert isinstance(image, Afar)
            return image.on_device(lambda launcher, _: residual_sky.fitted_cuda(launcher, jobs))

        there = surfaces if isinstance(image, Afar) else None
        grid, own = residual_sky.residual_sky(self._cells, threads, self._finest, there)
        weight = own * (own.size / (self._shape[0] * self._shape[1]))
        return _ready(grid, self._shape), _ready(weight, self._shape)


def _ready(grid: np.ndarray, shape: tuple[int, int]) -> SmoothPlane:
    """A plane whose matrices are made, once, before threads read them."""
    plane = SmoothPlane(grid, shape)
    plane.cut(0, 1, 0, 1)
    return plane


TAKEN = 0.01
"""Share of the score's variance that a residual sky may take unnoticed."""


def raised(weight: SmoothPlane, psf: np.ndarray) -> SmoothPlane | None:
    """What the score is multiplied by for the noise that the residual sky took with it; None for nothing.

    The sky is a random field and its surface H the best prediction from the pixels, so sky and noise together
    have the inverse covariance (1 - H) / variance (Rasmussen & Williams 2006, Gaussian Processes for Machine
    Learning, section 2.6), and the score the variance sum(P (1 - H) P) / sum(P^2), where H is flat over the PSF P.
    Where pixels were left out of the sky it took nothing of them.

    psf : (P, P) unit sum
    """
    taken = np.clip(weight.grid / float((psf.astype(float) ** 2).sum()), 0, 0.5)
    return _ready(1 / np.sqrt(1 - taken), weight.shape) if taken.max() > TAKEN else None


def subtract_sky(image: np.ndarray, sky: SmoothPlane, pieces: list[Tile], threads: int) -> None:
    """Take a smooth sky out of an image, in place."""
    if isinstance(image, Afar):
        image.take_sky(*sky.factors())
        return

    def work(tile: Tile) -> None:
        image[tile.core] -= sky.cut(tile.y0, tile.y1, tile.x0, tile.x1)

    over(work, pieces, threads)


def mask_of(science: Exposure, template: Exposure, lost: np.ndarray) -> np.ndarray:
    """Science's planes, the template's that matter, and NO_DATA or EDGE where there is no value.

    lost : (N,) numbers of the pixels that have none
    """
    carried = bit("BAD", "INTRP", "SUSPECT", "STREAK")
    out = science.mask.copy()
    some = np.flatnonzero(np.bitwise_or.reduce(template.mask, 1) & carried)  # rows: few have any
    out[some] |= template.mask[some] & carried
    flat, its = out.reshape(-1), template.mask.reshape(-1)
    flaws = np.concatenate([science.flaws, template.flaws])
    for pixels in (flaws, lost):
        flat[pixels[its[pixels] & bit("SAT", "SAT_TEMPLATE") != 0]] |= bit("SAT_TEMPLATE")
    gone = _without_value(flat[lost], lost, science.shape)
    filled = flaws[flat[flaws] & bit("NO_DATA") != 0]
    flat[filled] = (flat[filled] & ~bit("NO_DATA")) | bit("INTRP")
    flat[lost] = gone
    return out


def _without_value(mask: np.ndarray, pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(N,) the masks of pixels that have no value.  mask : (N,) before; pixels : (N,) their numbers"""
    height, width = shape
    y = pixels // width  # divmod takes three times as long
    x = pixels - y * width
    edge = np.minimum(np.minimum(y, height - 1 - y), np.minimum(x, width - 1 - x)) < RIM
    why = np.where(edge, bit("EDGE"), bit("SUSPECT"))
    return mask | bit("NO_DATA") | np.where(mask & bit(*UNUSABLE) == 0, why, 0).astype(mask.dtype)
