"""What the benchmarks share: simulated pairs, the command under test, a scorer that is not ours, results."""

import argparse
import datetime
import json
import math
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE_S = 120.0
"""For the last alerts to be published."""
CUTOUT = 51
"""Side of a cutout, pixels."""
SIP_TERMS = [(i, j) for i in range(5) for j in range(5 - i)]


@dataclass(frozen=True)
class Run:
    """One finished command: wall and CPU seconds, peak resident memory."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    stdout: str


def tools() -> Path:
    """The folder of simpair.py, idealdiff.py and evalpair.py: GPUDIFF_TOOLS, or ../shared/tools.

    Ends the program with status 0 and one line when it is not there: without pairs nothing can be measured.
    """
    folder = Path(os.environ.get("GPUDIFF_TOOLS", ROOT.parent / "shared" / "tools"))
    if not (folder / "simpair.py").is_file():
        print(f"nothing measured: expected simpair.py in {folder} (set GPUDIFF_TOOLS)")
        sys.exit(0)
    return folder


def data() -> Path:
    """The folder of real frames: GPUDIFF_DATA, or ../shared/data; it need not be there."""
    return Path(os.environ.get("GPUDIFF_DATA", ROOT.parent / "shared" / "data"))


def arguments(description: str | None, size: int = 0, seeds: str = "") -> argparse.ArgumentParser:
    """The options that all benchmarks have; --size and --seeds where their defaults are given."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if size:
        parser.add_argument("--size", type=int, default=size, help="pixels along one side (%(default)s)")
    if seeds:
        parser.add_argument("--seeds", default=seeds, help="comma-separated (%(default)s)")
    parser.add_argument("--no-record", action="store_true", help="print only, write nothing to bench/results/")
    return parser


def took_s(work: Callable[[Any], object], over: Iterable[Any]) -> list[float]:
    """Wall seconds of `work` with each of these."""
    seconds = []
    for one in over:
        start = time.perf_counter()
        work(one)
        seconds.append(time.perf_counter() - start)
    return seconds


def median_s(work: Callable[[], object], repeats: int) -> float:
    """Median wall seconds of so many runs."""
    return statistics.median(took_s(lambda _: work(), range(repeats)))


def timed(command: list[str | Path]) -> Run:
    """Run a command to its end; raises CalledProcessError with its stderr when it fails.

    Python may keep its bytecode, as an installed program's is kept: compiling gpudiff takes 0.1 s of every run.
    `peak_mb` is never less than this process had in memory when it started the command: the kernel counts both.
    """
    known = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": known}
    start = time.perf_counter()
    with subprocess.Popen(command, **pipes) as process:
        stdout = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if process.returncode:
        print(stdout, file=sys.stderr)
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, stdout)


def make_pair(folder: Path, size: int, seed: int, *options: str) -> Path:
    """Simulate a registered pair into folder/pair-SIZE-SEED, with its perfect-template difference; once.

    100 transients, fewer below 2048 px; options : more for simpair.py
    """
    pair = folder / f"pair-{size}-{seed}"
    if not (pair / "ideal.fits").exists():
        transients = min(100, max(20, round(100 * (size / 2048) ** 2)))
        shape = ["--size", str(size), "--seed", str(seed), "--ntrans", str(transients)]
        timed([sys.executable, tools() / "simpair.py", "--out", pair, *shape, *options])
        timed([sys.executable, tools() / "idealdiff.py", pair, pair / "ideal.fits"])
    return pair


def subtract(pair: Path, name: str, *options: str) -> Run:
    """`gpudiff subtract` on the pair: writes NAME.fits and NAME.ecsv into it, files that were not there.

    A file system may wait for the disk where a file takes another's place: 0.1 s for one of 4096 x 4096 px.
    """
    outputs = [pair / f"{name}.fits", pair / f"{name}.ecsv"]
    for path in outputs:
        path.unlink(missing_ok=True)
    command: list[str | Path] = [sys.executable, "-m", "gpudiff", "subtract"]
    command += [pair / "sci.fits", pair / "ref.fits"]
    command += ["--science-mask", pair / "mask_sci.fits", "--template-mask", pair / "mask_ref.fits"]
    return timed([*command, "-o", outputs[0], "--sources", outputs[1], *options])


def score(pair: Path, difference: Path, *options: str | Path) -> dict[str, Any]:
    """What evalpair.py says of a difference; its "found_transient", "38/40", also as `found` and `asked`."""
    out = difference.with_suffix(".json")
    files: list[str | Path] = ["--sim", pair, "--diff", difference, "--json", out]
    timed([sys.executable, tools() / "evalpair.py", *files, *options])
    judged = json.loads(out.read_text())
    found, asked = map(int, judged["found_transient"].split("/"))
    return judged | {"found": found, "asked": asked}


def median(runs: list[Run]) -> dict[str, float]:
    """The median of each figure of the runs."""
    names = ("wall_s", "cpu_s", "peak_mb")
    return {name: round(statistics.median(getattr(one, name) for one in runs), 3) for name in names}


def print_table(title: str, figures: dict[str, Any]) -> None:
    """The figures, one a line, but for lists."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=None)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        if not isinstance(value, list):
            table.add_row(name, f"{value:.2f}" if isinstance(value, float) else f"{value:,}")
    Console().print(table)


def record(script: str, document: dict[str, Any], options: argparse.Namespace) -> None:
    """Write bench/results/DATE-SCRIPT.json, unless --no-record: machine, date and commit beside the figures."""
    if options.no_record:
        return
    now = datetime.datetime.now(datetime.UTC)
    head = {
        "benchmark": Path(script).stem,
        "date": now.isoformat(timespec="seconds"),
        "commit": commit(),
        "device": device(),
        "load_average": os.getloadavg()[0],  # above the runs' own: the machine was shared, times are too long
        "python": platform.python_version(),
    }
    path = ROOT / "bench" / "results" / f"{now:%Y-%m-%d}-{Path(script).stem}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(_plain(head | document), indent=1, allow_nan=False) + "\n")
    print(path)


def _plain(value: Any) -> Any:
    """The same with five significant digits, and null for what has no value: JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def survey_wcs(ra: float, dec: float) -> dict[str, Any]:
    """The WCS keywords of a survey's frame, 75 with its distortion: made anew from them, and written into each
    alert, they are a good part of the work on a frame."""
    made: dict[str, Any] = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "RADESYS": "ICRS"}
    made |= {"CRPIX1": 2036.5, "CRPIX2": 2000.5, "CRVAL1": ra, "CRVAL2": dec}
    made |= {"CD1_1": -5.5555e-5, "CD1_2": 1.1e-7, "CD2_1": 1.2e-7, "CD2_2": 5.5556e-5}
    for name, sign in (("A", 1), ("B", -1), ("AP", -1), ("BP", 1)):
        made[f"{name}_ORDER"] = 4
        for i, j in SIP_TERMS:
            made[f"{name}_{i}_{j}"] = sign * 1.2345e-7 * 1e-4 ** (i + j - 2) if i + j > 1 else 0.0
    return made


def own_planes(count: int) -> Any:
    """Variance, mask and PSF of the science and template cutouts of so many detections: model.batch.OwnPlanes."""
    import numpy as np

    from gpudiff.model.batch import OwnPlanes

    shape = (count, 2, CUTOUT, CUTOUT)
    psf = np.full((2, 25, 25), 1 / 625, np.float32)
    return OwnPlanes(np.full(shape, 4, np.float32), np.zeros(shape, np.uint16), psf)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(
    words: Sequence[str | Path], log: Path, **environment: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A program of gpudiff and the endpoint of its `ready:` line; told to stop at the end, and killed on an error.

    words : after `gpudiff`; log : file for its standard error.  Ends this program where that one does not start,
    or does not end well.
    """
    command = [sys.executable, "-m", "gpudiff", *map(str, words)]
    with open(log, "w") as file:
        options = {"stdout": subprocess.PIPE, "stderr": file, "text": True}
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT), **environment}, **options)
    try:
        assert process.stdout is not None
        said = process.stdout.readline().split()
        if said[:1] != ["ready:"]:
            sys.exit(f"{words[0]}: expected `ready:`, got {said}: {log.read_text()[-1000:]}")
        yield process, said[2]
        process.terminate()
        if process.wait(120):
            sys.exit(f"{words[0]}: ended with status {process.returncode}")
    finally:
        process.kill()
        process.wait()


def wait_published(directory: Path) -> None:
    """Wait until the sinks of an associator have all alerts; ends the program when they do not get them."""
    from gpudiff.edges.ledger_reader import LedgerReader

    ledger, last = LedgerReader(directory / "ledger.sqlite"), time.monotonic() + PATIENCE_S
    while ledger.pending(limit=1):
        if time.monotonic() > last:
            sys.exit(f"{len(ledger.pending())} frames are not published after {PATIENCE_S:g} s")
        time.sleep(0.1)
    ledger.close()


def device() -> str:
    """The processor's name and how many of its cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def commit() -> str:
    """The commit of this checkout, "+" behind it when files of the package differ from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "gpudiff"], check=False)
    return head.stdout.strip() + ("+" if changed.returncode else "")
