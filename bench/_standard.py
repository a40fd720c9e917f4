"""The standard table: what is measured on one simulated pair, and what each figure has to reach."""

import contextlib
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import _common as common
import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.ndimage import binary_dilation

TRANSIENTS = ("field", "host", "nearstar")
EDGE = 20
"""px along the rim that evalpair.py leaves out."""
BINS = ("20-100", "100-500", ">500")
"""evalpair.py's bins of static stars, by peak over sigma of the sky."""
Measured = dict[str, Any]


@dataclass(frozen=True)
class Goal:
    """One row of the table.

    ours, perfect : the figure in what `measure` returns; perfect is None where there is nothing to compare with
    holds : (ours, perfect) -> the goal is reached; None: a figure without a goal
    """

    name: str
    wanted: str
    ours: Callable[[Measured], float]
    perfect: Callable[[Measured], float] | None
    holds: Callable[[float, float], bool] | None


def measure(pair: Path, options: list[str], repeats: int) -> Measured:
    """Everything about one pair; options : of `gpudiff subtract`.

    floor : evalpair.py on the perfect-template difference; plain, white : on ours, before and after decorrelation
    left_out : on ours with every star left out of the fit that subtracted it (bench/_held_out.py); absent for an
        algorithm that fits no stars, and with options that a fit without some stars does not take
    """
    runs = [common.subtract(pair, "white", *options) for _ in range(repeats)]
    common.subtract(pair, "plain", "--no-decorrelate", *options)
    convolved = str(fits.getheader(pair / "plain.fits").get("CONVOLVE", "TEMPLATE"))
    way = "sci" if convolved.startswith("SCI") else "ref"
    measured: Measured = {
        "convolved": convolved,
        "floor": common.score(pair, pair / "ideal.fits", "--ref-noise", "none"),
        "plain": common.score(pair, pair / "plain.fits", "--convolved", way),
        "white": common.score(pair, pair / "white.fits", "--convolved", way, "--ref-noise", "white"),
        "table": own_counts(pair, pair / "white.ecsv"),
        "blank": on_blank_sky(pair, pair / "white.fits"),
        "lost_percent": newly_lost(pair, pair / "white.fits"),
        "cost": common.median(runs),
    }
    held = pair / "left_out.fits"
    command = [sys.executable, common.ROOT / "bench" / "_held_out.py", pair, held, *options]
    with contextlib.suppress(subprocess.CalledProcessError):
        common.timed(command)
        measured["left_out"] = common.score(pair, held, "--convolved", way)
    return measured


def own_counts(pair: Path, sources: Path) -> dict[str, int]:
    """Transients `found`, and `fp`, among the unflagged rows of a DIASource table.

    Found: a row within 3 px with the right sign.  False: nothing of the truth table within 4 px, 6 px for a
    variable, as evalpair.py counts.
    """
    rows = Table.read(sources)
    rows = rows[~np.asarray(rows["flagged"], bool)]
    truth = Table.read(pair / "truth.csv")
    away = distances(truth, rows)
    kind = np.asarray(truth["kind"])
    explained = (away <= np.where(kind == "variable", 6, 4)[:, None]).any(0)
    hit = matches(truth, rows).any(1) & reachable(pair, truth)
    return {"found": int(hit[np.isin(kind, TRANSIENTS)].sum()), "fp": int((~explained).sum())}


def distances(truth: Table, rows: Table) -> np.ndarray:
    """(changes, rows) px."""
    dx, dy = (np.asarray(rows[axis])[None] - np.asarray(truth[axis])[:, None] for axis in "xy")
    return np.hypot(dx, dy)


def matches(truth: Table, rows: Table) -> np.ndarray:
    """(changes, rows) bool: within 3 px and of the same sign."""
    sign = np.where(np.asarray(rows["isNegative"], bool), -1, 1)
    return (distances(truth, rows) <= 3) & (sign[None] == np.sign(np.asarray(truth["flux_adu"]))[:, None])


def reachable(pair: Path, truth: Table) -> np.ndarray:
    """(changes,) bool: not on the grown input masks nor on the rim, as evalpair.py asks."""
    mask = binary_dilation(masked(pair), iterations=4)
    mask[:EDGE] = mask[-EDGE:] = mask[:, :EDGE] = mask[:, -EDGE:] = True
    y, x = (np.rint(np.asarray(truth[axis])).astype(int) for axis in "yx")
    return ~mask[y, x]


def masked(pair: Path) -> np.ndarray:
    """(H, W) bool: masked in the science image or the template."""
    return (fits.getdata(pair / "mask_sci.fits") | fits.getdata(pair / "mask_ref.fits")) > 0


def newly_lost(pair: Path, difference: Path) -> float:
    """Percentage of the pixels without a value in the difference though neither input masks them, rim left out."""
    lost = ~np.isfinite(fits.getdata(difference, "IMAGE")) & ~masked(pair)
    return 100 * float(lost[EDGE:-EDGE, EDGE:-EDGE].mean())


def on_blank_sky(pair: Path, difference: Path) -> dict[str, float]:
    """Standard deviations of the difference over its own sigma and of the score where the truth has sky alone."""
    with fits.open(difference) as hdus:
        image, variance, score = (np.asarray(hdus[name].data) for name in ("IMAGE", "VARIANCE", "SCORE"))
    light = fits.getdata(pair / "srcmodel_sci.fits") > 0.3 * np.sqrt(fits.getdata(pair / "var_sci.fits"))
    away = light | binary_dilation(masked(pair) | ~np.isfinite(image), iterations=6)
    for row in Table.read(pair / "truth.csv"):
        y, x = round(row["y"]), round(row["x"])
        away[max(0, y - 12) : y + 13, max(0, x - 12) : x + 13] = True
    away[:EDGE] = away[-EDGE:] = away[:, :EDGE] = away[:, -EDGE:] = True
    ratio = image[~away] / np.sqrt(variance[~away])
    return {"difference_std": float(ratio.std()), "score_std": float(score[~away].std())}


def goals(size: int) -> list[Goal]:
    """The rows of the table for pairs of that size."""
    more = 2 if size <= 2048 else 3
    rows = [
        _count("found, difference", "plain", "found", "perfect - 1", lambda o, p: o >= p - 1),
        _count("found, decorrelated", "white", "found", "perfect - 1", lambda o, p: o >= p - 1),
        _count("found, own table", "table", "found", "perfect - 2", lambda o, p: o >= p - 2),
        _count("false, difference", "plain", "fp", f"perfect + {more}", lambda o, p: o <= p + more),
        _count("false, decorrelated", "white", "fp", f"perfect + {more}", lambda o, p: o <= p + more),
        _count("false, own table", "table", "fp", f"perfect + {more}", lambda o, p: o <= p + more),
        Goal("newly lost, %", "0.5 at most", lambda m: m["lost_percent"], None, lambda o, _: o <= 0.5),
    ]
    for name, room in zip(BINS, (0.005, 0.005, 0.02), strict=True):
        rows.append(_stars(f"chi of stars {name}", f"star_chi_rms[{name}]", 1.0, f"perfect + {room}", room))
    return [*rows, *_leaks(), *_noise(), *_costs(size)]


def _count(name: str, of: str, key: str, wanted: str, holds: Callable[[float, float], bool]) -> Goal:
    return Goal(name, wanted, lambda m: m[of][key], lambda m: m["floor"][key], holds)


def _stars(name: str, key: str, unit: float, wanted: str, room: float) -> Goal:
    """Of static stars left out of the fit; of all of them where there is no such difference."""
    ours, perfect = _get("left_out", key, unit), _get("floor", key, unit)
    return Goal(name, wanted, ours, perfect, lambda o, p: not o > p + room)


def _get(of: str, key: str, unit: float) -> Callable[[Measured], float]:
    return lambda m: unit * m.get(of, m["plain"]).get(key, float("nan"))


def _leaks() -> list[Goal]:
    key = "star_flux_leak_std[>500]"
    perfect = _get("floor", key, 100)
    return [
        Goal("leak > 500, %", "1.05 x perfect", _get("plain", key, 100), perfect, lambda o, p: not o > 1.05 * p),
        Goal("leak, left out, %", "", _get("left_out", key, 100), perfect, None),
    ]


def _noise() -> list[Goal]:
    def near_one(ours: float, _: float) -> bool:
        return abs(ours - 1) <= 0.005

    return [
        Goal("std of D / sigma", "1 +- 0.005", lambda m: m["blank"]["difference_std"], None, near_one),
        Goal("std of the score", "1 +- 0.005", lambda m: m["blank"]["score_std"], None, near_one),
    ]


def _costs(size: int) -> list[Goal]:
    seconds = {2048: 1.5, 4096: 3.5}.get(size)
    memory = 0.8 if size == 4096 else None
    return [
        _cost("wall, s", "wall_s", 1, seconds),
        _cost("CPU, s", "cpu_s", 1, None),
        _cost("memory, GB", "peak_mb", 1024, memory),
    ]


def _cost(name: str, key: str, unit: float, limit: float | None) -> Goal:
    wanted = "" if limit is None else f"{limit} at most"
    holds = None if limit is None else lambda ours, _: ours <= limit
    return Goal(name, wanted, lambda m: m["cost"][key] / unit, None, holds)


def pulls(pair: Path, sources: Path) -> np.ndarray:
    """(N, 3) psfFlux, its error, true flux of the injected point sources that unflagged rows match."""
    rows, truth = Table.read(sources), Table.read(pair / "truth.csv")
    rows = rows[~np.asarray(rows["flagged"], bool)]
    truth = truth[np.isin(np.asarray(truth["kind"]), TRANSIENTS)]
    hit = matches(truth, rows)
    change = np.flatnonzero(hit.any(1))
    row = np.where(hit, distances(truth, rows), np.inf)[change].argmin(1)
    columns = rows["psfFlux"][row], rows["psfFluxErr"][row], truth["flux_adu"][change]
    return np.array([np.asarray(column, float) for column in columns]).T


def photometry(measured: np.ndarray) -> dict[str, float]:
    """Bias in percent, weighted as signal to noise squared, and width of (flux - true) / error, 4 sigma clipped.

    With their standard errors.  measured : from `pulls`
    """
    flux, error, true = measured.T
    pull = (flux - true) / error
    kept = np.abs(pull - np.median(pull)) < 4
    weight = (true / error)[kept] ** 2
    count = int(kept.sum())
    return {
        "injections": len(pull),
        "clipped": len(pull) - count,
        "bias_percent": 100 * float(np.average((flux / true)[kept] - 1, weights=weight)),
        "bias_error": 100 / float(np.sqrt(weight.sum())),
        "pull_mean": float(pull[kept].mean()),
        "pull_width": float(pull[kept].std()),
        "pull_width_error": float(pull[kept].std() / np.sqrt(2 * count)),
    }
