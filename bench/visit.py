"""One visit, from its encoded batches to alerts archived and handed to a sink, through the associator.

189 batches with 10,000 (and 40,000) detections in all, each with its cutouts, are answered in groups as they would
come from the socket.  Seconds run from the first message to the moment at which the sink has the last alert; an
alert's own latency is counted from the same start.  Checked first: ids in ledger, archive and sink are equal.
"""

import argparse
import dataclasses
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from _common import ROOT, record

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT))

from batches import a_batch

from gpudiff.edges import archive
from gpudiff.edges.detections import encode
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator, Message

DETECTORS = 189
GOALS_S = {10_000: 2.0, 40_000: 6.0}
VISITS = 3


class Timed(Memory):
    """Notes when each batch has come, and keeps ids only."""

    def __init__(self):
        super().__init__("bench")
        self.got: list[tuple[float, np.ndarray]] = []
        self.all = threading.Event()
        self.wanted = 0

    def publish(self, batch):
        made = super().publish(batch)
        self.batches.clear()
        self.got.append((time.perf_counter(), batch.rows["diaSourceId"]))
        if sum(len(ids) for _, ids in self.got) >= self.wanted:
            self.all.set()
        return made


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
        batch = dataclasses.replace(batch, cutouts=np.ascontiguousarray(batch.cutouts))
        made.append(Message([bytes(part) for part in encode(batch)]))
    return made


def measure(sources: int) -> dict[str, float]:
    """Of the last of VISITS visits: seconds until the answers, until the sink has all, and p98 of the alerts."""
    with tempfile.TemporaryDirectory() as folder:
        sink = Timed()
        associator = Associator(Path(folder), Configuration(), sinks=[sink])
        group = associator.configuration.ledger.group
        for visit in range(1, VISITS + 1):
            made = messages(visit, sources)
            sink.got, sink.wanted = [], sources
            sink.all.clear()
            start = time.perf_counter()
            for first in range(0, DETECTORS, group):
                associator.answers(made[first : first + group])
            answered = time.perf_counter() - start
            sink.all.wait(120)
        check(associator, Path(folder), sink, VISITS, sources)
        associator.close()
    seconds = np.concatenate([np.full(len(ids), when - start) for when, ids in sink.got])
    return {"answered_s": answered, "all_s": float(seconds.max()), "p98_s": float(np.quantile(seconds, 0.98))}


def check(associator: Associator, folder: Path, sink: Timed, visit: int, sources: int) -> None:
    """Every id once in the ledger, the archive and the sink."""
    stored = np.sort(associator.ledger.sources(visit)["diaSourceId"])
    archived = np.sort([alert["diaSourceId"] for alert in archive.read(folder / "alerts" / f"{visit}.avro")])
    sent = np.sort(np.concatenate([ids for _, ids in sink.got]))
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
