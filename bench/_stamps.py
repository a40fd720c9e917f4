"""Cutouts of real alerts as frames: pixels, a PSF or only its width, sometimes the variance."""

from pathlib import Path

import numpy as np
from astropy.table import Table

from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Difference, Frame, FrameId, Observation
from gpudiff.model.tables import Table as Sources
from gpudiff.science.subtract import subtract

NANOJANSKY = 31.4
"""AB magnitude of 1 nJy."""
MOFFAT = 3.0
"""Exponent of the PSF that is made of a width alone."""
CENTRE = 3.0
"""px of the middle within which a detection is the alert's."""


def frame(name: str, image: np.ndarray, psf: np.ndarray, **more: object) -> Frame:
    """A frame of a cutout, its mid-pixel the alert."""
    return Frame(name, Observation(FrameId(1, 0, 0)), np.asarray(image, np.float32), psf=psf, **more)


def rubin(folder: Path) -> list[tuple[str, Frame, Frame, np.ndarray, np.ndarray]]:
    """(name, science, template, the observatory's difference, its sigma) of every stamp."""
    out = []
    with np.load(folder / "rubin_stamps" / "stamps.npz") as planes:
        for name in sorted({key[:2] for key in planes}):
            pair = [
                frame(
                    f"{name}_{which}",
                    planes[f"{name}_{which}"],
                    np.asarray(planes[f"{name}_{which}_psf"], float),
                    variance=np.asarray(planes[f"{name}_{which}_var"], np.float32),
                    unit="nJy",
                    zero_point=NANOJANSKY,
                )
                for which in "ST"
            ]
            theirs, sigma = planes[f"{name}_D"], np.sqrt(planes[f"{name}_D_var"])
            out.append((name, *pair, theirs.astype(float), sigma.astype(float)))
    return out


def rubin_residual(science: Frame, template: Frame, theirs: np.ndarray, sigma: np.ndarray) -> dict[str, float]:
    """How our difference of a stamp compares with the observatory's.

    template_peak : brightest pixel of the template over the difference's noise
    light : pixels in which the matched template exceeds 3 sigma
    rms : of (ours - theirs) / sigma over them; median : of its absolute value over all pixels
    ours, theirs : rms of each difference over sigma on that light
    """
    settings = override(Configuration(), "match", threads=1, convolve="template", align="none")
    made, _ = subtract(science, template, settings)
    known = np.isfinite(made.image) & np.isfinite(theirs)
    light = known & (made.matched > 3 * sigma)
    off = (made.image - theirs) / sigma
    return {
        "template_peak": float(np.nanmax(template.image) / np.median(sigma)),
        "light": int(light.sum()),
        "rms": _rms(off[light]),
        "median": float(np.median(np.abs(off[known]))),
        "ours": _rms((made.image / sigma)[light]),
        "theirs": _rms((theirs / sigma)[light]),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else float("nan")


def ztf(folder: Path, step: int = 1) -> list[tuple[Table.Row, Frame, Frame]]:
    """(metadata, science, template) of each `step`th stamp, with a Moffat PSF as wide as its brightest source."""
    meta = Table.read(folder / "ztf_stamps" / "meta.csv")[::step]
    with np.load(folder / "ztf_stamps" / "stamps.npz") as planes:
        science, template = ([_seen(name, image) for image in planes[name][::step]] for name in "ST")
    return list(zip(meta, science, template, strict=True))


def _seen(name: str, image: np.ndarray) -> Frame:
    return frame(name, image, moffat(width(image)))


def width(image: np.ndarray, rim: int = 9, half: int = 7) -> float:
    """FWHM of the brightest source off the rim, by the area above half its peak, between 1.5 and 6 px."""
    light = np.nan_to_num(image - np.nanmedian(image))
    inner = light[rim:-rim, rim:-rim]
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    cut = light[y + rim - half : y + rim + half + 1, x + rim - half : x + rim + half + 1]
    return float(np.clip(np.sqrt((cut > cut.max() / 2).sum() * 4 / np.pi), 1.5, 6.0))


def moffat(fwhm: float, half: int = 12) -> np.ndarray:
    """(2 half + 1, ...) PSF of unit sum."""
    axis = np.arange(-half, half + 1)
    alpha2 = (fwhm / 2) ** 2 / (2 ** (1 / MOFFAT) - 1)
    image = (1 + (axis[:, None] ** 2 + axis**2) / alpha2) ** -MOFFAT
    return image / image.sum()


def ztf_detection(meta: Table.Row, science: Frame, template: Frame) -> dict[str, float | bool]:
    """Our detection at the middle of a stamp against the alert's: {} where there is none.

    sign : the same, isdiffpos being t or 1 where the science image is the brighter
    flux_ratio : ours over that of magpsf, NaN without a zero point
    """
    settings = override(Configuration(), "match", threads=1, align="none")
    rows = subtract(science, template, settings)[1]
    near = _central(rows, science)
    if near is None:
        return {}
    positive = str(meta["isdiffpos"]) in ("t", "1", "True")
    zero, magnitude = meta["magzpsci"], meta["magpsf"]
    theirs = float("nan") if np.ma.is_masked(zero) else 10 ** (-0.4 * (float(magnitude) - float(zero)))
    return {
        "sign": bool(rows["isNegative"][near]) != positive,
        "flagged": bool(rows["flagged"][near]),
        "flux_ratio": abs(float(rows["psfFlux"][near])) / theirs,
    }


def _central(rows: Sources, science: Frame) -> int | None:
    """The strongest detection near the middle."""
    y, x = ((side - 1) / 2 for side in science.image.shape)
    near = np.flatnonzero(np.hypot(rows["x"] - x, rows["y"] - y) < CENTRE)
    return int(near[np.argmax(np.abs(rows["snr"][near]))]) if len(near) else None


def at(difference: Difference, y: int, x: int, radius: float) -> np.ndarray:
    """(H, W) bool: pixels with a value within `radius` of a place."""
    rows, columns = np.indices(difference.image.shape)
    return (np.hypot(rows - y, columns - x) <= radius) & np.isfinite(difference.image)
