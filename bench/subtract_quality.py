"""How close `gpudiff subtract` comes to a perfect template, scene by scene, on pairs with exact truth.

`found` and `false` count the unflagged rows of its table; `perf`, perfect, is what a matched filter with the
true PSF and noise finds in science minus its own noiseless static sky.  `on` counts false rows on streaks,
glints, spikes, halos and ghosts.  Medians over the seeds; the flux figures are of all seeds together.

Under each scene: "pass", or what it did not reach of its goals, for which the worst seed counts: found at least
the perfect template's less 3, at most 10 false, nothing unflagged on artefacts, score std 1 +- 0.02, flux bias
below 1 %; every trail away from the frame's edge found once, its length within 15 % and its angle within 5 degrees
(beside them: of how many twice the bound of Cramer and Rao is within that, and how many a fit to the perfect
difference has so); where nothing changed at most 2 unflagged.
Ten seconds a pair of 1024 px: 15 minutes for all scenes and five seeds.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _common as common
import _hard_table as hard_table
import _quality as quality
import numpy as np

from gpudiff.model.hard_scene import SCENES

HEAD = "scene            found perf /asked  false perf   on  score std on stars  bias %   +-   pull  lost %   wall"
ROW = (
    "{scene:<16} {found:>5g} {perfect_found:>4g} /{asked:<5g} {false:>6g} {perfect_false:>4g} "
    "{false_on_artefact:>4g}  {score_std:>9.3f} {score_std_on_stars:>8.3f}  {bias_percent:>6.2f} "
    "{bias_error_percent:>4.2f}  {pull_width:>5.2f}  {lost_percent:>6.2f}  {wall_s:>5.1f}"
)


def measure(folder: Path, scene: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One pair's figures, or the exit status with which it was refused."""
    pair = folder / f"{scene}-{seed}"
    gpudiff: list[str | Path] = [sys.executable, "-m", "gpudiff"]
    shape = ["--size", str(options.size), "--seed", str(seed), *options.simulate.split()]
    if not (pair / "perfect.fits").exists():
        common.timed([*gpudiff, "simulate", "--scene", scene, "--output", pair, *shape, "--force"])
    outputs = ["-o", pair / "difference.fits", "--sources", pair / "sources.ecsv"]
    try:
        files = [pair / "science.fits", pair / "template.fits"]
        run = common.timed([*gpudiff, "subtract", *files, *outputs, *options.subtract.split()])
    except subprocess.CalledProcessError as error:
        return {"scene": scene, "seed": seed, "refused": error.returncode}
    judged = quality.judge(pair, pair / "difference.fits", pair / "sources.ecsv")
    return {"scene": scene, "seed": seed, **judged, "wall_s": round(run.wall_s, 3)}


def summary(scene: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds of one scene."""
    done = [row for row in rows if "refused" not in row]
    if not done:
        return {"scene": scene, "refused": len(rows)}
    flat = [{**row, **{f"perfect_{k}": v for k, v in row["perfect"].items()}} for row in done]
    names = (
        "found asked false false_on_artefact perfect_found perfect_false score_std score_std_on_stars lost_percent"
    )
    out = {name: statistics.median(row[name] for row in flat) for name in [*names.split(), "wall_s"]}
    ratio, error, pull = ([v for row in done for v in row["fluxes"][key]] for key in ("ratio", "error", "pull"))
    out |= {"pull_mean": _median(pull), "pull_width": _width(pull), **_bias(ratio, error)}
    trails = {key: [v for row in done for v in row["trails"][key]] for key in done[0]["trails"]}
    return {
        "scene": scene,
        "refused": len(rows) - len(done),
        **out,
        **(_trails(trails) if trails["detections"] else {}),
    }


def _trails(each: dict[str, list[float]]) -> dict[str, int]:
    """Numbers of trails, and of the whole ones with a good length or angle.

    `allowed`: whose length or angle the noise lets be as asked, at 2 of its errors
    """
    column = {name: np.array(values, float) for name, values in each.items()}
    once, whole = column["detections"] == 1, column["whole"] == 1
    out = {
        "trails": len(once),
        "trails_once": int(once.sum()),
        "trails_twice": int((column["detections"] > 1).sum()),
        "trails_whole": int(whole.sum()),
        "trails_whole_once": int((whole & once).sum()),
    }
    for name, most in (("length", 0.15), ("angle", 5.0)):
        allowed = whole & (2 * column[f"{name}_bound"] <= most)
        ours, perfect = (whole & (np.abs(column[f"{of}{name}"]) <= most) for of in ("", "perfect_"))
        out |= {
            f"trails_{name}": int(ours.sum()),
            f"trails_{name}_perfect": int(perfect.sum()),
            f"trails_{name}_allowed": int(allowed.sum()),
            f"trails_{name}_of_allowed": int((ours & allowed).sum()),
            f"trails_{name}_perfect_of_allowed": int((perfect & allowed).sum()),
        }
    return out


def _bias(ratio: list[float], error: list[float]) -> dict[str, float]:
    """Percent, the mean weighted by 1 / error^2 without what lies 4 errors from the median, and its own error."""
    value, sigma = np.array(ratio), np.array(error)
    kept = np.abs(value - _median(ratio)) < 4 * sigma
    if not kept.any():
        return {"bias_percent": float("nan"), "bias_error_percent": float("nan")}
    weight = 1 / sigma[kept] ** 2
    mean = float(np.average(value[kept], weights=weight))
    return {"bias_percent": 100 * mean, "bias_error_percent": 100 / float(np.sqrt(weight.sum()))}


def _median(values: list[float]) -> float:
    return float(np.median(values)) if values else float("nan")


def _width(values: list[float]) -> float:
    """Robust standard deviation."""
    return 1.4826 * _median([abs(value - _median(values)) for value in values])


def show(row: dict[str, Any]) -> None:
    """One line of the table, and one on the trails."""
    if "found" not in row:
        print(f"{row['scene']:<16} refused {row['refused']} of {row['refused']}", flush=True)
        return
    print(ROW.format(**row) + (f"  refused {row['refused']}" if row["refused"] else ""), flush=True)
    if "trails" in row:
        print(
            f"{'':<16} trails: {row['trails_once']} of {row['trails']} once, {row['trails_twice']} twice or more; "
            f"of {row['trails_whole']} away from the edge {row['trails_whole_once']} once"
        )
        for name, words in hard_table.TRAILS:
            counts = [row[f"trails_{name}{of}"] for of in ("", "_perfect", "_of_allowed", "_perfect_of_allowed")]
            print(
                f"{'':<16} {words}: {counts[0]} (perfect {counts[1]}) of {row['trails_whole']}, "
                f"{counts[2]} (perfect {counts[3]}) of the {row[f'trails_{name}_allowed']} that the noise allows"
            )
    print(f"{'':<16} {'not reached: ' + '; '.join(row['missed']) if row['missed'] else 'pass'}", flush=True)


def main() -> None:
    parser = common.arguments(__doc__, size=1024, seeds="9301,9302,9303,9304,9305")
    parser.add_argument("--scenes", default=",".join(SCENES), help="comma-separated (all)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="leave pairs and differences there; pairs found there are used"
    )
    parser.add_argument("--subtract", default="", metavar="OPTIONS", help="for gpudiff subtract")
    parser.add_argument("--simulate", default="", metavar="OPTIONS", help="for gpudiff simulate")
    options = parser.parse_args()
    print(f"{common.device()}; {options.size} x {options.size} px; seeds {options.seeds}\n{HEAD}")
    rows, table = [], []
    for scene in options.scenes.split(","):
        with tempfile.TemporaryDirectory() as folder:
            here = options.keep or Path(folder)
            mine = [measure(here, scene, int(seed), options) for seed in options.seeds.split(",")]
        rows += mine
        table.append(summary(scene, mine))
        table[-1]["missed"] = hard_table.missed(scene, mine, table[-1])
        show(table[-1])
    passed = sum(not row["missed"] for row in table)
    print(f"{passed} of {len(table)} scenes reach all their goals")
    said = {"simulate": options.simulate, "subtract": options.subtract}
    common.record(__file__, {"size": options.size, "options": said, "summary": table, "pairs": rows}, options)


if __name__ == "__main__":
    main()
