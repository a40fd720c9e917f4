"""Forced photometry that is put off: what it will be measured on, and what was measured in the end."""

from dataclasses import dataclass

import numpy as np

from gpudiff.model.frame import FrameId
from gpudiff.model.tables import Table


@dataclass(frozen=True)
class LightSquares:
    """Squares of the science image at N places, and of the light there that does not change.

    image, matched : (N, S, S) float32, 0 where there is no value; usable : (N, S, S) bool
    psf : (N, S, S) float32; sky : (N,) variance of the sky; gain : electrons per unit
    """

    image: np.ndarray
    matched: np.ndarray
    usable: np.ndarray
    psf: np.ndarray
    sky: np.ndarray
    gain: float


@dataclass(frozen=True)
class ForcedSquares:
    """All that a frame's forced photometry is measured on: to cut it out is cheap, to measure it is not.

    places : Table of FORCED_SOURCE without its fluxes, which are NaN; dy, dx : (N,) float64, from the middles of
    the squares; data, weight, psf : (N, S, S) float32 of the difference, as arrays.measure.Cut; scale : of errors
    own : variance by its own photons, a unit of flux, that a flux has beyond what the weights tell
    """

    places: Table
    dy: np.ndarray
    dx: np.ndarray
    data: np.ndarray
    weight: np.ndarray
    psf: np.ndarray
    scale: float
    own: float
    science: LightSquares

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class PutOff:
    """Forced photometry of a frame that was committed without it.

    fingerprint, unit, zero_point : as in the frame's DetectionBatch; ra, dec : decide which associator has it
    """

    frame: FrameId
    fingerprint: str
    unit: str
    zero_point: float | None
    ra: float
    dec: float
    squares: ForcedSquares


@dataclass(frozen=True)
class MadeUp:
    """The same, measured.  forced : Table of FORCED_SOURCE; the rest as in the frame's DetectionBatch"""

    frame: FrameId
    fingerprint: str
    unit: str
    zero_point: float | None
    forced: Table
