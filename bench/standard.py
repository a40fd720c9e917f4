"""The standard table: how close `gpudiff subtract` comes to a perfect template, and to what was promised.

For every seed a pair of simpair.py is subtracted and judged by evalpair.py, which is not ours, and by the truth:
found and false at 5 sigma on the difference as it is and decorrelated, and in the own table (unflagged rows);
area newly lost; chi of static stars, each left out of the fit that subtracted it (ten parts, nine of them fitted);
flux left at the brightest; how honest the noise is; time and memory of the whole command.  "perfect" is the
difference with a perfect template on the same pair.  Then fluxes of injected point sources of signal to noise 8
to 60, and at 1024 px the peers that bench/peers.sh installs.

"pass": on every seed; "mostly": on more than half of them; "FAIL": on fewer.  On two idle cores, for the five
seeds of the default: 6 minutes for 2048 px, 25 for 4096, 4 for the injections, 3 for each seed of the peers.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import _common as common
import _peers as peers
import _standard as standard
import numpy as np

INJECTED = ("--snr-lo", "8", "--snr-hi", "60")
"""Of simpair.py.  100 a pair, as in the standard scene, no two within 20 px: 400 are so many that a fit of the
residual sky takes up 0.4 % of their light."""
BESIDE = ("found", "fp", *(f"star_chi_rms[{name}]" for name in standard.BINS), "star_flux_leak_std[>500]")


def table(size: int, measured: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a goal: the figures of every seed, their median, and the verdict."""
    rows = []
    for goal in standard.goals(size):
        ours = [goal.ours(one) for one in measured]
        perfect = [goal.perfect(one) if goal.perfect else float("nan") for one in measured]
        held = [goal.holds(*both) for both in zip(ours, perfect, strict=True)] if goal.holds else []
        row = {"name": goal.name, "wanted": goal.wanted, "verdict": verdict(held), "held": sum(held)}
        rows.append(
            row | {"median": _middle(ours), "perfect": _middle(perfect), "ours": ours, "perfects": perfect}
        )
    return rows


def verdict(held: list[bool]) -> str:
    """ "pass", "mostly", "FAIL", or "" where nothing was asked."""
    if not held:
        return ""
    return "pass" if all(held) else "mostly" if sum(held) > len(held) / 2 else "FAIL"


def _middle(values: list[float]) -> float:
    known = [value for value in values if value == value]
    return statistics.median(known) if known else float("nan")


def show(size: int, rows: list[dict[str, Any]]) -> None:
    """The table of one size on the screen."""
    print(f"\n{size} x {size} px{'':<14} goal             median  perfect  each seed")
    for row in rows:
        perfect = f"{row['perfect']:8.4g}" if row["perfect"] == row["perfect"] else " " * 8
        each = " ".join(f"{value:.4g}" for value in row["ours"])
        print(
            f"{row['name']:<22} {row['wanted']:<15} {row['median']:>8.4g} {perfect}  {row['verdict']:<6}  {each}"
        )


def injections(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Bias and pull width over all injected pairs of 2048 px, with their verdicts."""
    measured = []
    for number in range(options.injected):
        pair = common.make_pair(folder, 2048, options.first + number, *INJECTED)
        common.subtract(pair, "white", *options.subtract.split())
        measured.append(standard.pulls(pair, pair / "white.ecsv"))
        _drop(pair, options)
    out = standard.photometry(np.concatenate(measured))
    bias, width = abs(out["bias_percent"]) < 0.5, abs(out["pull_width"] - 1) <= 0.03
    print(f"\n{out['injections']} injections, {out['clipped']} clipped")
    print(f"flux bias, %    below 0.5  {out['bias_percent']:.2f} +- {out['bias_error']:.2f}  {verdict([bias])}")
    print(
        f"pull width      1 +- 0.03  {out['pull_width']:.3f} +- {out['pull_width_error']:.3f}  {verdict([width])}"
    )
    return out | {"bias_verdict": verdict([bias]), "pull_verdict": verdict([width])}


def beside(folder: Path, seeds: list[int], options: argparse.Namespace) -> dict[str, Any]:
    """Figures of perfect, gpudiff and the peers on the same pairs, medians and ratios of wall time."""
    names = peers.available()
    if not names:
        print(f"\nno peer measured: none in {peers.python()} (sh bench/peers.sh)")
        return {}
    rows: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        pair = common.make_pair(folder, peers.LARGEST, seed)
        ours = standard.measure(pair, options.subtract.split(), 1)
        rows.setdefault("perfect", []).append(_part(ours["floor"]))
        rows.setdefault("gpudiff", []).append(_part(ours["plain"] | ours["cost"]))
        rows.setdefault("gpudiff, own table", []).append(_part(ours["table"]))
        for name in names:
            try:
                rows.setdefault(name, []).append(_part(peers.run(name, pair)))
            except subprocess.CalledProcessError as error:
                print(f"{name}, seed {seed}: exit status {error.returncode}")
        _drop(pair, options)
    return _show_beside(rows, names)


def _part(judged: dict[str, Any]) -> dict[str, float]:
    return {key: judged[key] for key in (*BESIDE, "wall_s", "cpu_s", "peak_mb") if key in judged}


def _show_beside(rows: dict[str, list[dict[str, float]]], versions: dict[str, str]) -> dict[str, Any]:
    """Medians over the pairs (found and false: sums), and how many times longer than ours it took."""
    out: dict[str, Any] = {}
    print(f"\n{peers.LARGEST} px, {len(rows['perfect'])} pairs: found and false summed, medians of the rest")
    print("                    found false  chi 20-100 100-500  > 500  leak %   wall s  x ours   CPU s     GB")
    for name, pairs in rows.items():
        keys = [key for key in (*BESIDE, "wall_s", "cpu_s", "peak_mb") if pairs and key in pairs[0]]
        made = {key: (sum if key in ("found", "fp") else _middle)([one[key] for one in pairs]) for key in keys}
        made["times_ours"] = made.get("wall_s", float("nan")) / (out.get("gpudiff", made).get("wall_s") or 1)
        out[name] = {"version": versions.get(name, ""), "pairs": len(pairs), **made}
        cells = [made.get(key, float("nan")) for key in BESIDE[2:]]
        cost = [made.get(key, float("nan")) for key in ("wall_s", "times_ours", "cpu_s", "peak_mb")]
        print(
            f"{name:<20}{made.get('found', 0):>5.0f}{made.get('fp', 0):>6.0f}{cells[0]:>12.3f}{cells[1]:>8.3f}"
            f"{cells[2]:>7.3f}{100 * cells[3]:>8.3f}"
            f"{cost[0]:>9.2f}{cost[1]:>8.1f}{cost[2]:>8.1f}{cost[3] / 1024:>7.2f}"
        )
    return out


def _drop(pair: Path, options: argparse.Namespace) -> None:
    """Delete the pair's images, half a gigabyte at 4096 px, unless they are to be kept."""
    if not options.keep:
        for path in pair.glob("*.fits"):
            path.unlink()


def parsed() -> argparse.Namespace:
    parser = common.arguments(__doc__, seeds="9101,9102,9103,9104,9105")
    parser.add_argument("--sizes", default="2048,4096", help="px along one side (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="timed runs a pair (%(default)s)")
    parser.add_argument(
        "--injected", type=int, default=12, metavar="N", help="pairs of 100 injections (%(default)s)"
    )
    parser.add_argument("--first", type=int, default=9201, help="seed of the first of them (%(default)s)")
    parser.add_argument("--peer-seeds", default="9101,9102,9103", help="'' for no peers (%(default)s)")
    parser.add_argument("--subtract", default="", metavar="OPTIONS", help="for gpudiff subtract")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave pairs there, and use those found there")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it takes long: seen as it comes
    print(f"{common.device()}; seeds {options.seeds}; {options.subtract or 'default options'}")
    document: dict[str, Any] = {"seeds": options.seeds, "options": options.subtract, "tables": {}}
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for size in map(int, filter(None, options.sizes.split(","))):
            measured = []
            for seed in options.seeds.split(","):
                pair = common.make_pair(folder, size, int(seed))
                measured.append(standard.measure(pair, options.subtract.split(), options.repeats))
                _drop(pair, options)
            document["tables"][str(size)] = table(size, measured)
            show(size, document["tables"][str(size)])
        if options.injected:
            document["injections"] = injections(folder / "injected", options)
        if options.peer_seeds:
            document["peers"] = beside(folder, [int(one) for one in options.peer_seeds.split(",")], options)
    common.record(__file__, document, options)


if __name__ == "__main__":
    main()
