"""Load: visits of recorded detections against a running `gpudiff associator`; latency, memory, nothing lost.

    python bench/load.py                       20 visits of 189 detectors, 10,000 detections each
    python bench/load.py --detections 40000    the same in a burst
    python bench/load.py --short               seconds: to see that it works

The pixel work is replaced: batches as differencers make them, with three cutouts for every detection, made before
the visit ends and sent from then on by as many senders as the differencers have workers.  The latency of an alert
counts from the end of the visit's readout, on schedule even while an earlier visit is not through; it ends when a
ZeroMQ sink has the alert's notice.  Before a figure is printed, ids in ledger and archive must be those sent.
A visit's archive file is checked and removed before the next but one: 20 visits of 40,000 alerts are 110 GB.
Beside it stands what a bare loop takes in the same run to receive a visit's messages over a Unix socket and to
have the bytes of its alerts on the same disk: no service that keeps them is faster on that machine.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import numpy as np
from _bare_visit import bare_s
from _common import CUTOUT, arguments, device, own_planes, print_table, record, running, survey_wcs, wait_published

from gpudiff.edges import archive
from gpudiff.edges.detections import encode
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.clock import tai_now
from gpudiff.model.frame import FrameId, Observation
from gpudiff.model.provenance import step
from gpudiff.model.tables import DIASOURCE, Table, dia_source_ids
from gpudiff.services.handover import Handover

DETECTORS, SIDE = 189, 14
"""Sensors of the camera, in a square of so many a side."""
SIZE_DEG = 0.2
NEW = 0.2
"""Of the detections are at places that nothing was seen at before."""
FIRST_VISIT = 1000


@dataclass
class Run:
    """What one run measured.

    left : of each visit, batches that are not committed; archived : ids in the files that were removed
    messages : bytes of each part of the last visit's messages
    """

    visits: int
    sent: set[int] = field(default_factory=set)
    left: Counter[int] = field(default_factory=Counter)
    archived: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    visit_s: list[float] = field(default_factory=list)
    messages: list[list[int]] = field(default_factory=list)


def a_batch(visit: int, detector: int, count: int, moment: float, rng: np.random.Generator) -> DetectionBatch:
    """Detections of one detector: known places with 0.03 arcsec of scatter, and new ones.

    moment : end of readout, MJD TAI
    """
    places = np.random.default_rng(detector).uniform(0, SIZE_DEG, (count, 2))
    places += rng.normal(0, 0.03 / 3600, places.shape)
    new = rng.random(count) < NEW
    places[new] = rng.uniform(0, SIZE_DEG, (int(new.sum()), 2))
    corner = SIZE_DEG * np.array([detector % SIDE, detector // SIDE])
    values = {column.name: np.zeros(count, column.dtype) for column in DIASOURCE}
    values.update(
        diaSourceId=dia_source_ids(visit, detector, count),
        visit=np.full(count, visit),
        detector=np.full(count, detector, np.int16),
        midpointMjdTai=np.full(count, moment),
        x=rng.uniform(0, 4000, count),
        y=np.sort(rng.uniform(0, 4000, count)),
        ra=150 + corner[0] + places[:, 0],
        dec=-1.4 + corner[1] + places[:, 1],
        raErr=np.full(count, 1e-5),
        decErr=np.full(count, 1e-5),
        psfFlux=rng.uniform(500, 5000, count),
        psfFluxErr=np.full(count, 50.0),
        snr=np.full(count, 20.0),
    )
    columns = {column.name: np.asarray(values[column.name]).astype(column.dtype) for column in DIASOURCE}
    times = {"mjd_start_tai": moment - 3e-4, "mjd_end_tai": moment, "readout_end_tai": moment, "exposure_s": 30.0}
    return DetectionBatch(
        observation=Observation(FrameId(visit, 0, detector), band="r", **times),
        sources=Table(DIASOURCE, columns),
        **planes(count),
        psf=np.full((25, 25), 1 / 625, np.float32),
        wcs=survey_wcs(150 + corner[0], -1.4 + corner[1]),
        fingerprint=f"{visit:08x}{detector:024x}",
        steps=(step("recorded", "1", "0" * 32, []),),
        received_tai=moment,
        sent_tai=tai_now(),
    )


@cache
def planes(count: int) -> dict[str, Any]:
    """Cutouts and their planes: the same for all, their values count for nothing here."""
    return {
        "cutouts": np.ones((count, 3, CUTOUT, CUTOUT), np.float32),
        "variance": np.full((count, CUTOUT, CUTOUT), 4, np.float32),
        "mask": np.zeros((count, CUTOUT, CUTOUT), np.uint16),
        "own": own_planes(count),
    }


def send(
    queue: Queue[DetectionBatch], endpoint: str, over: threading.Event, run: Run, lock: threading.Lock
) -> None:
    """One worker's part: hand batches on, one after the other, until it is over."""
    handover = Handover(endpoint)
    while not over.is_set():
        try:
            batch = queue.get(timeout=0.1)
        except Empty:
            continue
        handover.commit(batch)
        with lock:
            run.left[batch.observation.frame.visit] -= 1
        queue.task_done()
    handover.close()


def visits(options: argparse.Namespace, clear: Callable[[float], None]) -> Iterator[list[DetectionBatch]]:
    """The batches of each visit, at the end of its readout: `period` after the one before, or, with period 0 and
    where making the batches takes longer, as soon as they are made.

    clear : called, with the time at which the next visit is due, before its batches are made
    """
    counts = np.full(options.detectors, options.detections // options.detectors)
    counts[: options.detections % options.detectors] += 1
    rng = np.random.default_rng(1)
    due, takes_s = tai_now(), 0.5
    for visit in range(FIRST_VISIT, FIRST_VISIT + options.visits):
        clear(due + options.period / 86400)
        due = max(due + options.period / 86400, tai_now() + 1.5 * takes_s / 86400)
        time.sleep(max(0.0, (due - tai_now()) * 86400 - 2 * takes_s))  # not beside the visit before, if it can be
        while True:
            begun = time.perf_counter()
            batches = [a_batch(visit, n, int(count), due, rng) for n, count in enumerate(counts)]
            takes_s = time.perf_counter() - begun
            if tai_now() <= due:
                break
            due = tai_now() + 1.5 * takes_s / 86400
        time.sleep(max(0.0, (due - tai_now()) * 86400))
        yield batches


def drive(endpoint: str, pid: int, directory: Path, options: argparse.Namespace) -> Run:
    """Send all visits; what was sent, and the associator's memory after each."""
    queue: Queue[DetectionBatch] = Queue()
    over, run, lock = threading.Event(), Run(options.visits), threading.Lock()
    for _ in range(options.senders):
        threading.Thread(target=send, args=(queue, endpoint, over, run, lock), daemon=True).start()
    for batches in visits(options, lambda due: clear(directory, run, due)):
        begun = time.perf_counter()
        run.left[batches[0].observation.frame.visit] = len(batches)
        for batch in batches:
            run.sent.update(batch.sources["diaSourceId"].tolist())
            queue.put(batch)
        if not options.period or len(run.visit_s) == options.visits - 1:
            queue.join()
        run.visit_s.append(time.perf_counter() - begun)
        run.memory_mb.append(memory_mb(pid))
    over.set()
    run.messages = [[memoryview(part).nbytes for part in encode(batch)] for batch in batches]
    return run


def clear(directory: Path, run: Run, due: float) -> None:
    """Note what is in the archive files of visits, but for the last, and remove them, once all is committed: not
    beside a visit that is measured.  due : when the next one is, MJD TAI"""
    while any(run.left.values()) and tai_now() < due:
        time.sleep(0.05)
    done = [] if any(run.left.values()) else list(run.left)[:-1]
    for visit in done:
        file = directory / "alerts" / f"{visit}.avro"
        if file.exists():
            run.archived += [alert["diaSourceId"] for alert in archive.read(file)]
            file.unlink()


def memory_mb(pid: int) -> float:
    """Resident memory of a process now, less what it only maps."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("RssAnon"))) / 1024


def measured(directory: Path, run: Run, senders: int) -> dict[str, Any]:
    """The figures; ends the program when ids were lost or doubled."""
    ledger = LedgerReader(directory / "ledger.sqlite")
    stored, seconds = ledger.sources()["diaSourceId"].tolist(), ledger.latencies()
    each = [float(np.percentile(ledger.latencies(visit), 98)) for visit in sorted(run.left)]
    ledger.close()
    files = sorted((directory / "alerts").glob("*.avro"))
    archived = sorted([*run.archived, *(alert["diaSourceId"] for file in files for alert in archive.read(file))])
    for name, ids in (("ledger", stored), ("archive", archived)):
        if ids != sorted(run.sent):
            sys.exit(
                f"{name}: {len(run.sent - set(ids))} lost, {len(ids) - len(set(ids))} doubled of {len(run.sent)}"
            )
    half = max(1, len(run.memory_mb) // 2)
    return {
        "visits": run.visits,
        "detections": len(run.sent),
        "lost": 0,
        "doubled": 0,
        "latency_median_s": float(np.median(seconds)),
        "latency_p98_s": float(np.percentile(seconds, 98)),
        "latency_max_s": float(seconds.max()),
        "bare_s": bare_s(run.messages, files[-1].stat().st_size, senders, directory),
        "visit_p98_s": each,
        "visit_median_s": float(np.median(run.visit_s)),
        "memory_half_mb": run.memory_mb[half - 1],
        "memory_end_mb": run.memory_mb[-1],
        "memory_mb": run.memory_mb,
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Start an associator, drive it, stop it, look at what it kept."""
    with tempfile.TemporaryDirectory(prefix="gpudiff-load-") as folder:
        directory = Path(folder)
        (directory / "load.toml").write_text('[service]\nsinks = ["zmq+tcp://127.0.0.1:0?tier=notice"]\n')
        words = ["associator", "--directory", directory, "--config", directory / "load.toml"]
        with running(words, directory / "log") as (process, endpoint):
            run = drive(endpoint, process.pid, directory, options)
            wait_published(directory)
        return measured(directory, run, options.senders)


def parsed() -> argparse.Namespace:
    """The command line; --short chooses numbers of its own."""
    parser = arguments(__doc__)
    parser.add_argument("--visits", type=int, default=20, help="(%(default)s)")
    parser.add_argument("--detectors", type=int, default=DETECTORS, help="(%(default)s)")
    parser.add_argument("--detections", type=int, default=10_000, help="a visit (%(default)s)")
    period = "s from visit to visit, 39 at a telescope; 0: as fast as they end"
    parser.add_argument("--period", type=float, default=0.0, help=period)
    parser.add_argument("--senders", type=int, default=16, help="workers of all differencers (%(default)s)")
    parser.add_argument("--short", action="store_true", help="2 visits of 4 detectors, 40 detections each")
    options = parser.parse_args()
    if options.short:
        options.visits, options.detectors, options.detections = 2, 4, 40
    return options


def main() -> int:
    """Measure, print, record."""
    options = parsed()
    figures = measure(options)
    title = f"{options.detectors} detectors, {options.detections:,} detections a visit, {device()}"
    print_table(title, figures)
    if not options.short:
        said = {name: getattr(options, name) for name in ("detectors", "detections", "period", "senders")}
        record(f"load_{options.detections}", said | figures, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
