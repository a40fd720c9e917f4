"""One visit, from its encoded batches to alerts archived and received by a subscriber, through the associator.

189 batches with 10,000 (and 40,000) detections in all, each with its cutouts and their planes, are associated with
100,000 known objects and a million ephemerides, and answered in groups as they would come from the socket; a
publisher of its own, as the service has it, sends notices over ZeroMQ.  Seconds run from the first message to the
moment at which the subscriber has the last alert; an alert's own latency is counted from the same start.  Checked
first: ids in ledger, archive and at the subscriber are equal.
"""

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
from _common import ROOT, arguments, free_port, own_planes, record, survey_wcs

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from batches import a_batch, a_sources
from ephemerides import made_up

from gpudiff.edges import archive, object_store
from gpudiff.edges.detections import encode
from gpudiff.edges.sinks.zeromq import KEY
from gpudiff.edges.sky_file import write_sky_file
from gpudiff.model.config import Configuration, override
from gpudiff.science.objects import new_objects
from gpudiff.services import solar_system
from gpudiff.services.associator import Associator, Message

DETECTORS = 189
GOALS_S = {10_000: 2.0, 40_000: 6.0}
VISITS, KNOWN = 5, 100_000


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


def stars(detector: int, count: int) -> dict[str, np.ndarray]:
    """Each detector has its own field, and the same stars every visit."""
    random = np.random.default_rng(detector)
    return {
        "ra": 150 + 0.23 * (detector % 14) + random.uniform(0, 0.2, count),
        "dec": -30 + 0.2 * (detector // 14) + random.uniform(0, 0.2, count),
    }


def known_sky(folder: Path, sources: int) -> dict[str, str]:
    """The [sky] of a service in which half of a visit's stars are known, and 100,000 objects in its field."""
    known = [stars(detector, sources // DETECTORS // 2) for detector in range(DETECTORS)]
    random = np.random.default_rng(1)
    rest = KNOWN - sum(len(one["ra"]) for one in known)
    known.append({"ra": 150 + random.uniform(0, 3.2, rest), "dec": -30 + random.uniform(0, 2.8, rest)})
    objects = {
        name: np.resize(column, KNOWN) for name, column in new_objects(a_sources(1), 60000.0).columns.items()
    }
    objects |= {name: np.concatenate([one[name] for one in known]) for name in ("ra", "dec")}
    write_sky_file(folder / "known.sky", object_store.KIND, objects | {"diaObjectId": np.arange(KNOWN) + 1}, {})
    facts = {"middle_mjd_tai": 61002.0, "hours": 240.0, "site": None}
    write_sky_file(folder / "night.sky", solar_system.KIND, made_up(1_000_000), facts)
    return {"known_objects": str(folder / "known.sky"), "ephemerides": str(folder / "night.sky")}


def messages(visit: int, sources: int) -> list[Message]:
    """A visit's encoded batches."""
    sizes = np.diff(np.linspace(0, sources, DETECTORS + 1).astype(int)).tolist()
    made = []
    for detector, count in enumerate(sizes):
        place = stars(detector, count)
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
        configuration = override(configuration, "sky", **known_sky(Path(folder), sources))
        associator = Associator(Path(folder), configuration, apart=True)
        pipe, theirs = multiprocessing.Pipe()
        multiprocessing.Process(target=subscribe, args=(endpoint, theirs), daemon=True).start()
        while not pipe.poll(0.1):  # one that joins is not heard at once
            associator.take(a_batch(1, len(associator.ledger.sources()) + 1000, DETECTORS))
        pipe.recv()
        group = associator.configuration.ledger.group
        for visit in range(VISITS + 1):
            associator.settling.sky.prepare(151.6, -28.6, 2.3)  # as an announcement does
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
            if visit < VISITS:  # a visit of 40,000 is 5.4 GB
                (Path(folder) / "alerts" / f"{visit}.avro").unlink()
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
    parser = arguments(__doc__)
    parser.add_argument("--sources", type=int, choices=GOALS_S, help="detections of the visit (both)")
    options = parser.parse_args()
    found = {}
    for sources, goal in GOALS_S.items():
        if options.sources in (None, sources):
            found[sources] = measure(sources)
            print(
                f"{sources:,} detections: " + ", ".join(f"{k} {v:.2f}" for k, v in found[sources].items()), end=""
            )
            print(f"; goal {goal:.0f} s p98")
    record(__file__, {"detectors": DETECTORS, "goal_s": GOALS_S, "found": found}, options)


if __name__ == "__main__":
    main()
