"""How close a subtraction comes to one with a perfect template, on simulated pairs with a truth table.

Three counts a pair, all by the transients of the truth table: `floor`, what evalpair.py finds in the
perfect-template difference; `difference`, what it finds in ours; `table`, the unflagged rows of our own
DIASource table.  False detections are those near nothing that changed.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import _common as common
import numpy as np
from astropy.io import fits
from astropy.table import Table

TRANSIENTS = ("field", "host", "nearstar")
SHOWN = (
    "seed  floor       false  difference  false  table  false  blank std  score std  lost %",
    "{seed:<5} {floor:<11} {floor_false:<6} {difference:<11} {difference_false:<6} {table:<6} "
    "{table_false:<6} {blank_std:<10.4f} {score_std:<10.4f} {lost_percent:.2f}",
)


def own_counts(pair: Path, sources: Path) -> tuple[int, int]:
    """(transients found, false) among the unflagged rows of a DIASource table.

    Found: a row within 3 px with the right sign.  False: nothing of the truth table within 4 px, 6 px for a
    variable, as evalpair.py counts.
    """
    rows = Table.read(sources)
    rows = rows[~np.asarray(rows["flagged"], bool)]
    truth = Table.read(pair / "truth.csv")
    away = np.hypot(
        np.asarray(rows["x"])[None] - np.asarray(truth["x"])[:, None],
        np.asarray(rows["y"])[None] - np.asarray(truth["y"])[:, None],
    )
    kind, flux = np.asarray(truth["kind"]), np.asarray(truth["flux_adu"])
    sign = np.where(np.asarray(rows["isNegative"], bool), -1, 1)
    hit = (away <= 3) & (sign[None] == np.sign(flux)[:, None])
    explained = (away <= np.where(kind == "variable", 6, 4)[:, None]).any(0)
    return int(hit.any(1)[np.isin(kind, TRANSIENTS)].sum()), int((~explained).sum())


def score_std(path: Path) -> float:
    """Robust standard deviation of the score where there is no detection."""
    with fits.open(path) as hdus:
        score, mask = hdus["SCORE"].data, hdus["MASK"].data
        names = {name: hdus["MASK"].header[f"MP_{name}"] for name in ("DETECTED", "DETECTED_NEGATIVE", "NO_DATA")}
    usable = score[(mask & sum(1 << bit for bit in names.values())) == 0]
    return float(1.4826 * np.median(np.abs(usable - np.median(usable))))


def measure(folder: Path, size: int, seed: int) -> dict:
    """One pair's figures."""
    pair = common.make_pair(folder, size, seed)
    floor = common.score(pair, pair / "ideal.fits", "--ref-noise", "none")
    run = common.subtract(pair, "white")
    common.subtract(pair, "plain", "--no-decorrelate")
    convolved = str(fits.getheader(pair / "plain.fits").get("CONVOLVE", "TEMPLATE"))
    way = "sci" if convolved.startswith("SCI") else "ref"
    ours = common.score(pair, pair / "plain.fits", "--convolved", way)
    table, table_false = own_counts(pair, pair / "white.ecsv")
    return {
        "seed": seed,
        "convolved": convolved,
        "floor": floor["found_transient"],
        "floor_false": floor["fp"],
        "difference": ours["found_transient"],
        "difference_false": ours["fp"],
        "table": table,
        "table_false": table_false,
        "blank_std": ours["blank_std"],
        "score_std": score_std(pair / "white.fits"),
        "lost_percent": 100 * ours["lost_frac"],
        "leak_percent": {k: 100 * v for k, v in ours.items() if k.startswith("star_flux_leak")},
        "floor_leak_percent": {k: 100 * v for k, v in floor.items() if k.startswith("star_flux_leak")},
        "wall_s": run.wall_s,
    }


def share_of_floor(rows: list[dict], key: str) -> float:
    """Transients found over those in the perfect-template difference, all pairs together."""
    of_floor = sum(common.found(row["floor"])[0] for row in rows)
    ours = sum(row[key] if isinstance(row[key], int) else common.found(row[key])[0] for row in rows)
    return ours / of_floor


def main() -> int:
    parser = common.arguments(__doc__, size=1024, seeds="61,62,63")
    options = parser.parse_args()
    print(f"{common.device()}; {options.size} x {options.size} px\n{SHOWN[0]}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, options.seeds.split(",")):
            rows.append(measure(Path(folder), options.size, seed))
            print(SHOWN[1].format(**rows[-1]), flush=True)
    summary = {
        "difference_over_floor": share_of_floor(rows, "difference"),
        "table_over_floor": share_of_floor(rows, "table"),
        "median_blank_std": statistics.median(row["blank_std"] for row in rows),
        "median_score_std": statistics.median(row["score_std"] for row in rows),
        "median_wall_s": statistics.median(row["wall_s"] for row in rows),
    }
    print("\n".join(f"{name}: {value:.4g}" for name, value in summary.items()))
    if not options.no_record:
        print(common.record(__file__, {"size": options.size, "summary": summary, "pairs": rows}))
    return 0 if summary["difference_over_floor"] >= 0.9 else 1


if __name__ == "__main__":
    sys.exit(main())
