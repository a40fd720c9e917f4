"""Wall and CPU time and peak memory of `gpudiff templates build`: N exposures of one CCD to one template.

The result is checked first: its noise on blank sky is that of one exposure over the root of N, its stars keep
their flux.  The exposures differ in noise, seeing and place.
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np
from astropy.io import fits

from gpudiff.edges.fits import read_frame, write_frame
from gpudiff.model.frame import Frame, FrameId, Observation

STEP, FLUX, SKY, GAIN, READ_NOISE = 97, 60000.0, 300.0, 1.5, 5.0
SCALE = 0.2 / 3600


def stars(size: int) -> np.ndarray:
    """(3, N) y, x, flux of one star a square of STEP px, well inside it, on the first exposure."""
    places = np.stack(np.meshgrid(*[np.arange(STEP // 2, size, STEP)] * 2, indexing="ij"), -1).reshape(-1, 2)
    rng = np.random.default_rng(7)
    return np.vstack(
        [(places + rng.uniform(-20, 20, places.shape)).T, FLUX * 20 ** rng.uniform(-0.5, 0.5, len(places))]
    )


def exposure(size: int, number: int, rng: np.random.Generator) -> Frame:
    """The stars seen from a place of the exposure's own, the first one's theirs."""
    dy, dx = rng.uniform(-5, 5, 2).tolist() if number else (0.0, 0.0)
    sigma, half = rng.uniform(3.6, 4.4) / 2.3548, 14
    image = np.full((size + 2 * half + 12,) * 2, SKY, np.float32)
    for y, x, flux in stars(size).T:
        row, column = round(y + dy) + 6, round(x + dx) + 6
        box = slice(row, row + 2 * half + 1), slice(column, column + 2 * half + 1)
        up, across = (
            np.exp(-0.5 * ((np.arange(-half, half + 1) - p) / sigma) ** 2)
            for p in (y + dy + 6 - row, x + dx + 6 - column)
        )
        image[box] += np.outer(up, across) * flux / (2 * np.pi * sigma**2)
    image = image[half + 6 : half + 6 + size, half + 6 : half + 6 + size].copy()
    noise = np.sqrt(image / GAIN + (READ_NOISE / GAIN) ** 2)
    image += noise * rng.standard_normal(image.shape, np.float32)
    middle = {"CRPIX1": size / 2 + dx, "CRPIX2": size / 2 + dy, "CRVAL1": 150.0, "CRVAL2": 2.0}
    cards = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **middle, "CD1_1": -SCALE, "CD2_2": SCALE}
    seen = Observation(FrameId(number + 1, 0, 1), "r", exposure_s=30.0)
    given = {"gain": GAIN, "read_noise": READ_NOISE, "zero_point": 30.0, "wcs": cards}
    return Frame("exposure", seen, image, saturation=60000.0, **given)


def checked(path: Path, count: int) -> dict[str, float]:
    """Noise against that of `count` exposures, and flux against the truth; both 1."""
    image = read_frame(path).image
    size, one = image.shape[0], np.sqrt(SKY / GAIN + (READ_NOISE / GAIN) ** 2)
    y, x = np.rint(stars(size)[:2]).astype(int)
    inside = (np.minimum(y, x) > 60) & (np.maximum(y, x) < size - 60)
    fluxes = [image[a - 12 : a + 13, b - 12 : b + 13].sum() for a, b in zip(y[inside], x[inside], strict=True)]
    corner = [
        image[a : a + 20, b : b + 20]
        for a in range(STEP, size - STEP, STEP)
        for b in range(STEP, size - STEP, STEP)
    ]
    noise = float(np.median([part[4:16, 4:16].std() for part in corner]) * np.sqrt(count) / one)
    flux = float(np.median(fluxes / stars(size)[2][inside]))
    assert 0.75 < noise < 1.1, noise  # a pixel of a resampled image is quieter than one of a star's scale
    assert abs(flux - 1) < 0.01, flux
    return {"pixel_noise": round(noise, 3), "flux": round(flux, 4)}


def main() -> None:
    parser = common.arguments(__doc__, size=4096, seeds="1")
    parser.add_argument("--exposures", type=int, default=8, help="added up (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        rng = np.random.default_rng(int(options.seeds.split(",")[0]))
        paths = [Path(place) / f"{n}.fits" for n in range(options.exposures)]
        for n, path in enumerate(paths):
            write_frame(path, exposure(options.size, n, rng))
        command = [sys.executable, "-m", "gpudiff", "templates", "build", *paths, "--output", Path(place) / "made"]
        run = common.timed(command)
        (made,) = (Path(place) / "made").glob("*.fits")
        assert fits.getheader(made)["NINPUTS"] == options.exposures
        figures = {
            "wall_s": round(run.wall_s, 2),
            "cpu_s": round(run.cpu_s, 2),
            "peak_mb": round(run.peak_mb),
            **checked(made, options.exposures),
        }
    print(f"{common.device()}; {options.exposures} of {options.size} px; load {os.getloadavg()[0]:.1f}")
    print(f"  {figures}")
    common.record(__file__, {"size": options.size, "exposures": options.exposures, **figures}, options)


if __name__ == "__main__":
    main()
