"""Cutouts as small grey pictures, inside the page itself."""

import base64
import struct
import zlib

import numpy as np

from gpudiff.edges.picture_alert import read_cutout

GAP = 2
MISSING = 20
"""Grey level of pixels without a value."""


def triple(cutouts: tuple[bytes | None, ...]) -> str:
    """A data: URI of a PNG with science, template and difference side by side.

    cutouts : FITS files of the three, or None
    Science and template share one asinh stretch; the difference has its own, mid-grey for zero.
    """
    science, template, difference = (_pixels(one) for one in cutouts)
    sigma = max(_scatter(science)[1], _scatter(template)[1])
    bright = np.nanmax(np.append(np.append(science, template) / sigma, 12.0))
    panels = [_positive(science, sigma, bright), _positive(template, sigma, bright), _signed(difference)]
    height = max(p.shape[0] for p in panels)
    gap = np.full((height, GAP), 128, np.uint8)
    padded = [np.pad(p, ((0, height - p.shape[0]), (0, 0)), constant_values=MISSING) for p in panels]
    return png(np.concatenate([padded[0], gap, padded[1], gap, padded[2]], axis=1)[::-1])


def png(grey: np.ndarray) -> str:
    """A data: URI of an 8-bit grey PNG (ISO/IEC 15948); grey : (H, W) uint8, first row on top."""
    height, width = grey.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = grey
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    ]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def _pixels(cutout: bytes | None) -> np.ndarray:
    """The image in a FITS file, float64; a field of NaN for none."""
    return read_cutout(cutout, "cutout")[0].astype(float) if cutout else np.full((51, 51), np.nan)


def _scatter(values: np.ndarray) -> tuple[float, float]:
    """Median and robust sigma of what is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return 0.0, 1.0
    median = float(np.median(finite))
    return median, max(float(1.4826 * np.median(np.abs(finite - median))), 1e-12)


def _positive(image: np.ndarray, sigma: float, bright: float) -> np.ndarray:
    """Grey levels from 2.5 sigma below the cutout's own sky to `bright` sigma."""
    sky, _ = _scatter(image)
    return _grey(np.arcsinh((image - sky) / sigma / 2.5 + 1) / np.arcsinh(bright / 2.5 + 1))


def _signed(image: np.ndarray) -> np.ndarray:
    _, sigma = _scatter(image)
    top = np.nanmax(np.append(np.abs(image) / sigma, 10.0))
    return _grey(0.5 + 0.5 * np.arcsinh(image / sigma / 3) / np.arcsinh(top / 3))


def _grey(share: np.ndarray) -> np.ndarray:
    levels = np.nan_to_num(np.clip(share, 0, 1) * 255, nan=MISSING)
    return levels.astype(np.uint8)
