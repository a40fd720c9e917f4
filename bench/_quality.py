"""Judges a subtraction by the truth of a simulated pair: found, false, how honest the noise is."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import binary_dilation, zoom
from scipy.signal import fftconvolve

from gpudiff.arrays.components import extrema
from gpudiff.arrays.stamps import stamps
from gpudiff.arrays.trails import Line, Trail, fit_trail
from gpudiff.model.mask import UNUSABLE, bit
from gpudiff.model.tables import flag_names
from gpudiff.science.trails import LEAST_GAIN

NEAR, NEAR_VARIABLE = 3.0, 6.0
"""px within which a detection belongs to a change; a variable star's residual is forgiven a little more."""
UNUSABLE_SHARE = 0.5
"""Of the PSF on unusable pixels, above which nobody is asked to find a change."""
ARTEFACT = int(bit("STREAK", "SUSPECT"))


@dataclass(frozen=True)
class Detections:
    """x, y : px; negative : bool; all (N,)."""

    x: np.ndarray
    y: np.ndarray
    negative: np.ndarray


@dataclass(frozen=True)
class Truth:
    """What changed (`sky`), which of it anyone should find (`asked`), and the perfect difference's planes."""

    sky: Table
    asked: np.ndarray
    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    psf: np.ndarray

    @classmethod
    def read(cls, pair: Path) -> "Truth":
        """From truth.ecsv and perfect.fits of `gpudiff simulate --scene`."""
        rows = Table.read(pair / "truth.ecsv", fill_values=None)
        sky = rows[np.asarray(rows["objectId"]) > 0]
        with fits.open(pair / "perfect.fits") as hdus:
            planes = [np.asarray(hdus[name].data) for name in ("IMAGE", "VARIANCE", "MASK", "PSF")]
        y, x = (np.rint(np.asarray(sky[axis])).astype(int) for axis in "yx")
        on_artefact = binary_dilation(planes[2] & ARTEFACT, iterations=3)[y, x]
        asked = (np.asarray(sky["usable"]) > UNUSABLE_SHARE) & ~on_artefact
        return cls(sky, asked, *planes)

    def distance(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(changes, N) px from each change, a trail being a line."""
        angle = np.radians(np.asarray(self.sky["trailAngle"], float))[:, None]
        dx = x[None] - np.asarray(self.sky["x"])[:, None]
        dy = y[None] - np.asarray(self.sky["y"])[:, None]
        along = dx * np.cos(angle) + dy * np.sin(angle)
        half = np.asarray(self.sky["trailLength"], float)[:, None] / 2
        return np.hypot(along - np.clip(along, -half, half), dy * np.cos(angle) - dx * np.sin(angle))

    def hits(self, detections: Detections) -> np.ndarray:
        """(changes, N) bool: the detection is that change, by place and sign."""
        fading = np.asarray(self.sky["flux"])[:, None] < 0
        return (self.distance(detections.x, detections.y) <= NEAR) & (detections.negative[None] == fading)


def perfect_detections(truth: Truth, threshold: float = 5.0) -> Detections:
    """What the same rule finds by a matched filter with the true PSF and noise in the perfect difference."""
    score = _matched_filter(truth)
    y, x = extrema(score, threshold, _fwhm(truth))
    return Detections(x.astype(float), y.astype(float), score[y, x] < 0)


def _fwhm(truth: Truth) -> float:
    """px, of the true PSF in the middle."""
    return float(np.sqrt((truth.psf[4] > 0.5 * truth.psf[4].max()).sum() * 4 / np.pi))


def _matched_filter(truth: Truth) -> np.ndarray:
    """(H, W) float32 signal to noise; the PSF is that of the ninth of the image."""
    weight = np.where(truth.mask & int(bit(*UNUSABLE)), 0, 1 / truth.variance)
    height, width = weight.shape
    half = truth.psf.shape[1] // 2
    out = np.zeros(weight.shape, np.float32)
    padded, data = (np.pad(plane, half) for plane in (weight, weight * truth.image))
    for n, psf in enumerate(truth.psf):
        rows = slice(n // 3 * height // 3, (n // 3 + 1) * height // 3)
        columns = slice(n % 3 * width // 3, (n % 3 + 1) * width // 3)
        wide = (slice(rows.start, rows.stop + 2 * half), slice(columns.start, columns.stop + 2 * half))
        turned = psf[::-1, ::-1].astype(float)
        signal, power = fftconvolve(data[wide], turned, "valid"), fftconvolve(padded[wide], turned**2, "valid")
        out[rows, columns] = np.where(power > 1e-9 * power.max(), signal / np.sqrt(np.abs(power) + 1e-30), 0)
    return out


def counts(truth: Truth, detections: Detections) -> dict[str, Any]:
    """found (of the changes asked for), false (near nothing), false_on_artefact, and where the false ones are."""
    away = truth.distance(detections.x, detections.y)
    variable = np.asarray(truth.sky["kind"]) == "variable"
    explained = (away <= np.where(variable, NEAR_VARIABLE, NEAR + 1)[:, None]).any(0)
    spoilt = binary_dilation(truth.mask & ARTEFACT, iterations=5)
    on = spoilt[np.rint(detections.y).astype(int), np.rint(detections.x).astype(int)]
    false = ~explained & ~on
    hit = truth.hits(detections).any(1)
    return {
        "found": int((hit & truth.asked).sum()),
        "asked": int(truth.asked.sum()),
        "false": int(false.sum()),
        "false_on_artefact": int((~explained & on).sum()),
        "false_rows": np.flatnonzero(~explained),
        "missed_rows": np.flatnonzero(truth.asked & ~hit),
    }


def fluxes(truth: Truth, rows: Table) -> dict[str, list[float]]:
    """flux / true flux - 1, its error, and (flux - true) / error of point sources found, S/N 8 and more."""
    hit = truth.hits(_detections(rows))
    ratio, error, pull = [], [], []
    for change in np.flatnonzero(hit.any(1) & (np.asarray(truth.sky["trailLength"]) < 1.5)):
        row = rows[int(np.flatnonzero(hit[change])[0])]
        true, snr = float(truth.sky["flux"][change]), float(truth.sky["snr"][change])
        if snr > 8 and truth.asked[change]:
            pull.append((float(row["psfFlux"]) - true) / float(row["psfFluxErr"]))
            ratio.append(float(row["psfFlux"]) / true - 1)
            error.append(float(row["psfFluxErr"]) / abs(true))
    return {"ratio": ratio, "error": error, "pull": pull}


def trails(truth: Truth, rows: Table) -> dict[str, list[float]]:
    """Of each trail of 5 px and more, each a list over them, NaN where there is nothing to measure.

    detections : on it; length, angle : relative error, and error in degrees, where that is one
    perfect_length, perfect_angle : of our fit to the perfect difference with the true PSF, from the true angle
    length_bound, angle_bound : standard errors that no unbiased fit to the perfect difference can beat (`_bound`)
    whole : both its ends lie farther from the edge of the frame than the program flags EDGE
    """
    hit = truth.hits(_detections(rows))
    names = "detections length angle perfect_length perfect_angle length_bound angle_bound whole"
    out: dict[str, list[float]] = {name: [] for name in names.split()}
    for change in np.flatnonzero((np.asarray(truth.sky["trailLength"]) >= 5) & truth.asked):
        on, true = np.flatnonzero(hit[change]), truth.sky[int(change)]
        cut = _cut(truth, int(change))
        perfect, row = _perfect_trail(cut, true), rows[on[0]] if len(on) == 1 else None
        for name, length, angle in (
            ("perfect_", perfect.length if perfect else np.nan, perfect.angle if perfect else np.nan),
            ("", float(row["trailLength"]) if row else np.nan, float(row["trailAngle"]) if row else np.nan),
        ):
            out[f"{name}length"].append(length / float(true["trailLength"]) - 1)
            out[f"{name}angle"].append(abs((angle - float(true["trailAngle"]) + 90) % 180 - 90))
        length_bound, angle_bound = _bound(cut, true)
        out["length_bound"].append(length_bound)
        out["angle_bound"].append(angle_bound)
        out["detections"].append(len(on))
        out["whole"].append(_whole(truth, true))
    return out


@dataclass(frozen=True)
class Cut:
    """A stamp of the perfect difference: y, x of its middle; data, weight, psf as arrays.trails takes them."""

    y: int
    x: int
    data: np.ndarray
    weight: np.ndarray
    psf: np.ndarray


def _cut(truth: Truth, change: int, half: int = 30) -> Cut:
    """Round a change; where others give their light it has no weight."""
    true = truth.sky[change]
    y, x = np.array([round(float(true["y"]))]), np.array([round(float(true["x"]))])
    (height, width), axis = truth.image.shape, np.arange(-half, half + 1)
    known = ((y + axis >= 0) & (y + axis < height))[:, None] & (x + axis >= 0) & (x + axis < width)
    known &= stamps(truth.mask, y, x, half)[0] & int(bit(*UNUSABLE)) == 0
    yy, xx = np.meshgrid(y + axis, x + axis, indexing="ij")
    away = truth.distance(xx.ravel().astype(float), yy.ravel().astype(float))
    known &= (np.delete(away, change, 0) > 2 * _fwhm(truth)).all(0).reshape(known.shape)
    weight = np.where(known, 1 / stamps(truth.variance, y, x, half)[0], 0)
    psf = truth.psf[y[0] * 3 // height * 3 + x[0] * 3 // width].astype(float)
    data = np.where(known, stamps(truth.image, y, x, half)[0], 0)
    return Cut(int(y[0]), int(x[0]), data, weight, psf / psf.sum())


def _perfect_trail(cut: Cut, true: Any) -> Trail | None:
    """The trail fitted to the perfect difference; None when a point explains it as well, by the program's rule."""
    trail = fit_trail(cut.data, cut.weight, cut.psf, float(true["trailAngle"]), LEAST_GAIN)
    return trail if trail and trail.gain >= LEAST_GAIN else None


def _bound(cut: Cut, true: Any) -> tuple[float, float]:
    """(relative error of the length, error of the angle in degrees): Cramer and Rao's bound of a trail.

    From the information on flux, place, length and angle in the sky's noise; its own photons are left out.
    """
    values = [
        float(true["y"]) - cut.y,
        float(true["x"]) - cut.x,
        float(true["trailLength"]),
        float(true["trailAngle"]),
    ]
    line = Line(cut.psf, len(cut.data))
    slopes = line.slopes(np.array([values]), np.arange(1), 4, np.complex128)[0].reshape(5, -1)
    slopes[1:] *= float(true["flux"])
    errors = np.sqrt(np.diag(np.linalg.inv((slopes * cut.weight.ravel()) @ slopes.T)))
    return float(errors[3]) / values[2], float(errors[4])


def _whole(truth: Truth, true: Any) -> bool:
    angle, reach = np.radians(float(true["trailAngle"])), 2 * _fwhm(truth)
    half = 0.5 * float(true["trailLength"]) * np.abs([np.sin(angle), np.cos(angle)]) + reach
    at, size = np.array([float(true["y"]), float(true["x"])]), np.array(truth.image.shape)
    return bool(((at - half >= 0) & (at + half <= size - 1)).all())


def noise(truth: Truth, difference: Path) -> dict[str, float]:
    """Spread of the score on blank sky and on the light of stars, and the percentage of pixels newly lost."""
    with fits.open(difference) as hdus:
        score = np.asarray(hdus["SCORE"].data)
        gone = (hdus["MASK"].data >> hdus["MASK"].header["MP_NO_DATA"] & 1).astype(bool)
    usable = (truth.mask & int(bit(*UNUSABLE))) == 0
    quiet = ~gone & ~binary_dilation(truth.mask != 0, iterations=6) & ~_near_changes(truth)
    light = truth.variance / _floor(truth.variance)
    return {
        "score_std": _spread(score[quiet & (light < 1.04)]),
        "score_std_on_stars": _spread(score[quiet & (light > 1.5)]),
        "lost_percent": 100 * float((gone & usable).mean()),
    }


def _floor(variance: np.ndarray, cell: int = 64) -> np.ndarray:
    """(H, W) what the variance is between the stars: the lowest tenth of each cell."""
    rows, columns = (max(1, side // cell) for side in variance.shape)
    grid = [
        [np.percentile(part, 10) for part in np.array_split(band, columns, axis=1)]
        for band in np.array_split(variance, rows, axis=0)
    ]
    factor = variance.shape[0] / rows, variance.shape[1] / columns
    return zoom(np.array(grid), factor, order=1, grid_mode=True, mode="nearest")


def _near_changes(truth: Truth, radius: int = 14) -> np.ndarray:
    """(H, W) bool: within reach of something that changed."""
    out = np.zeros(truth.mask.shape, bool)
    for row in truth.sky:
        reach = radius + int(row["trailLength"] / 2)
        y, x = round(row["y"]), round(row["x"])
        out[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1] = True
    return out


def _spread(values: np.ndarray) -> float:
    """Robust standard deviation; NaN of fewer than 500 values."""
    if len(values) < 500:
        return float("nan")
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _detections(rows: Table) -> Detections:
    return Detections(*(np.asarray(rows[name], float) for name in "xy"), np.asarray(rows["isNegative"], bool))


def read_sources(path: Path) -> Table:
    """A DIASource table as `gpudiff subtract` wrote it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of units that astropy does not know
        return Table.read(path)


def judge(pair: Path, difference: Path, sources: Path) -> dict[str, Any]:
    """All figures of one subtraction; where the first dozen false and missed ones are, and why missed."""
    truth, all_rows = Truth.read(pair), read_sources(sources)
    rows = all_rows[~np.asarray(all_rows["flagged"], bool)]
    ours, perfect = counts(truth, _detections(rows)), counts(truth, perfect_detections(truth))
    false, missed = ours.pop("false_rows")[:12], ours.pop("missed_rows")
    missed = np.setdiff1d(missed, perfect.pop("missed_rows"))[:12]
    perfect.pop("false_rows")
    return {
        **ours,
        "perfect": perfect,
        **noise(truth, difference),
        "fluxes": fluxes(truth, rows),
        "trails": trails(truth, rows),
        "false_at": [[round(float(rows[name][n]), 1) for name in ("x", "y", "snr")] for n in false],
        "missed_at": [_missed(truth, int(n), all_rows) for n in missed],
    }


def _missed(truth: Truth, change: int, rows: Table) -> list[Any]:
    """Kind, x, y, ideal S/N of a change, and the flags of its detection, or "not detected"."""
    of = truth.sky[change]
    on = np.flatnonzero(truth.hits(_detections(rows))[change])
    why = " ".join(flag_names(rows["flags"][on[0]])) if len(on) else "not detected"
    return [str(of["kind"]), *(round(float(of[name]), 1) for name in ("x", "y", "snr")), why]
