"""Everything that a GPU can say of the CUDA kernels, in one command of a few minutes.

The card and its driver; all tests on CuPy and PyCUDA; the whole engine on the GPU against the NumPy path; the
card's own ceilings, copy bandwidth and fused multiply-adds; each kernel's time for one detector and for a raft
of nine, its share of the floor by that card's ceilings, and the same convolutions by batched FFTs of cuFFT; a
visit of 189 detectors from pinned memory to detections, cold and warm, one detector alone, and memory; the same
visit through the whole engine with 1, 2 and 4 detectors at work at a time; cuCIM's label beside the list of
tops, and SFFT's CuPy backend, where they are installed; compute-sanitizer (memcheck, racecheck), where it is. A
result is checked before it is timed; times are medians by events on the device.  A step that fails says why,
and the others go on; what was measured is recorded in any case.
Needs CuPy, and pytest and hypothesis for the tests.

`--emulated` goes through the same steps with the kernels executed on the CPU, to check this script: its times say
nothing.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import _common as common
import _gpu_engine as gpu_engine
import _gpu_others as others
import _gpu_peers as peers
import _gpu_visit as gpu_visit
import numpy as np
import predicted
from _gpu_rafts import RAFT
from _gpu_streams import CudaStreams
from _gpu_timed import Timed, median_of

from gpudiff.arrays import score_tiles, subtract_tiles
from gpudiff.arrays.device import Cuda
from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.passes import CPU
from gpudiff.arrays.survey import survey
from gpudiff.arrays.tiles import tiles
from gpudiff.edges.fits import read_frame
from gpudiff.model.config import Configuration
from gpudiff.model.errors import DeviceFailed
from gpudiff.model.frame import Frame
from gpudiff.science.subtract import subtract

SMALL = 128, "crowded"
"""px along a side of a scene, for kernels that are executed on the CPU, and a kind that has stars to fit there."""
VISITED = 10_000, 1_000_000
"""Detections of a visit, and known objects there."""
PATIENCE_S = 100
"""For each run of the tests, so that there is time left to measure where a GPU is lent by the minute."""
LOOKED = 3
"""Timed launches of all but the two passes, at most: the host checks each, which takes it a second a detector."""
MOST_SIGMA = 1e-4
"""By which a pixel of the difference may differ from the NumPy path's."""
TESTS = ["tests/arrays", "tests/science/test_on_kernels.py", "tests/science/test_side_by_side.py"]
ON_GPU = "Cuda-cuda:0"
"""In the ids of tests on CuPy and on PyCUDA; their names have "cuda" where kernels are executed on the CPU too."""
SANITIZED = ["tests/arrays", "-k", f"{ON_GPU} and agrees"]
FMA = """extern "C" __global__ void fma_rate(float* out, float x, int rounds) {
    float a[16];
#pragma unroll
    for (int i = 0; i < 16; i++) a[i] = threadIdx.x + i;
    for (int n = 0; n < rounds; n++)
#pragma unroll
        for (int i = 0; i < 16; i++) a[i] = fmaf(a[i], x, 0.5f);
    float sum = 0.f;
    for (int i = 0; i < 16; i++) sum += a[i];
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;
}"""


# ---------------------------------------------------------------- tests
def pytest(arguments: Sequence[str], before: Sequence[str] = ()) -> dict[str, Any]:
    """The exit status and the last line of a run of the tests."""
    missing = [name for name in ("pytest", "hypothesis") if importlib.util.find_spec(name) is None]
    if missing:
        return {"status": None, "said": f"{' and '.join(missing)} not installed"}
    command = [*before, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    try:
        done = subprocess.run(command, cwd=common.ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return {"status": None, "said": f"not done after {PATIENCE_S} s"}
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode:
        print(*lines[-40:], sep="\n")
    return {"status": done.returncode, "agrees": not done.returncode, "said": lines[-1] if lines else ""}


def sanitized(tool: str) -> dict[str, Any]:
    """The kernels' tests under compute-sanitizer."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        return {"status": None, "said": "compute-sanitizer is not installed"}
    return pytest(SANITIZED, [program, "--tool", tool, "--error-exitcode", "9"])


# ---------------------------------------------------------------- ceilings
def ceilings(launcher: Cuda) -> dict[str, float]:
    """Copy bandwidth, bytes read plus written (GB/s), and fused multiply-adds (TFLOP/s, two to each), measured."""
    cupy = launcher.cupy
    source = cupy.random.random(1 << 28, dtype=np.float32)
    target = cupy.empty_like(source)
    copy = median_of(launcher, lambda: cupy.copyto(target, source))
    kernel = cupy.RawKernel(FMA, "fma_rate")
    blocks, rounds = 64 * launcher.device.attributes["MultiProcessorCount"], 4096
    out = cupy.empty(blocks * 256, np.float32)
    fma = median_of(launcher, lambda: kernel((blocks,), (256,), (out, np.float32(1.0001), np.int32(rounds))))
    return {"copy_gb_s": 2 * source.nbytes / copy / 1e6, "fma_tflop_s": 2 * 16 * rounds * blocks * 256 / fma / 1e9}


# ---------------------------------------------------------------- kernels
def kernels(
    launcher: Any, size: int, batch: int, half: int, repeats: int, ceilings: dict[str, float]
) -> list[dict[str, Any]]:
    """Time, work and bytes of each kernel for a batch of detectors, and its share of the ceilings; checked on one
    tile before it is timed."""
    rng = np.random.default_rng(batch)
    pairs, found = zip(*(_pair(rng, size, half) for _ in range(batch)), strict=True)
    variances = [(one.target_factors, one.convolved_factors) for one in pairs]
    pieces = tiles((size, size), 256, half)
    timed = Timed(launcher)
    for _ in range(repeats + 1):
        planes = subtract_tiles.subtract_tiles_cuda(timed, [one.pair for one in pairs], variances, found, pieces)
    image, variance, _, lost = planes
    _check_subtraction(launcher, planes, pairs[-1].pair, found[-1], pieces)
    wide = tiles((size, size), 256, 15 + 8)
    made = [score_tiles.filters(lambda u, v: _bell(2.0, 15), _whitener, score_tiles.SQUARE, 8)] * batch
    for _ in range(repeats + 1):
        scored = score_tiles.score_tiles_cuda(timed, image, variance, lost, made, wide)
    assert np.isfinite(launcher.download(scored[2])).all()
    stars = predicted.STARS if isinstance(launcher, Cuda) else 3
    visited = VISITED if isinstance(launcher, Cuda) else (20, 3000)
    shapes = (predicted.PSF_STARS, predicted.PSF_SIDE) if isinstance(launcher, Cuda) else (20, 11)
    for _ in range(min(repeats, LOOKED) + 1):
        others.planes(timed, scored[2], size, batch)
        others.cut(timed, scored[2], predicted.SOURCES, predicted.SQUARE)
        others.looked_at(timed, scored[2], scored[3], size, batch)
        if batch == 1:  # a fit's stars are a batch in themselves
            others.fit(timed, stars, predicted.STAMP, half)
            others.join(timed, *visited)
            others.stamps(timed, predicted.SOURCES, predicted.SQUARE)
            others.star_psf(timed, stars, *shapes)
    reach = score_tiles.filter_reach(made[0])
    done = predicted.work((size, size), half, reach, 15, 8, stars, rounds=1)
    done |= predicted.joined(*visited, others.FIELD**2) | predicted.star_psf(*shapes, 1, 1)
    rows = []
    for name, ms in timed.medians().items():
        rates = _rates(done.get(name), ms / batch)
        figures = {"ms": ms, "ms_per_ccd": ms / batch, **rates, **share(rates, ceilings)}
        rows.append({"kernel": name, "batch": batch, **{key: round(value, 4) for key, value in figures.items()}})
    return rows


def _rates(work: predicted.Work | None, ms: float) -> dict[str, float]:
    """What one detector's work in so many ms comes to; nothing for `put` and `mark`, which take single pixels."""
    if work is None:
        return {}
    return {
        "tflop_s": work.single / ms / 1e9,
        "double_tflop_s": work.double / ms / 1e9,
        "gb_s": work.bytes / ms / 1e6,
    }


def share(rates: dict[str, float], ceilings: dict[str, float]) -> dict[str, float]:
    """A kernel's floor by the measured ceilings over its time; nothing where either is not known."""
    if "copy_gb_s" not in ceilings or not rates:
        return {}
    double = rates["double_tflop_s"] / (0.5 * ceilings["fma_tflop_s"])  # as on the cards made for it
    return {
        "share": max(rates["tflop_s"] / ceilings["fma_tflop_s"], double, rates["gb_s"] / ceilings["copy_gb_s"])
    }


class _Job:
    """A pair with the factors of its sky variances."""

    def __init__(self, pair: subtract_tiles.Pair, factors: tuple[np.ndarray, np.ndarray]):
        self.pair, self.target_factors, self.convolved_factors = pair, factors, factors


def _pair(rng: np.random.Generator, size: int, half: int) -> tuple[_Job, subtract_tiles.Found]:
    target, convolved = (rng.normal(0, 5, (size, size)).astype(np.float32) for _ in range(2))
    bad = rng.random((size, size)) < 1e-4
    rows, columns = (
        rng.uniform(4, 5, (size, 16)).astype(np.float32),
        rng.uniform(0.3, 0.4, (16, size)).astype(np.float32),
    )

    def cut(y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        return rows[y0:y1] @ columns[:, x0:x1]

    pair = subtract_tiles.Pair(target, convolved, bad, bad, cut, cut, 2.0, 2.0)
    parts = [_bell(1.5, half)] + [0.03 * rng.normal() * _bell(1.2 + 0.1 * n, half) for n in range(5)]
    return _Job(pair, (rows, columns)), subtract_tiles.Found(np.array(parts), 2, rng.normal(0, 1, 6), 2)


def _check_subtraction(
    launcher: Any,
    planes: Sequence[Any],
    pair: subtract_tiles.Pair,
    found: subtract_tiles.Found,
    pieces: Sequence[Any],
) -> None:
    spectrum = subtract_tiles.spectra(found.coefficients, found.order, pieces[0].size)
    image = launcher.download(planes[0])[-1]
    for tile in (pieces[0], pieces[len(pieces) // 2]):
        expected = subtract_tiles.subtracted_tile(pair, found, spectrum, tile)[0]
        np.testing.assert_allclose(image[tile.core], expected, atol=1e-4)  # of a noise of 5


def _bell(sigma: float, half: int) -> np.ndarray:
    axis = np.arange(-half, half + 1)
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / sigma**2)
    return image / image.sum()


def _whitener(u: float, v: float, size: int) -> tuple[np.ndarray, float]:
    power = score_tiles.noise_power(np.fft.rfft2(_bell(1.5, 10), (size, size)), 20.0, 5.0)
    return np.sqrt(power[0, 0] / power), float(power[0, 0] / score_tiles.mean_power(power, size))


def visit(launcher: Any, size: int, half: int, detectors: int, repeats: int) -> dict[str, Any]:
    """A visit from pinned memory to detections, cold and warm, and one CCD alone; the kernels' results are checked
    by `kernels`, here that batches change nothing."""
    rng = np.random.default_rng(7)
    jobs, found = zip(*(_pair(rng, size, half) for _ in range(min(RAFT, detectors))), strict=True)
    factors = [(one.target_factors, one.convolved_factors) for one in jobs]
    made = score_tiles.filters(lambda u, v: _bell(2.0, 15), _whitener, score_tiles.SQUARE, 8)
    one = gpu_visit.Visit(
        launcher, [job.pair for job in jobs], found, factors, made, (half, 15 + 8), _bell(2.0, 7)
    )
    return gpu_visit.measured(one, detectors, repeats)


# ---------------------------------------------------------------- the whole engine
def simulated(size: int, kind: str = "standard", seed: int = 9301) -> list[Frame]:
    """Science and template of a scene."""
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair"
        scene = ["--scene", kind, "--size", str(size), "--seed", str(seed)]
        common.timed([sys.executable, "-m", "gpudiff", "simulate", "--output", pair, *scene])
        return [read_frame(pair / f"{name}.fits") for name in ("science", "template")]


def parity(launcher: Any, size: int) -> dict[str, Any]:
    """The whole engine on the device against the NumPy path: one simulated pair, and its wall times."""
    frames = simulated(size)
    made, seconds = [], []
    for where in (CPU, Gpu(launcher), Gpu(launcher)):
        start = time.perf_counter()
        made.append(subtract(*frames, Configuration(), where))
        seconds.append(time.perf_counter() - start)
    (numpy, expected), (first, sources), (second, _) = made
    worst = float(np.nanmax(np.abs(first.image - numpy.image) / np.sqrt(numpy.variance)))
    return {
        "agrees": worst < MOST_SIGMA and bool(np.array_equal(sources["diaSourceId"], expected["diaSourceId"])),
        "largest_difference_sigma": worst,
        "sources": len(expected),
        "bit_identical_again": bool(np.array_equal(first.image, second.image, equal_nan=True)),
        "seconds_numpy": seconds[0],
        "seconds_device": seconds[2],
    }


def engine(launcher: Any, size: int, half: int, detectors: int) -> list[dict[str, Any]]:
    """A visit through the whole engine, so many detectors at work at a time."""
    real = isinstance(launcher, Cuda)
    made = gpu_engine.Engine(launcher, simulated(size) if real else simulated(*SMALL), half)
    return [made.measured(most, detectors) for most in (gpu_engine.AT_A_TIME if real else (2,))]


# ---------------------------------------------------------------- one command
def main() -> int:
    parser = common.arguments(__doc__, size=4096)
    parser.add_argument("--half", type=int, default=12, help="px, of the matching kernel (%(default)s)")
    parser.add_argument("--repeats", type=int, default=11, help="timed launches (%(default)s)")
    parser.add_argument("--detectors", type=int, default=gpu_visit.DETECTORS, help="of the visit (%(default)s)")
    parser.add_argument("--no-tests", action="store_true", help="measure only")
    parser.add_argument("--emulated", action="store_true", help="run the kernels on the CPU, to check this script")
    options = parser.parse_args()
    try:
        launcher = _emulated() if options.emulated else CudaStreams()
    except DeviceFailed as error:
        print(f"nothing measured: {error}")
        return 0
    document: dict[str, Any] = {"size": options.size, "half": options.half}
    well = []
    for name, work in _steps(launcher, options, document):
        well.append(_done(document, name, work))
        if not options.emulated:
            common.record(__file__, document, options)  # after each, for the next may not end
    return int(not all(well))


def _done(document: dict[str, Any], name: str, work: Callable[[], Any]) -> bool:
    """Whether a step went well; what it found, or why it failed, is in the document, and printed."""
    try:
        found = work()
    except Exception as error:
        traceback.print_exc()
        found = {"failed": f"{type(error).__name__}: {error}"}
    document[name] = found
    print(name, *(found if isinstance(found, list) else [found]), sep="\n")
    return not isinstance(found, dict) or not ("failed" in found or found.get("agrees") is False)


def _steps(
    launcher: Any, options: argparse.Namespace, document: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name in the document, what to do for it); later ones may look at what earlier ones left there."""
    yield "survey", survey
    if not options.no_tests:
        yield "tests", lambda: pytest([*TESTS, "-k", ON_GPU])
    least = 320 if options.emulated else 512  # several tiles
    yield "parity", lambda: parity(launcher, max(least, min(options.size, 1024)))
    real = isinstance(launcher, Cuda)
    if real:
        yield "ceilings", lambda: ceilings(launcher)
    for batch in (1, RAFT if real else 2):
        given = launcher, options.size, batch, options.half, options.repeats
        yield f"kernels of {batch}", partial(kernels, *given, document.get("ceilings", {}))
        if real:
            yield f"four convolutions by cuFFT of {batch}", partial(peers.by_ffts, launcher, options.size, batch)
    yield "visit", lambda: visit(launcher, options.size, options.half, options.detectors, options.repeats)
    yield "engine", lambda: engine(launcher, options.size, options.half, options.detectors)
    if real:
        yield "cucim", lambda: peers.labels(launcher, options.size)
        yield "sfft", lambda: peers.sfft(min(options.size, 2048))
    if not options.no_tests:
        for tool in ("memcheck", "racecheck"):
            yield tool, partial(sanitized, tool)


def _emulated() -> Any:
    sys.path.insert(0, str(common.ROOT / "tests" / "cuda_on_cpu"))
    from streamed import EmulatedStreams

    return EmulatedStreams()


if __name__ == "__main__":
    sys.exit(main())
