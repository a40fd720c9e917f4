"""Raw counts to electrons: level and bias subtracted, made linear, divided by the flat, with variance and mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gpudiff.arrays.device import Launcher

LEAST_FLAT = 0.05
"""A pixel that sees less than this share of the light is no pixel."""


@dataclass(frozen=True)
class Channel:
    """One read-out channel.

    data : (x0, x1, y0, y1) of its light in the raw image; at : (x, y) of its first pixel in the trimmed image
    level : counts without light, before the bias; gain : electrons a count; read_noise : electrons
    saturation : raw counts; linearity : c1, c2, ...: linear counts are c1 s + c2 s^2 + ... of the counts s above
        level and bias
    """

    data: tuple[int, int, int, int]
    at: tuple[int, int]
    level: float
    gain: float
    read_noise: float
    saturation: float
    linearity: tuple[float, ...] = (1.0,)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        x0, x1, y0, y1 = self.data
        return y1 - y0, x1 - x0


class Marks(NamedTuple):
    """Bits of the mask: at saturation; a defect, or a flat below LEAST_FLAT; not finite, or of no channel."""

    saturated: int
    bad: int
    missing: int


@dataclass(frozen=True)
class Signature:
    """What is to be taken out of a detector's raw image; planes are (H, W), None where there is none.

    channels : that tile the trimmed image; bias : float32, counts; flat : float32; defects : bool
    """

    shape: tuple[int, int]
    channels: Sequence[Channel]
    bias: np.ndarray | None = None
    flat: np.ndarray | None = None
    defects: np.ndarray | None = None


Decoded = tuple[np.ndarray, np.ndarray, np.ndarray]


def decode(raw: np.ndarray, mask: np.ndarray | None, signature: Signature, marks: Marks) -> Decoded:
    """(electrons, their variance, mask) of a raw image, (H, W) float32, float32 and int32.

    raw : (Y, X) uint16 or float32; mask : (Y, X) of its own, whose bits stay, or None
    variance : (max(S, 0) + (r L')^2) / F^2 with S electrons before the flat F, r the read noise and L' the slope
        of the linearity (Janesick 2001, Scientific Charge-Coupled Devices, section 2.2.4)
    Where there is no value electrons are 0, the variance is 1.
    """
    image, out = np.full(signature.shape, np.nan, np.float32), np.zeros(signature.shape, np.int32)
    variance = image.copy()
    for one in signature.channels:
        (x, y), (height, width) = one.at, one.shape
        _place(raw, mask, signature.bias, one, marks, np.s_[y : y + height, x : x + width], image, variance, out)
    _divide(image, variance, out, signature, marks)
    bad = ~(np.isfinite(image) & np.isfinite(variance))
    out[bad] |= marks.missing
    image[bad], variance[bad] = 0, 1
    return image, variance, out


def _place(
    raw: np.ndarray,
    mask: np.ndarray | None,
    bias: np.ndarray | None,
    one: Channel,
    marks: Marks,
    here: tuple[slice, slice],
    image: np.ndarray,
    variance: np.ndarray,
    out: np.ndarray,
) -> None:
    """Write one channel's electrons, variance and mask."""
    x0, x1, y0, y1 = one.data
    counts = raw[y0:y1, x0:x1].astype(np.float64)
    out[here][counts >= one.saturation] |= marks.saturated
    if mask is not None:
        out[here] |= mask[y0:y1, x0:x1]
    signal = counts - one.level
    if bias is not None:
        signal -= bias[here]
    linear, slope = linearised(signal, one.linearity)
    electrons = one.gain * linear
    image[here] = electrons
    variance[here] = np.maximum(electrons, 0) + (one.read_noise * slope) ** 2


def linearised(signal: np.ndarray, coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(c1 s + c2 s^2 + ..., its slope) of the signal s, any shape; below zero the slope is c1."""
    polynomial = np.polynomial.Polynomial([0.0, *coefficients])
    above = np.maximum(signal, 0)
    with np.errstate(invalid="ignore"):  # infinite counts
        return polynomial(above) + coefficients[0] * np.minimum(signal, 0), polynomial.deriv()(above)


def _divide(image: np.ndarray, variance: np.ndarray, mask: np.ndarray, signature: Signature, marks: Marks) -> None:
    if signature.defects is not None:
        mask[signature.defects] |= marks.bad
    if signature.flat is None:
        return
    dark = ~(signature.flat >= LEAST_FLAT)
    mask[dark] |= marks.bad
    flat = np.where(dark, 1, signature.flat)
    image /= flat
    variance /= flat**2


# ---------------------------------------------------------------- on a GPU
BLOCK = 256
"""Pixels of a row that a block of the CUDA body takes."""
BOX, NUMBERS = 6, 4
"""Of a channel's table: its place in both images; its numbers before the linearity."""


def decode_cuda(
    launcher: Launcher,
    raw: np.ndarray,
    masks: np.ndarray | None,
    signatures: Sequence[Signature],
    marks: Marks,
) -> tuple[Any, Any, Any]:
    """The same for a batch on a GPU: electrons, variance and mask, (B, H, W) on the device.

    raw : (B, Y, X) uint16, else taken as float32; masks : (B, Y, X) integer, or None
    signatures : one for each, of one shape
    """
    batch, (height, width) = len(signatures), signatures[0].shape
    whole = raw.dtype == np.uint16
    channels = max(len(one.channels) for one in signatures)
    degree = max(len(channel.linearity) for one in signatures for channel in one.channels)
    boxes, numbers = _tables(signatures, channels, degree)
    inputs = [
        launcher.upload(raw, np.uint16 if whole else np.float32),
        launcher.upload(np.zeros(1) if masks is None else masks, np.int32),
        launcher.upload(boxes, np.int32),
        launcher.upload(numbers, np.float64),
        launcher.upload(_planes(signatures, "bias", 0, np.float32), np.float32),
        launcher.upload(_planes(signatures, "flat", 1, np.float32), np.float32),
        launcher.upload(_planes(signatures, "defects", 0, np.uint8), np.uint8),
    ]
    outputs = [launcher.empty((batch, height, width), np.dtype(kind)) for kind in ("f4", "f4", "i4")]
    sizes = [raw.shape[2], raw.shape[1], width, height, channels, degree, int(masks is not None), *marks]
    launcher.launch(
        "decode",
        "decode",
        (-(-width // BLOCK), height, batch),
        (BLOCK, 1, 1),
        [*inputs, *outputs, *map(np.int32, sizes)],
        defines=("RAW=unsigned short",) if whole else ("RAW=float",),
    )
    return outputs[0], outputs[1], outputs[2]


def _tables(signatures: Sequence[Signature], channels: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """(B, channels, BOX) places, empty beyond the channels that one has; (B, channels, NUMBERS + degree)."""
    boxes = np.zeros((len(signatures), channels, BOX))
    numbers = np.zeros((len(signatures), channels, NUMBERS + degree))
    for b, signature in enumerate(signatures):
        for n, one in enumerate(signature.channels):
            boxes[b, n] = (*one.at, *one.shape[::-1], one.data[0], one.data[2])
            numbers[b, n, :NUMBERS] = one.level, one.gain, one.read_noise, one.saturation
            numbers[b, n, NUMBERS : NUMBERS + len(one.linearity)] = one.linearity
    return boxes, numbers


def _planes(signatures: Sequence[Signature], name: str, default: float, dtype: Any) -> np.ndarray:
    """(B, H, W) of a plane of the signatures, `default` for one that has none."""
    planes = [getattr(one, name) for one in signatures]
    planes = [np.full(signatures[0].shape, default, dtype) if plane is None else plane for plane in planes]
    return planes[0][None] if len(planes) == 1 else np.stack(planes)
