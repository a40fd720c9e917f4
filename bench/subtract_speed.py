"""Wall time, CPU time and memory of `gpudiff subtract`, from the start of the process to closed files.

The result is checked first: a fast wrong difference is not timed.  In the same run, on the same pair, the
peer sfft (NumPy backend) where it is installed, in an environment of its own, by
`python3 -m venv build/sfft && build/sfft/bin/pip install sfft`; GPUDIFF_SFFT_PYTHON names another Python.
"""

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
    options = parser.parse_args()
    print(f"{common.device()}; {options.size} x {options.size} px; medians of {options.repeats}")
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in map(int, options.seeds.split(",")):
            pair = common.make_pair(Path(folder), options.size, seed)
            checked = check(pair)
            ours = median([common.subtract(pair, "timed") for _ in range(options.repeats)])
            ours |= {"found": checked["ours"]["found_transient"], "false": checked["ours"]["fp"]}
            floor = {"found": checked["floor"]["found_transient"], "false": checked["floor"]["fp"]}
            beside = peer(pair, max(1, options.repeats // 2))
            pairs.append({"seed": seed, "floor": floor, "gpudiff": ours, "peer": beside})
            print(f"seed {seed}\n  floor   {floor}\n  gpudiff {ours}")
            print(f"  peer    {beside or 'none present: no ratio measured'}", flush=True)
            if beside:
                print(f"  ratio   {beside['wall_s'] / ours['wall_s']:.1f} x in wall time")
    if not options.no_record:
        print(common.record(__file__, {"size": options.size, "repeats": options.repeats, "pairs": pairs}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
