"""The template of a frame among 100,000: found in the index, mapped, and what it costs the memory of two workers.

Checked first: the one that is found lies where the frame does; a mapped template has the pixels of one that was
read.  Peers in the same run: looking at every footprint, as a list in memory would; reading the file whole.
"""

import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import _common as common
import numpy as np

from gpudiff.edges.fits import read_frame, write_frame
from gpudiff.edges.template_index import TemplateIndex, circle
from gpudiff.edges.templates import TemplateStore
from gpudiff.model.config import Configuration, Instrument
from gpudiff.model.footprint import Footprint, sample_pixels
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.sky import Sky, unit_vectors
from gpudiff.science.calibrate import calibrate

SHAPE = 4000, 4072
WORKERS = 2


def wcs(ra: float, dec: float, shape: tuple[int, int] = SHAPE) -> dict:
    """A CCD of 0.2 arcsec a pixel."""
    scale = 0.2 / 3600
    middle = {"CRPIX1": (shape[1] + 1) / 2, "CRPIX2": (shape[0] + 1) / 2, "CRVAL1": ra, "CRVAL2": dec}
    return {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **middle, "CD1_1": -scale, "CD2_2": scale}


def filled(folder: Path, count: int, rng: np.random.Generator) -> tuple[TemplateStore, np.ndarray]:
    """A store that knows of `count` CCDs in six bands all over the southern sky; their (ra, dec)."""
    store = TemplateStore(folder, index=folder.parent / "index.sqlite")
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 0.1, count)))
    rows = []
    for n, (a, d) in enumerate(zip(ra.tolist(), dec.tolist(), strict=True)):
        cards = wcs(a, d)
        centre = unit_vectors(np.array(a), np.array(d))
        place = (json.dumps(cards), *map(float, centre), RADIUS)
        rows.append((f"{n}.fits", 1, 1, "ugrizy"[n % 6], n, 0, n % 189, *SHAPE, *place, "", ""))
    store.index._lines.execute("begin")
    store.index._put(rows)
    store.index._lines.execute("commit")
    return store, np.stack([ra, dec])


RADIUS = circle(SHAPE, Sky(wcs(10.0, 0.0)))[1]


def footprint(ra: float, dec: float, band: str) -> Footprint:
    """That of a CCD that lies a little beside a template."""
    return Footprint(1, band, SHAPE, Sky(wcs(ra, dec + 0.01)).to_sky(*sample_pixels(SHAPE)))


def median_ms(work: Callable[[int], object], numbers: list[int]) -> float:
    return round(1e3 * statistics.median(common.took_s(work, numbers)), 3)


def found(folder: Path, count: int) -> dict[str, float]:
    """Milliseconds to find one template of `count`, by the index and by looking at every one's circle."""
    rng = np.random.default_rng(1)
    begun = time.perf_counter()
    store, places = filled(folder, count, rng)
    made = time.perf_counter() - begun
    numbers = rng.integers(0, count, 200).tolist()
    wanted = {n: footprint(*places[:, n].tolist(), "ugrizy"[n % 6]) for n in numbers}
    vectors = unit_vectors(*places)

    def every(n: int) -> np.ndarray:
        middle = unit_vectors(*wanted[n].points).mean(0)
        return np.flatnonzero(vectors @ (middle / np.linalg.norm(middle)) > np.cos(2 * RADIUS))

    for n in numbers:
        best = store.best(wanted[n])
        assert best is not None
        assert int(best.path.split(".")[0]) in every(n)
        assert best.band == wanted[n].band
    visit = [wanted[n] for n in numbers[:189]]
    return {
        "insert_s": round(made, 2),
        "index_mb": round((folder.parent / "index.sqlite").stat().st_size / 2**20, 1),
        "find_ms": median_ms(lambda n: store.best(wanted[n]), numbers),
        "a_visit_of_189_ms": median_ms(lambda n: [store.best(one) for one in visit], [0, 1, 2]),
        "all_circles_in_memory_ms": median_ms(every, numbers),
    }


def private_mb() -> float:
    """Megabytes of this process's memory that it shares with nobody."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) / 1024


def worker(path: str, mapped: bool, begin: multiprocessing.Barrier, out: multiprocessing.Queue) -> None:
    """Load a template, make an exposure of it, and say what that took and what it keeps."""
    calibrate(read_frame(path, digest="known"), Configuration())  # a worker that has had a frame before
    before = private_mb()
    begun = time.perf_counter()
    frame = read_frame(path, mapped=mapped, digest="known")
    loaded = time.perf_counter() - begun
    calibrate(frame, Configuration())
    whole = time.perf_counter() - begun
    begin.wait()
    out.put((1e3 * loaded, 1e3 * whole, private_mb() - before))
    begin.wait()


def loaded(path: Path, mapped: bool) -> dict[str, float]:
    """Milliseconds and private megabytes a worker, when two have the template at once."""
    context = multiprocessing.get_context("spawn")
    begin, out = context.Barrier(WORKERS), context.Queue()
    workers = [context.Process(target=worker, args=(str(path), mapped, begin, out)) for _ in range(WORKERS)]
    for one in workers:
        one.start()
    answers = [out.get() for _ in workers]
    for one in workers:
        one.join()
    names = ("load_ms", "load_and_calibrate_ms", "private_mb_kept")
    return {name: round(max(values), 1) for name, values in zip(names, zip(*answers, strict=True), strict=True)}


def template(size: int) -> Frame:
    rng = np.random.default_rng(2)
    image = rng.normal(0, 5, (size, size)).astype(np.float32)
    image[::64, ::64] += 4000
    mask, variance = np.zeros(image.shape, np.int32), np.full(image.shape, 25, np.float32)
    cards = wcs(150.0, 2.0, image.shape)
    return Frame("template", Observation(FrameId(1, 0, 1), "r"), image, mask, variance, gain=10.0, wcs=cards)


def main() -> None:
    parser = common.arguments(__doc__, size=4096)
    parser.add_argument("--templates", type=int, default=100_000, help="in the index (%(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "templates"
        folder.mkdir()
        figures = {f"find one of {options.templates}": found(folder, options.templates)}
        path = folder / "one.fits"
        write_frame(path, template(options.size))
        same = read_frame(path)
        assert read_frame(path, mapped=True).digest == same.digest
        figures["mapped"], figures["read whole"] = loaded(path, True), loaded(path, False)
        index = TemplateIndex(folder, Instrument())
        begun = time.perf_counter()
        index.refresh()
        figures["headers of one file"] = {"ms": round(1e3 * (time.perf_counter() - begun), 2)}
    print(f"{common.device()}; {options.size} px; load {os.getloadavg()[0]:.1f}")
    for name, row in figures.items():
        print(f"  {name:<24} {row}")
    common.record(__file__, {"size": options.size, **figures}, options)


if __name__ == "__main__":
    main()
