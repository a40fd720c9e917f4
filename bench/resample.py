"""Wall and CPU time of `gpudiff.arrays.resample`, a frame turned by 2 degrees, and how far stars err.

The result is checked first against the stars drawn at their mapped places.  Beside it, on the same frame and
positions, SciPy's quintic spline (which knows no masks, bits or Jacobian).
"""

import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np
from scipy.ndimage import map_coordinates

from gpudiff.arrays.resample import flaw, lattice, resample

STEP = 32
"""Pixels between the stars of the frame."""


def places(size: int) -> Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A turn by 2 degrees about the middle, a shift and a slight distortion."""
    cos, sin, middle = np.cos(np.radians(2)), np.sin(np.radians(2)), size / 2

    def place(y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        dy, dx = y - middle, x - middle
        bend = 2e-6 * dx * dy
        return middle + 3.3 + cos * dy - sin * dx + bend, middle - 5.1 + sin * dy + cos * dx - bend

    return place


def stars(y: np.ndarray, x: np.ndarray, sigma: float) -> np.ndarray:
    """float32 light at positions: Gaussians of peak 1 on a grid that goes on for ever."""
    off = [(a + STEP / 2) % STEP - STEP / 2 for a in (y, x)]
    return np.exp(-0.5 * (off[0] ** 2 + off[1] ** 2) / sigma**2).astype(np.float32)


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Median wall and CPU seconds."""
    wall, cpu = [], []
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    return {"wall_s": round(statistics.median(wall), 2), "cpu_s": round(statistics.median(cpu), 2)}


def main() -> None:
    parser = common.arguments(__doc__, size=4096)
    parser.add_argument("--repeats", type=int, default=3, help="timed runs (%(default)s)")
    parser.add_argument("--fwhm", type=float, default=3.3, help="of the stars, pixels (%(default)s)")
    options = parser.parse_args()
    size, sigma = options.size, options.fwhm / 2.3548
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    image = stars(rows, columns, sigma)
    bad = np.random.default_rng(1).random(image.shape) < 1e-3
    mask = bad.astype(np.int32)
    where = lattice(places(size), image.shape)
    y, x, area = where.cut(0, size, 0, size)
    truth = stars(y, x, sigma) * area
    values, lost, _ = resample(image, bad, mask, where, sigma)
    inside = (np.minimum(y, x) > 10) & (np.maximum(y, x) < size - 11)
    error = float(np.abs(values - truth)[inside].max())
    assert error < 2.2 * flaw(sigma) + 2e-4, error
    assert not lost[inside & ~bad].all()
    peer = map_coordinates(image, (y, x), order=5) * area
    figures = {
        "gpudiff": timed(lambda: resample(image, bad, mask, where, sigma), options.repeats)
        | {"worst_error": round(error, 5)},
        "scipy, quintic spline": timed(lambda: map_coordinates(image, (y, x), order=5), 1)
        | {"worst_error": round(float(np.abs(peer - truth)[inside].max()), 5)},
    }
    print(f"{common.device()}; {size} x {size} px; FWHM {options.fwhm} px; load {os.getloadavg()[0]:.1f}")
    for name, row in figures.items():
        print(f"  {name:<22} {row}")
    common.record(__file__, {"size": size, "fwhm": options.fwhm, **figures}, options)


if __name__ == "__main__":
    main()
