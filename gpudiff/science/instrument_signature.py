"""Instrument signature removal: a raw frame becomes electrons with a variance and a mask."""

import dataclasses

import numpy as np

from gpudiff.arrays.decode import Channel, Marks, Signature, linearised
from gpudiff.arrays.passes import CPU, Device
from gpudiff.model.calibration import Amplifier, Calibration
from gpudiff.model.errors import WrongShape
from gpudiff.model.frame import Frame
from gpudiff.model.mask import bit
from gpudiff.model.provenance import with_digest


def remove_signature(raw: Frame, calibration: Calibration, device: Device = CPU) -> Frame:
    """The calibrated frame: overscan and bias subtracted, made linear, in electrons, divided by the flat, trimmed.

    image : (H, W) float32, electrons at the flat's mean response; variance : photons and the amplifier's read
        noise, (max(S, 0) + (r L')^2) / F^2, with S electrons before the flat F and L' the slope of the linearity
        (Janesick 2001, Scientific Charge-Coupled Devices, section 2.2.4); noise of bias and flat is not in it
    mask : defects and flats below 5 % are BAD, pixels at saturation SAT, non-finite ones NO_DATA; bits of the raw
        frame's own mask stay
    wcs : that of the raw frame, which describes the trimmed image
    gain 1; read noise the median of the amplifiers', saturation the least of theirs, in electrons

    device : where the pixels are decoded

    Raises WrongShape where the calibration does not fit the frame, DeviceFailed.
    """
    _check(raw, calibration)
    channels = [_channel(raw, one) for one in calibration.amplifiers]
    signature = Signature(calibration.shape, channels, calibration.bias, calibration.flat, calibration.defects)
    marks = Marks(*(int(bit(name)) for name in ("SAT", "BAD", "NO_DATA")))
    image, variance, mask = device.decode(raw.image, raw.mask, signature, marks)
    return with_digest(
        dataclasses.replace(
            raw,
            image=image,
            variance=variance,
            mask=mask,
            gain=1.0,
            read_noise=float(np.median([one.read_noise for one in calibration.amplifiers])),
            saturation=min(_saturation(one) for one in channels),
            unit="electron",
            zero_point=None,
            calibrated=True,
        )
    )


def _channel(raw: Frame, one: Amplifier) -> Channel:
    """The amplifier with the level that its overscan shows."""
    level = _level(raw, one)
    return Channel(one.data, one.at, level, one.gain, one.read_noise, one.saturation, one.linearity)


def _saturation(one: Channel) -> float:
    """Electrons above the bias."""
    return float(one.gain * linearised(np.array(one.saturation - one.level), one.linearity)[0])


def _level(raw: Frame, one: Amplifier) -> float:
    """The mean of the overscan without cosmic rays, ADU; `level` where there is none, or none with a value."""
    if one.overscan is None:
        return one.level
    x0, x1, y0, y1 = one.overscan
    rows = raw.image[y0:y1, x0:x1].astype(np.float64)
    rows = rows[np.isfinite(rows)]
    if len(rows) == 0:
        return one.level
    middle = np.median(rows)
    spread = 1.4826 * np.median(np.abs(rows - middle))
    kept = np.abs(rows - middle) <= max(5 * spread, 5.0)
    return float(rows[kept].mean()) if kept.any() else float(middle)


def _check(raw: Frame, calibration: Calibration) -> None:
    height, width = raw.image.shape
    for one in calibration.amplifiers:
        for what, box in (("data", one.data), ("overscan", one.overscan or one.data)):
            x0, x1, y0, y1 = box
            if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
                raise WrongShape(
                    f"{raw.name}: the image is {raw.image.shape}, {calibration.name} expects {what} in {list(box)}"
                )
    for name in ("bias", "flat", "defects"):
        plane = getattr(calibration, name)
        if plane is not None and plane.shape != calibration.shape:
            raise WrongShape(f"{calibration.name}: {name} is {plane.shape}, expected {calibration.shape}")
