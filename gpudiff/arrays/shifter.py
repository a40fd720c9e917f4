"""PSFs moved by fractions of a pixel, with their slopes."""

import numpy as np

ROOM = 8
"""Pixels of nothing beyond a stamp, where no more is said."""


class Shifter:
    """PSFs moved in stamps, with their slopes, by trigonometric interpolation along each axis.

    What leaves at one end comes back at the other after some pixels of nothing.
    """

    def __init__(self, psf: np.ndarray, side: int = 0, room: int = ROOM, kind: type = float):
        """psf : (N, P, P), P odd, peak in the middle; side : odd, of the stamps, 0: P; room : even, px of nothing

        kind : of the moved PSFs; float32 is good to 1e-6 of the peak
        """
        own = psf.shape[-1]
        side = side or own
        self._psf: np.ndarray = psf.astype(kind)
        self._kind, reach = kind, side // 2 + own // 2
        period = side + room  # odd, as the side is: no frequency is its own mirror image
        self._turn = 2 * np.pi / period * np.arange(1 + period // 2)
        phase = self._turn[:, None] * np.arange(-reach, reach + 1)
        weight = np.where(self._turn > 0, 2, 1)[:, None] / period
        cosine, sine, turn = weight * np.cos(phase), weight * np.sin(phase), self._turn[:, None]
        self._waves = np.block([[cosine, turn * sine], [sine, -turn * cosine]])
        self._distance = np.arange(side)[:, None] - np.arange(own) + own - 1

    def at(self, places: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(N, 3, S, S): PSFs of `rows` at places (N, 2) y, x from the middle, and their slopes along y and x."""
        count, (side, own) = len(places), self._distance.shape
        phase = self._turn * places[..., None]
        lines = (np.concatenate([np.cos(phase), np.sin(phase)], 2) @ self._waves).astype(self._kind, copy=False)
        moves = lines.reshape(count, 2, 2, side + own - 1)[..., self._distance].reshape(count, 2, 2 * side, own)
        moved = moves[:, 0] @ self._psf[rows] @ moves[:, 1].swapaxes(1, 2)
        moved = moved.reshape(count, 2, side, 2, side)
        return np.stack([moved[:, 0, :, 0], moved[:, 1, :, 0], moved[:, 0, :, 1]], 1)
