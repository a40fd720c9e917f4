"""Writes a simulated night to disk: frames, templates, pointings and truth, spread over processes."""

import csv
import dataclasses
import json
import multiprocessing
import operator
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpudiff import __version__
from gpudiff.edges.atomic import atomically
from gpudiff.edges.fits import write_frame
from gpudiff.edges.sources import write_table
from gpudiff.model.errors import BadConfiguration, StoreFailed
from gpudiff.model.scene import Detector, FocalPlane, Night, Visit
from gpudiff.model.tables import Table, concatenate
from gpudiff.science import expose
from gpudiff.science.night import catalogue, field_centres, visits


@dataclass(frozen=True)
class Simulated:
    """Where a simulated night lies."""

    folder: Path
    frames: tuple[Path, ...]
    """In the order in which the camera would read them out."""
    templates: tuple[Path, ...]
    truth: Table


def simulate(
    night: Night,
    plane: FocalPlane,
    folder: Path,
    processes: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Simulated:
    """Write the night under `folder`; the pixels do not depend on `processes` (default: one a core).

    `folder` gets frames/<visit>_<detector>.fits, templates/<band>_<detector>.fits (with several fields
    <band>_f<field>_<detector>.fits), truth.ecsv, pointings.csv and simulation.json.  `progress` is told how
    many files of how many are written.
    Raises StoreFailed where the folder cannot be written, BadConfiguration unless processes are 1 to 1024.
    """
    if processes is not None and not 1 <= processes <= 1024:
        raise BadConfiguration(f"processes: expected 1 to 1024, got {processes}")
    _make_folders(folder)
    planned = visits(night)
    jobs: list[Callable[[], tuple[Path, Table | None]]] = [
        partial(_write_template, night, plane, field, detector, folder)
        for field in range(min(night.fields, night.visits))
        for detector in plane.detectors
    ]
    jobs += [
        partial(_write_frame, night, plane, visit, detector, folder)
        for visit in planned
        for detector in plane.detectors
    ]
    done = []
    for made in _run(jobs, processes or os.cpu_count() or 1):
        done.append(made)
        progress(len(done), len(jobs))
    truth = concatenate([table for _, table in done if table is not None])
    write_table(folder / "truth.ecsv", truth)
    _write_pointings(folder / "pointings.csv", night, planned)
    _write_summary(folder / "simulation.json", night, plane, planned)
    frames = tuple(path for path, table in done if table is not None)
    return Simulated(folder, frames, tuple(path for path, table in done if table is None), truth)


def _make_folders(folder: Path) -> None:
    """The folders, emptied of an earlier simulation's frames and templates."""
    try:
        for name in ("frames", "templates"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            for old in (folder / name).glob("*.fits"):
                old.unlink()
    except OSError as error:
        raise StoreFailed(f"{folder}: cannot be written: {error.strerror}") from None


def _run(
    jobs: list[Callable[[], tuple[Path, Table | None]]], processes: int
) -> Iterator[tuple[Path, Table | None]]:
    """The jobs' results in order."""
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            yield job()
        return
    context = multiprocessing.get_context("spawn")
    deaf = signal.SIGINT, signal.SIG_IGN  # a Ctrl-C is for this process, which ends the others
    pool = ProcessPoolExecutor(min(processes, len(jobs)), context, signal.signal, deaf)
    try:
        yield from pool.map(operator.call, jobs)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write_template(
    night: Night, plane: FocalPlane, field: int, detector: Detector, folder: Path
) -> tuple[Path, None]:
    middle = f"f{field}_" if night.fields > 1 else ""
    path = folder / "templates" / f"{night.band}_{middle}{detector.number}.fits"
    write_frame(path, expose.template(night, plane, catalogue(night, field, detector), field, detector))
    return path, None


def _write_frame(
    night: Night, plane: FocalPlane, visit: Visit, detector: Detector, folder: Path
) -> tuple[Path, Table]:
    path = folder / "frames" / f"{visit.number}_{detector.number}.fits"
    made, truth = expose.frame(night, plane, catalogue(night, visit.field, detector), visit, detector)
    write_frame(path, made)
    return path, truth


def _write_pointings(path: Path, night: Night, planned: list[Visit]) -> None:
    with atomically(path) as temporary, open(temporary, "w", newline="") as text:
        out = csv.writer(text)
        out.writerow(
            ["visit", "mjd_start_tai", "exposure_s", "band", "ra", "dec", "rotation_deg", "seeing_arcsec"]
        )
        for v in planned:
            seeing = round(v.weather.fwhm * night.pixel_scale, 4)
            out.writerow([v.number, v.mjd_start, night.exposure, night.band, v.ra, v.dec, night.rotation, seeing])


def _write_summary(path: Path, night: Night, plane: FocalPlane, planned: list[Visit]) -> None:
    """Every option, the sensors, and the weather of each visit: enough to make the night again."""
    summary = {
        "gpudiff": __version__,
        "night": dataclasses.asdict(night),
        "fields": field_centres(night),
        "detectors": [dataclasses.asdict(d) for d in plane.detectors],
        "visits": [dataclasses.asdict(v) for v in planned],
    }
    with atomically(path) as temporary:
        temporary.write_text(json.dumps(summary, indent=1, default=lambda array: array.tolist()) + "\n")
