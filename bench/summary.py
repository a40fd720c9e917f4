"""The plot of the README, from the latest records of standard.py, subtract_quality.py and subtract_speed.py.

Upper row: what gpudiff and its peers make of the same pairs of 1024 px: false detections, and wall time.
Lower row: the hard scenes: changes found as a share of what a perfect template finds, and false detections; the
goals are the grey lines.  Writes bench/results/summary.png and prints the README's tables (which
tests/readme_tables.py puts there).
"""

import argparse
from typing import Any

import matplotlib
from _measured import RESULTS, latest, markdown

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

OURS, OTHER, GOAL, FLOOR = "#1f6f8b", "#b8b0a4", "#8a8a8a", "#d95f02"
MOST_FALSE = 10
"""Goal of a hard scene."""


def bars(axes: Axes, names: list[str], values: list[float], said: list[str], title: str) -> None:
    """Horizontal bars, ours in colour, with what is said of each behind it."""
    colours = [OURS if name.startswith("gpudiff") else FLOOR if name == "perfect" else OTHER for name in names]
    axes.barh(names, values, color=colours)
    for row, (value, words) in enumerate(zip(values, said, strict=True)):
        axes.annotate(f" {words}", (value, row), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    axes.set_title(title, fontsize=9, loc="left")


def beside_false(axes: Axes, record: dict[str, Any]) -> None:
    """False detections of perfect, gpudiff and the peers."""
    peers = record.get("peers") or {}
    names = [name for name in peers if "own" not in name]
    values = [peers[name]["fp"] for name in names]
    said = [f"{peers[name]['fp']:.0f} false, {peers[name]['found']:.0f} found" for name in names]
    pairs = max((peers[name]["pairs"] for name in names), default=0)
    bars(axes, names, values, said, f"false detections, pairs of 1024 px: {pairs}")


def beside_time(axes: Axes, record: dict[str, Any]) -> None:
    """Wall seconds at 1024 px, with the ratio to ours."""
    rows = [row for row in record.get("rows", []) if row["size"] == 1024]
    ratio = [f", {row['ratio']['wall_s']:.0f} x" if "ratio" in row else "" for row in rows]
    said = [f"{row['wall_s']:.1f} s{times}" for row, times in zip(rows, ratio, strict=True)]
    values = [row["wall_s"] for row in rows]
    bars(axes, [row["name"] for row in rows], values, said, "wall time of one pair of 1024 px, s")


def scenes(found: Axes, false: Axes, record: dict[str, Any]) -> None:
    """Share of the perfect template's changes that were found, and false detections, per scene."""
    rows = [row for row in record.get("summary", []) if "found" in row]
    place = range(len(rows))
    for y, row in enumerate(rows):
        if row["perfect_found"]:
            found.plot(100 * row["found"] / row["perfect_found"], y, "o", color=OURS)
            found.plot(100 - 300 / row["perfect_found"], y, "|", color=GOAL, ms=9)
    found.axvline(100, color=FLOOR, lw=1)
    found.set_title("hard scenes: found, % of perfect; | is the goal", fontsize=9, loc="left")
    false.plot([row["false"] + row["false_on_artefact"] for row in rows], place, "o", color=OURS, label="gpudiff")
    false.plot([row["perfect_false"] for row in rows], place, "x", color=FLOOR, label="perfect")
    false.axvline(MOST_FALSE, color=GOAL, lw=1)
    false.legend(fontsize=7, frameon=False)
    false.set_title("hard scenes: unflagged false, a frame", fontsize=9, loc="left")
    for axes, names in ((found, [row["scene"] for row in rows]), (false, [""] * len(rows))):
        axes.set_yticks(place, names)
        axes.set_ylim(len(rows) - 0.5, -0.5)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    standard, quality, speed = (latest(name) for name in ("standard", "subtract_quality", "subtract_speed"))
    figure, axes = plt.subplots(
        2, 2, figsize=(9, 6.6), layout="constrained", gridspec_kw={"height_ratios": (0.45, 1)}
    )
    beside_false(axes[0, 0], standard)
    beside_time(axes[0, 1], speed)
    scenes(axes[1, 0], axes[1, 1], quality)
    for one in axes.flat:
        one.tick_params(labelsize=8)
        one.spines[["top", "right"]].set_visible(False)
    dates = [record["date"][:10] for record in (standard, quality, speed) if record]
    figure.supxlabel(f"measured {', '.join(sorted(set(dates)))}; no GPU", fontsize=7, color=GOAL)
    figure.savefig(RESULTS / "summary.png", dpi=100, metadata={"Software": None})
    print(f"{markdown()}\n\n{RESULTS / 'summary.png'}")


if __name__ == "__main__":
    main()
