"""Calibration: what turns a detector's raw pixels into electrons on the sky."""

from dataclasses import dataclass

import numpy as np

Box = tuple[int, int, int, int]
"""x0, x1, y0, y1 in pixels of the raw image; ends are not included."""


@dataclass(frozen=True)
class Amplifier:
    """One read-out channel.

    data, overscan : where its light, and its overscan, lie in the raw image; without an overscan `level` is taken
    at : (x, y) of its first pixel in the trimmed image
    gain : electrons per ADU; read_noise : electrons; saturation : raw ADU
    linearity : c1, c2, ...; linear ADU = c1 s + c2 s^2 + ... of the ADU s above overscan and bias
    """

    data: Box
    at: tuple[int, int]
    gain: float
    read_noise: float
    saturation: float
    overscan: Box | None = None
    level: float = 0.0
    linearity: tuple[float, ...] = (1.0,)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of its data."""
        x0, x1, y0, y1 = self.data
        return y1 - y0, x1 - x0


@dataclass(frozen=True)
class Calibration:
    """Of one detector, while it is valid.  Planes are (H, W) of the trimmed image, None where there is none.

    bias : float32, ADU above the overscan; flat : float32, relative response; defects : bool, True is bad
    """

    name: str
    amplifiers: tuple[Amplifier, ...]
    bias: np.ndarray | None = None
    flat: np.ndarray | None = None
    defects: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the trimmed image."""
        height = max(one.at[1] + one.shape[0] for one in self.amplifiers)
        return height, max(one.at[0] + one.shape[1] for one in self.amplifiers)
