"""A whole night through the running service: small frames that are really subtracted, visit after visit.

    python bench/night.py                       every visit of the table in ../shared/data/pointings (GPUDIFF_DATA)
    python bench/night.py NIGHT.csv --visits 50 the first visits of another table

The visits are announced as the scheduler has them, then two frames of 224 px of each are sent as fast as they
are taken.  `gpudiff run` starts the programs, a client sends, a subscriber listens; only time is compressed.
Every frame is one of a few; what the first of each kind has shown, all others must show.  Before a figure is
printed: each frame has its receipt and its detections, with the changes that were put into it among them; ids in
ledger, archive and stream are the same, each once.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import zmq
from _common import ROOT, arguments, data, device, free_port, print_table, record, running, wait_published

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from small_pair import GAIN, READ_NOISE, SATURATION, SIZE, WCS, field, render

from gpudiff.edges import archive
from gpudiff.edges.announcer import announce
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.edges.next_visit import read_visits
from gpudiff.edges.sinks.zeromq import KEY
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.next_visit import NextVisit

KINDS, CHANGES = 8, 4
"""Different science frames; what is new in each of them."""
DETECTORS = (1, 2)
SAMPLES = 40
"""Of memory, over the night."""


def template(band: str, detector: int) -> Frame:
    """What all frames of a detector are compared with: it is of no place, so that it serves all of them."""
    image = render(field(), 3.5 / 2.355, 2)
    return a_frame(FrameId(0, 0, detector), band, image, {}, float("nan"))


def a_frame(frame: FrameId, band: str, image: np.ndarray, wcs: dict[str, Any], start: float) -> Frame:
    times = {"mjd_start_tai": start, "mjd_end_tai": start + 30 / 86400, "exposure_s": 30.0}
    about = {"gain": GAIN, "read_noise": READ_NOISE, "saturation": SATURATION}
    return Frame(f"frame {frame}", Observation(frame, band, **times), image, wcs=wcs, **about)


def images() -> list[np.ndarray]:
    """The science frames: other noise in each, and CHANGES new sources of about 50 sigma between the stars."""
    made = []
    for seed in range(KINDS):
        rng = np.random.default_rng(seed)
        new = [(float(x), float(y), 4000.0) for x, y in rng.uniform(40, SIZE - 40, (CHANGES, 2))]
        made.append(render([*field(), *new], 4.5 / 2.355, 100 + seed))
    return made


def kind_of(number: int, detector: int) -> int:
    """Which of the science frames a detector of the night's n-th visit sees."""
    return (number * len(DETECTORS) + detector) % KINDS


def frames(visits: Sequence[NextVisit], science: Sequence[np.ndarray]) -> Iterator[Frame]:
    """All frames of the night."""
    for number, visit in enumerate(visits):
        for detector in DETECTORS:
            wcs = {**WCS, "CRVAL1": visit.ra, "CRVAL2": visit.dec + 0.1 * detector}
            image = science[kind_of(number, detector)]
            yield a_frame(FrameId(visit.visit, 0, detector), visit.band, image, wcs, visit.start_tai)


class Subscriber(threading.Thread):
    """Hears all notices; keys : (diaSourceId, revision) of each, as often as it came."""

    def __init__(self, endpoint: str):
        super().__init__(daemon=True)
        self.keys: Counter[tuple[int, int]] = Counter()
        self.over = threading.Event()
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.socket.setsockopt(zmq.RCVHWM, 0)
        self.socket.connect(endpoint)

    def run(self) -> None:
        while not self.over.is_set():
            if self.socket.poll(100):
                which, revision, _ = KEY.unpack(self.socket.recv_multipart()[1])
                self.keys[which, revision] += 1
        self.socket.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process and all below it, less what they only map."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has just ended
        return 0.0
    own = sum(int(line.split()[1]) for line in status if line.startswith("RssAnon")) / 1024
    return own + sum(memory_mb(int(child)) for child in children)


def send_all(endpoint: str, pid: int, visits: Sequence[NextVisit]) -> tuple[Counter[str], list[float]]:
    """Announce and send the night: how the frames ended, and memory while they came."""
    told = Counter(said["status"] for said in announce(endpoint, visits, 30.0))
    if told.total() != len(visits) or told["refused"]:
        sys.exit(f"announced {len(visits)} visits, answered: {dict(told)}")
    ends, memory = Counter[str](), list[float]()
    every = max(1, len(visits) * len(DETECTORS) // SAMPLES)
    with FrameClient(endpoint, timeout_s=120.0) as client:
        for receipt in client.send_many(frames(visits, images())):
            ends[receipt.status] += 1
            if ends.total() % every == 0:
                memory.append(memory_mb(pid))
    return ends, memory


def expected(found: dict[FrameId, int], visits: Sequence[NextVisit]) -> list[int]:
    """The ids that the night must have, by what the first frame of each kind has shown; ends the program where
    that is less than was put into it."""
    counts: dict[int, int] = {}
    ids: list[int] = []
    for number, visit in enumerate(visits):
        for detector in DETECTORS:
            kind = kind_of(number, detector)
            count = counts.setdefault(kind, found.get(FrameId(visit.visit, 0, detector), 0))
            if count < CHANGES:
                sys.exit(f"visit {visit.visit}, detector {detector}: {count} detections of {CHANGES} changes")
            ids += [visit.visit << 24 | detector << 16 | n for n in range(count)]
    return sorted(ids)


def check(directory: Path, visits: Sequence[NextVisit], heard: Subscriber) -> int:
    """How many detections there are; ends the program when ledger, archive or stream lost or doubled one."""
    ledger = LedgerReader(directory / "ledger.sqlite")
    stored = ledger.sources()["diaSourceId"].tolist()
    ledger.close()
    counts = Counter(FrameId(one >> 24, 0, one >> 16 & 0xFF) for one in stored)
    wanted = expected(counts, visits)
    files = sorted((directory / "alerts").glob("*.avro"))
    archived = sorted(alert["diaSourceId"] for file in files for alert in archive.read(file))
    streamed = sorted(which for which, _ in heard.keys)
    for name, ids in (("ledger", sorted(stored)), ("archive", archived), ("stream", streamed)):
        if ids != wanted:
            lost, more = Counter(wanted) - Counter(ids), Counter(ids) - Counter(wanted)
            sys.exit(f"{name}: {lost.total()} lost, {more.total()} too many of {len(wanted)}")
    return len(wanted)


def measure(visits: Sequence[NextVisit], workers: int) -> dict[str, Any]:
    """Start the service, send the night, stop the service, look at what it kept."""
    with tempfile.TemporaryDirectory(prefix="gpudiff-night-") as folder:
        directory, templates = Path(folder) / "service", Path(folder) / "templates"
        templates.mkdir()
        for band in sorted({visit.band for visit in visits}):
            for detector in DETECTORS:
                write_frame(templates / f"{band}_{detector}.fits", template(band, detector))
        stream = f"tcp://127.0.0.1:{free_port()}"
        config = Path(folder) / "night.toml"
        config.write_text(f'[service]\nframes = "tcp://127.0.0.1:0"\nsinks = ["zmq+{stream}?tier=notice"]\n')
        words = ["run", "--directory", directory, "--templates", templates, "--config", config]
        words += ["--workers", str(workers)]
        with running(words, Path(folder) / "log", OPENBLAS_NUM_THREADS="1") as (process, endpoint):
            heard = Subscriber(stream)
            heard.start()
            begun = time.perf_counter()
            ends, memory = send_all(endpoint, process.pid, visits)
            seconds = time.perf_counter() - begun
            wait_published(directory)
        time.sleep(1.0)  # what is on its way to the subscriber
        heard.over.set()
        heard.join()
        if set(ends) - {"done", "duplicate"} or ends.total() != len(visits) * len(DETECTORS):
            sys.exit(f"sent {len(visits) * len(DETECTORS)} frames, ended: {dict(ends)}")
        detections = check(directory, visits, heard)
    half = memory[len(memory) // 2] if memory else float("nan")
    counts = {"visits": len(visits), "frames": ends.total(), "detections": detections, "lost": 0, "doubled": 0}
    told = {"memory_half_mb": half, "memory_end_mb": memory[-1] if memory else half, "memory_mb": memory}
    return counts | {"seconds": seconds, "frames_per_s": ends.total() / seconds} | told


def parsed() -> argparse.Namespace:
    """The command line."""
    nights = sorted((data() / "pointings").glob("*.csv"))
    parser = arguments(__doc__)
    parser.add_argument("night", type=Path, nargs="?", default=next(iter(nights), None))
    parser.add_argument("--visits", type=int, help="the first of the night (all)")
    parser.add_argument("--workers", type=int, default=2, help="(%(default)s)")
    return parser.parse_args()


def main() -> None:
    """Measure, print, record."""
    options = parsed()
    if options.night is None:
        print("nothing measured: expected a table of pointings (an argument, or GPUDIFF_DATA)")
        return
    visits = list(read_visits(options.night))[: options.visits]
    figures = measure([replace(one, detectors=DETECTORS) for one in visits], options.workers)
    print_table(f"{options.night.stem}, {device()}", figures)
    record("night", {"night": options.night.stem, "workers": options.workers} | figures, options)


if __name__ == "__main__":
    main()
