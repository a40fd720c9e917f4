"""Wall time, CPU time and memory of `gpudiff subtract`, from the start of the process to closed files.

The result is checked first: a fast wrong difference is not timed.  In the same run, on the same pair, the
peer sfft (NumPy backend) where it is installed, in an environment of its own, by
`python3 -m venv build/sfft && build/sfft/bin/pip install sfft`; GPUDIFF_SFFT_PYTHON names another Python.
`--sizes 2048,4096 --no-peer` times gpudiff alone, where the peer would not fit into memory.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import _common as common
from astropy.io import fits

REPEATS = 5


def check(pair: Path) -> dict[str, Any]:
    """What evalpair.py says of our difference; raises AssertionError when it is not worth timing."""
    floor = common.score(pair, pair / "ideal.fits", "--ref-noise", "none")
    common.subtract(pair, "plain", "--no-decorrelate")
    convolved = str(fits.getheader(pair / "plain.fits").get("CONVOLVE", "TEMPLATE"))
    ours = common.score(pair, pair / "plain.fits", "--convolved", "sci" if convolved[:3] == "SCI" else "ref")
    of_floor = common.found(floor["found_transient"])[0]
    assert common.found(ours["found_transient"])[0] >= 0.9 * of_floor, ours["found_transient"]
    assert abs(ours["blank_std"] - 1) < 0.03, ours["blank_std"]
    return {"floor": floor, "ours": ours}


def median(runs: list[common.Run]) -> dict[str, float]:
    """The median of each figure."""
    names = ("wall_s", "cpu_s", "peak_mb")
    return {name: round(statistics.median(getattr(run, name) for run in runs), 3) for name in names}


def ours(pair: Path, repeats: int) -> dict[str, Any]:
    """Medians of our runs on the pair, and of the seconds of their stages."""
    runs, stages = [], []
    for _ in range(repeats):
        runs.append(common.subtract(pair, "timed", "--quiet", "--json", str(pair / "timed.json")))
        stages.append(json.loads((pair / "timed.json").read_text())["seconds"])
    return median(runs) | {"stages": {name: statistics.median(one[name] for one in stages) for name in stages[0]}}


def peer(pair: Path, repeats: int) -> dict[str, Any] | None:
    """sfft on the same pair, after one run that fills its compilation cache; None where it is absent."""
    python = Path(os.environ.get("GPUDIFF_SFFT_PYTHON", common.ROOT / "build" / "sfft" / "bin" / "python"))
    if not python.exists():
        return None
    command: list[str | Path] = [python, common.ROOT / "bench" / "_sfft.py", pair, pair / "sfft.fits"]
    common.timed(command)
    figures: dict[str, Any] = median([common.timed(command) for _ in range(repeats)])
    judged = common.score(pair, pair / "sfft.fits")
    return figures | {
        "name": "sfft, NumPy backend",
        "found": judged["found_transient"],
        "false": judged["fp"],
    }


def main() -> int:
    parser = common.arguments(__doc__, size=1024, seeds="71")
    parser.add_argument("--repeats", type=int, default=REPEATS, help="timed runs (%(default)s)")
    parser.add_argument("--sizes", help="several, comma-separated, in place of --size")
    parser.add_argument("--no-peer", action="store_true", help="time gpudiff alone")
    options = parser.parse_args()
    sizes = [int(size) for size in (options.sizes or str(options.size)).split(",")]
    print(f"{common.device()}; medians of {options.repeats}")
    pairs = []
    for size in sizes:
        for seed in map(int, options.seeds.split(",")):
            with tempfile.TemporaryDirectory() as folder:
                pairs.append(compared(common.make_pair(Path(folder), size, seed), size, seed, options))
    if not options.no_record:
        print(common.record(__file__, {"repeats": options.repeats, "pairs": pairs}))
    return 0


def compared(pair: Path, size: int, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one pair, printed."""
    checked = check(pair)
    mine = ours(pair, options.repeats)
    mine |= {"found": checked["ours"]["found_transient"], "false": checked["ours"]["fp"]}
    floor = {"found": checked["floor"]["found_transient"], "false": checked["floor"]["fp"]}
    beside = None if options.no_peer else peer(pair, max(1, options.repeats // 2))
    print(f"{size} x {size} px, seed {seed}\n  floor   {floor}\n  gpudiff {mine}")
    print(f"  peer    {beside or 'none: no ratio measured'}", flush=True)
    if beside:
        print(f"  ratio   {beside['wall_s'] / mine['wall_s']:.1f} x in wall time")
    return {"size": size, "seed": seed, "floor": floor, "gpudiff": mine, "peer": beside}


if __name__ == "__main__":
    sys.exit(main())
