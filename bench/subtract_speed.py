"""Wall time, CPU time and memory of `gpudiff subtract`, from the start of the process to closed files.

The result is checked first: a fast wrong difference is not timed.  At 1024 px in the same run, on the same pair,
the peers that bench/peers.sh installs, in turns with ours so that both meet the same machine.  The ratio is
theirs over ours.  Takes 8 minutes with the peers, two of them at 4096 px.
"""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import _common as common
import _peers as peers
from astropy.io import fits

FIGURES = ("wall_s", "cpu_s", "peak_mb")
LINE = (
    "{size:>5}  {name:<18}{found:>3}/{asked:<4}{fp:>4}   {wall_s:>7.2f} {cpu_s:>7.2f} {gigabytes:>6.2f}   {ratio}"
)


def checked(pair: Path) -> dict[str, Any]:
    """What evalpair.py says of our difference; raises AssertionError when it is not worth timing."""
    floor = common.score(pair, pair / "ideal.fits", "--ref-noise", "none")
    common.subtract(pair, "plain", "--no-decorrelate")
    convolved = str(fits.getheader(pair / "plain.fits").get("CONVOLVE", "TEMPLATE"))
    ours = common.score(pair, pair / "plain.fits", "--convolved", "sci" if convolved[:3] == "SCI" else "ref")
    assert ours["found"] >= 0.9 * floor["found"], ours["found_transient"]
    assert abs(ours["blank_std"] - 1) < 0.03, ours["blank_std"]
    return ours


def measure(pair: Path, size: int, repeats: int, threads: list[str]) -> list[dict[str, Any]]:
    """A row for gpudiff and one for every peer that runs at this size."""
    rows = [{"name": "gpudiff", **checked(pair), **common.median(_ours(pair, repeats, threads))}]
    for name, version in (peers.available() if size <= peers.LARGEST else {}).items():
        try:
            figures = peers.run(name, pair, max(1, repeats // 2))
        except subprocess.CalledProcessError as error:
            print(f"{name} {version}: exit status {error.returncode}")
            continue
        beside = common.median(_ours(pair, repeats, threads))
        ratio = {key: figures[key] / beside[key] for key in FIGURES}
        rows.append({"name": f"{name} {version}", **figures, "ratio": ratio, "gpudiff_beside": beside})
    keys = ("name", "found", "asked", "fp", *FIGURES, "ratio", "gpudiff_beside")
    return [{"size": size, **{key: row[key] for key in keys if key in row}} for row in rows]


def _ours(pair: Path, repeats: int, threads: list[str]) -> list[common.Run]:
    return [common.subtract(pair, "timed", *threads) for _ in range(repeats)]


def show(row: dict[str, Any]) -> None:
    """One line of the table."""
    ratio = " ".join(f"{row['ratio'][key]:6.1f} x" for key in FIGURES) if "ratio" in row else ""
    print(LINE.format(**{**row, "ratio": ratio, "gigabytes": row["peak_mb"] / 1024}), flush=True)


def main() -> None:
    parser = common.arguments(__doc__, seeds="71")
    parser.add_argument(
        "--sizes", default="1024,2048,4096", help="px along one side, comma-separated (%(default)s)"
    )
    parser.add_argument("--repeats", type=int, default=5, help="timed runs (%(default)s)")
    parser.add_argument("--threads", default="0", help="of gpudiff; 0: one a core (%(default)s)")
    options = parser.parse_args()
    print(f"{common.device()}; medians of {options.repeats} runs of gpudiff, of {options.repeats // 2} of a peer")
    print(" size  program         found     false  wall s   CPU s     GB   over gpudiff's: wall, CPU, memory")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.sizes.split(",")):
            for seed in map(int, options.seeds.split(",")):
                pair = common.make_pair(Path(folder), size, seed)
                for row in measure(pair, size, options.repeats, ["--threads", options.threads]):
                    rows.append({"seed": seed, **row})
                    show(row)
    common.record(__file__, {"repeats": options.repeats, "rows": rows}, options)


if __name__ == "__main__":
    main()
