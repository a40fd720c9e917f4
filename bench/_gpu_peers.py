"""What others' code takes on the same card, cuCIM, cuFFT and SFFT: for bench/gpu.py."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import _common as common
import _gpu_others as others
import _gpu_visit as gpu_visit
import numpy as np
from _gpu_timed import median_of

from gpudiff.arrays.components import listed_cuda, tops_cuda
from gpudiff.arrays.device import Cuda
from gpudiff.arrays.tiles import tiles


def labels(launcher: Any, size: int) -> dict[str, Any]:
    """`tops` checked against cuCIM's label on one score, and ms of both; or why not.

    The engine needs the list alone, and `tops` reads each pixel once; `as_fast` says where label keeps up.
    """
    if importlib.util.find_spec("cucim") is None:
        return {"said": "cuCIM is not installed"}
    from cucim.skimage.measure import label
    from cupyx.scipy.ndimage import maximum_filter

    threshold = gpu_visit.THRESHOLD
    score = 1.5 * np.random.default_rng(size).normal(size=(size, size)).astype(np.float32)  # 3.3 sigma
    there = launcher.upload(score[None], np.float32)
    plane = abs(there[0])
    [(y, x, _)] = tops_cuda(launcher, there, threshold)
    components = launcher.download(label(maximum_filter(plane, 5) >= threshold, connectivity=2))
    times = {
        "label_ms": median_of(launcher, lambda: label(plane >= threshold, connectivity=2)),
        "tops_ms": median_of(
            launcher, lambda: listed_cuda(launcher, there, threshold, max(256, size * size // 8))
        ),
    }
    count = others.check_labels(components, score, y, x)
    return {"components": count, "tops": len(y), **times, "as_fast": times["label_ms"] <= times["tops_ms"]}


def by_ffts(launcher: Cuda, size: int, batch: int) -> float:
    """ms of the four convolutions of `subtract_tiles` by cuFFT: squares of 256 px, one forward, four back."""
    cupy = launcher.cupy
    count = batch * len(tiles((size, size), 256, 12))
    squares = cupy.random.random((count, 256, 256), dtype=np.float32)
    spectra = (cupy.random.random((4, 256, 129), dtype=np.float32) + 0j).astype(np.complex64)

    def work() -> None:
        forward = cupy.fft.rfft2(squares)
        for spectrum in spectra:
            cupy.fft.irfft2(forward * spectrum, (256, 256))

    return median_of(launcher, work, 5)


def sfft(size: int) -> dict[str, Any]:
    """Seconds of SFFT's CuPy backend on a simulated pair, from files to a file, the second run; or why not."""
    if importlib.util.find_spec("sfft") is None:
        return {"said": "sfft is not installed"}
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "pair"
        scene = ["--scene", "standard", "--size", str(size), "--seed", "9301"]
        common.timed([sys.executable, "-m", "gpudiff", "simulate", "--output", pair, *scene])
        command = [sys.executable, Path(__file__).parent / "_peer.py", "sfft", pair, f"{folder}/out.fits"]
        environment = {**os.environ, "SFFT_BACKEND": "Cupy"}
        for _ in range(2):
            start = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            seconds = time.perf_counter() - start
    said = (done.stderr.strip().splitlines() or ["failed"])[-1]
    return {"size": size, "seconds": seconds} if done.returncode == 0 else {"said": said}
