"""One visit, from its encoded batches to alerts archived and received by a subscriber, through the associator.

189 batches with 10,000 (and 40,000) detections in all, each with its cutouts, are answered in groups as they
would come from the socket; a publisher of its own, as the service has it, sends notices over ZeroMQ.  Seconds run
from the first message to the moment at which the subscriber has the last alert; an alert's own latency is counted
from the same start.  Checked first: ids in ledger, archive and at the subscriber are equal.
"""

import argparse
import dataclasses
import multiprocessing
import os
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command does, before NumPy is loaded

import numpy as np
import zmq
from _common import ROOT, free_port, own_planes, record, survey_wcs

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from batches import a_batch

from gpudiff.edges import archive
from gpudiff.edges.detections import encode
from gpudiff.edges.sinks.zeromq import KEY
from gpudiff.model.config import Configuration, override
from gpudiff.services.associator import Associator, Message

DETECTORS = 189
GOALS_S = {10_000: 2.0, 40_000: 6.0}
VISITS = 5


def subscribe(endpoint: str, pipe: Connection) -> None:
    """In a process of its own: say that the first notice came; then, asked for a number of notices, wait for as
    many and tell when each came (perf_counter, the same for all processes) and of which alert."""
    socket = zmq.Context.instance().socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    socket.poll()
    pipe.send("here")
    while True:
        wanted = pipe.recv()
        while socket.poll(500):
            socket.recv_multipart()
        pipe.send("ready")
        keys, when = [], []
        while len(keys) < wanted:
            keys.append(socket.recv_multipart()[1])
            when.append(time.perf_counter())
        pipe.send((np.array(when), np.array([KEY.unpack(key)[0] for key in keys])))


def messages(visit: int, sources: int) -> list[Message]:
    """A visit's encoded batches: each detector has its own field, and the same stars every visit."""
    sizes = np.diff(np.linspace(0, sources, DETECTORS + 1).astype(int)).tolist()
    made = []
    for detector, count in enumerate(sizes):
        stars = np.random.default_rng(detector)
        place = {
            "ra": 150 + 0.23 * (detector % 14) + stars.uniform(0, 0.2, count),
            "dec": -30 + 0.2 * (detector // 14) + stars.uniform(0, 0.2, count),
        }
        batch = a_batch(count, visit, detector, **place)
        wcs = survey_wcs(float(place["ra"].mean()), float(place["dec"].mean()))
        batch = dataclasses.replace(batch, wcs=wcs, own=own_planes(count))
        made.append(Message([bytes(part) for part in encode(batch)]))
    return made


def measure(sources: int) -> dict[str, float]:
    """Medians over VISITS visits after a first: seconds until the answers, until all notices came, their p98."""
    found: list[tuple[float, float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        endpoint = f"tcp://127.0.0.1:{free_port()}"
        configuration = override(Configuration(), "service", sinks=[f"zmq+{endpoint}?tier=notice"])
        associator = Associator(Path(folder), configuration, apart=True)
        pipe, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=subscribe, args=(endpoint, theirs), daemon=True).start()
        while not pipe.poll(0.1):  # one that joins is not heard at once
            associator.take(a_batch(1, len(associator.ledger.sources()) + 1000, DETECTORS))
        pipe.recv()
        group = associator.configuration.ledger.group
        for visit in range(VISITS + 1):
            made = messages(visit, sources)
            pipe.send(sources)
            pipe.recv()
            start = time.perf_counter()
            for first in range(0, DETECTORS, group):
                associator.answers(made[first : first + group])
            answered = time.perf_counter() - start
            assert pipe.poll(120), "expected all notices within 2 minutes"
            when, sent = pipe.recv()
            found.append((answered, when.max() - start, np.quantile(when - start, 0.98)))
        check(associator, Path(folder), sent, VISITS, sources)
        associator.close()
    medians = np.median(found[1:], axis=0).tolist()
    worst = float(np.max(found[1:], axis=0)[2])
    return dict(zip(("answered_s", "all_s", "p98_s"), medians, strict=True)) | {"p98_worst_s": worst}


def check(associator: Associator, folder: Path, sent: np.ndarray, visit: int, sources: int) -> None:
    """Every id once in the ledger, in the archive and at the subscriber."""
    stored = np.sort(associator.ledger.sources(visit)["diaSourceId"])
    archived = np.sort([alert["diaSourceId"] for alert in archive.read(folder / "alerts" / f"{visit}.avro")])
    sent = np.sort(sent)
    assert len(np.unique(stored)) == sources
    assert (stored == archived).all()
    assert (stored == sent).all()


def main() -> None:
    """Measure, print, record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, choices=GOALS_S, help="detections of the visit (both)")
    parser.add_argument("--no-record", action="store_true", help="print only, write nothing to bench/results/")
    options = parser.parse_args()
    found = {}
    for sources, goal in GOALS_S.items():
        if options.sources in (None, sources):
            found[sources] = measure(sources)
            print(
                f"{sources:,} detections: " + ", ".join(f"{k} {v:.2f}" for k, v in found[sources].items()), end=""
            )
            print(f"; goal {goal:.0f} s p98")
    if not options.no_record:
        record(__file__, {"detectors": DETECTORS, "goal_s": GOALS_S, "found": found})


if __name__ == "__main__":
    main()
