"""Instrument signature removal: a raw frame becomes electrons with a variance and a mask."""

import dataclasses

import numpy as np

from gpudiff.model.calibration import Amplifier, Calibration
from gpudiff.model.errors import WrongShape
from gpudiff.model.frame import Frame
from gpudiff.model.mask import bit
from gpudiff.model.provenance import with_digest

LEAST_FLAT = 0.05
"""A pixel that sees less than this share of the light is no pixel."""


def remove_signature(raw: Frame, calibration: Calibration) -> Frame:
    """The calibrated frame: overscan and bias subtracted, made linear, in electrons, divided by the flat, trimmed.

    image : (H, W) float32, electrons at the flat's mean response; variance : photons and the amplifier's read
        noise, (max(S, 0) + (r L')^2) / F^2, with S electrons before the flat F and L' the slope of the linearity
        (Janesick 2001, Scientific Charge-Coupled Devices, section 2.2.4); noise of bias and flat is not in it
    mask : defects and flats below 5 % are BAD, pixels at saturation SAT, non-finite ones NO_DATA; bits of the raw
        frame's own mask stay
    wcs : that of the raw frame, which describes the trimmed image
    gain 1; read noise the median of the amplifiers', saturation the least of theirs, in electrons

    Raises WrongShape where the calibration does not fit the frame.
    """
    _check(raw, calibration)
    image = np.empty(calibration.shape, np.float32)
    variance, mask = np.empty_like(image), np.zeros(calibration.shape, np.int32)
    levels = [_place(raw, calibration, one, image, variance, mask) for one in calibration.amplifiers]
    _divide(image, variance, mask, calibration)
    bad = ~(np.isfinite(image) & np.isfinite(variance))
    mask[bad] |= bit("NO_DATA")
    image[bad], variance[bad] = 0, 1
    return with_digest(
        dataclasses.replace(
            raw,
            image=image,
            variance=variance,
            mask=mask,
            gain=1.0,
            read_noise=float(np.median([one.read_noise for one in calibration.amplifiers])),
            saturation=min(levels),
            unit="electron",
            zero_point=None,
            calibrated=True,
        )
    )


def _place(
    raw: Frame,
    calibration: Calibration,
    one: Amplifier,
    image: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
) -> float:
    """Write one amplifier's electrons, variance and mask; its saturation in electrons above the bias."""
    x0, x1, y0, y1 = one.data
    (x, y), (height, width) = one.at, one.shape
    here = np.s_[y : y + height, x : x + width]
    counts = raw.image[y0:y1, x0:x1].astype(np.float64)
    mask[here][counts >= one.saturation] |= bit("SAT")
    if raw.mask is not None:
        mask[here] |= raw.mask[y0:y1, x0:x1]
    level = _level(raw, one)
    signal = counts - level
    if calibration.bias is not None:
        signal -= calibration.bias[here]
    linear, slope = _linear(signal, one.linearity)
    electrons = one.gain * linear
    image[here] = electrons
    variance[here] = np.maximum(electrons, 0) + (one.read_noise * slope) ** 2
    return float(one.gain * _linear(np.array(one.saturation - level), one.linearity)[0])


def _level(raw: Frame, one: Amplifier) -> float:
    """The mean of the overscan without cosmic rays, ADU; `level` where there is none."""
    if one.overscan is None:
        return one.level
    x0, x1, y0, y1 = one.overscan
    rows = raw.image[y0:y1, x0:x1].astype(np.float64)
    middle = np.median(rows)
    spread = 1.4826 * np.median(np.abs(rows - middle))
    kept = np.abs(rows - middle) <= max(5 * spread, 5.0)
    return float(rows[kept].mean()) if kept.any() else float(middle)


def _linear(signal: np.ndarray, coefficients: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(c1 s + c2 s^2 + ..., its slope) of the signal s; below zero the slope is c1."""
    polynomial = np.polynomial.Polynomial([0.0, *coefficients])
    above = np.maximum(signal, 0)
    return polynomial(above) + coefficients[0] * np.minimum(signal, 0), polynomial.deriv()(above)


def _divide(image: np.ndarray, variance: np.ndarray, mask: np.ndarray, calibration: Calibration) -> None:
    if calibration.defects is not None:
        mask[calibration.defects] |= bit("BAD")
    if calibration.flat is None:
        return
    dark = ~(calibration.flat >= LEAST_FLAT)
    mask[dark] |= bit("BAD")
    flat = np.where(dark, 1, calibration.flat)
    image /= flat
    variance /= flat**2


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
