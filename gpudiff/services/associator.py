"""Associator: takes each frame's detections, decides known or new, commits, publishes, answers.

One thread, one writer.  A batch is answered once it is in the ledger and its alerts are in the archive; a crash
before the answer makes the sender repeat the batch, and the ledger absorbs the repeat.
"""

import fcntl
import json
import os
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gpudiff.edges import alert_codec, detections
from gpudiff.edges.alert_schema import schema_fingerprint, schema_text
from gpudiff.edges.atomic import atomically
from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.detections import Answer
from gpudiff.edges.ledger import Commit, Ledger
from gpudiff.edges.transport import Router, endpoint_in, wait
from gpudiff.model.association import Association
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.clock import tai_now
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadMessage, GpudiffError, MustStop, StoreFailed
from gpudiff.model.frame import FrameId
from gpudiff.model.provenance import canonical, digest
from gpudiff.model.tables import DIAOBJECT, Table
from gpudiff.science.alert import latency, make_alerts, provenance, reference_time
from gpudiff.science.associate import NEIGHBOURHOOD, associate
from gpudiff.science.objects import rebuild
from gpudiff.science.stopwatch import Stopwatch
from gpudiff.services import log
from gpudiff.services.associator_metrics import AssociatorMetrics
from gpudiff.services.known_sky import KnownSky
from gpudiff.services.monitor import Monitor, well
from gpudiff.services.publisher import Publisher

LISTEN_S = 1.0
MAX_BYTES = 4 << 30
"""Of one message; 65,536 sources with three cutouts of 51 x 51 are 2 GB."""


@dataclass(frozen=True)
class Revision:
    """What a frame's new revision takes back: ids of objects that lose detections, and what is left of them."""

    number: int
    withdrawn: list[int]
    rebuilt: Table


class Associator:
    """The owner of a directory: ledger.sqlite, alerts/, dead/, associator.json, and a lock against others."""

    def __init__(self, directory: Path, configuration: Configuration, clock: Callable[[], float] = tai_now):
        """Publishes what an earlier run left in the outbox.  Raises StoreFailed, also when the directory has
        an owner already."""
        self.configuration, self.clock = configuration, clock
        self.counts: Counter[str] = Counter()
        self.metrics = AssociatorMetrics()
        self.directory = directory
        self._lock = own(directory)
        self.ledger = Ledger(directory / "ledger.sqlite")
        self.publisher = Publisher(self.ledger, directory / "alerts", clock)
        self.dead = DeadLetters(directory / "dead")
        self.publisher.publish()
        self.sky = KnownSky(self.ledger.objects())

    def close(self) -> None:
        """Close the ledger, give the directory back."""
        self.ledger.close()
        os.close(self._lock)

    def answer(self, parts: Sequence[Any], cut: bool = False) -> Answer:
        """What to say to one message: committed, duplicate, or failed and put aside.  Raises MustStop only.

        cut : the message was longer than it may be, and is not whole
        """
        try:
            if cut:
                raise BadMessage(f"detections: expected at most 5 parts and {MAX_BYTES} bytes")
            answer = self.take(detections.decode(list(parts)))
        except MustStop:
            raise
        except GpudiffError as error:
            answer = self._refuse(parts, error)
        except Exception as error:
            # a message must not stop the service, whatever it trips over: it is kept, with the place
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            answer = self._refuse(parts, BadMessage(f"detections: {type(error).__name__} at {place}: {error}"))
        self.counts[answer.status] += 1
        self.metrics.answered(answer.status, answer.error)
        return answer

    def report(self, state: str, endpoint: str) -> None:
        """Write associator.json: state, process id, endpoint, objects known, and what was counted since the
        start: committed, duplicate, failed, each error by name, unplaced sources, unheard answers."""
        status = {"state": state, "pid": os.getpid(), "detections": endpoint, "objects": len(self.sky)}
        with atomically(self.directory / "associator.json") as temporary:
            temporary.write_text(json.dumps({**status, "counts": self.counts}, indent=1))

    def take(self, batch: DetectionBatch) -> Answer:
        """Associate, commit and publish one batch; a repeat changes nothing."""
        frame = batch.observation.frame
        stored = self.ledger.standing(frame)
        if stored and stored.fingerprint == batch.fingerprint:
            new = stored.sources - stored.known
            counts = (stored.sources, stored.known, new)
            return Answer(_list(frame), "duplicate", *counts, latency_s=stored.latency_s)
        try:
            found = self._commit(batch, self._revision(batch, stored.revision + 1 if stored else 0))
        except BaseException:
            self.sky = KnownSky(self.ledger.objects())  # it may have run ahead of the ledger
            raise
        watch = Stopwatch()
        self.publisher.publish()
        watch.lap("publish")
        self.metrics.stages(watch.seconds)
        known, count = int(found.known.sum()), len(found.known)
        self.counts["unplaced"] += int(np.isnan(found.objects["ra"]).sum())
        seconds = latency(batch, self.clock())
        self.metrics.committed(known, count - known, seconds, len(self.sky))
        log.say("commit", frame, sources=count, known=known, latency_s=seconds)
        return Answer(_list(frame), "committed", count, known, count - known, latency_s=seconds)

    def _revision(self, batch: DetectionBatch, number: int) -> Revision:
        if number == 0:
            return Revision(0, [], Table.empty(DIAOBJECT))
        ids, left, owner = self.ledger.left_without(batch.observation.frame)
        return Revision(number, ids, rebuild(left, owner, self.clock()))

    def _commit(self, batch: DetectionBatch, revision: Revision) -> Association:
        watch = Stopwatch()
        self.sky.remove(revision.withdrawn)
        self.sky.put(revision.rebuilt)
        frame, now = batch.observation.frame, self.clock()
        nearby = self.sky.near(batch.sources["dec"], NEIGHBOURHOOD / 3600)
        radius = self.configuration.service.association_radius
        found = associate(batch.sources, nearby, radius, now)
        found = self._with_free_ids(found, frame)
        watch.lap("associate")
        settings = digest(canonical({"association_radius": radius}))
        alerts = make_alerts(batch, found, revision.number, settings, now)
        records = alert_codec.encode_sources(alerts)
        ids = found.object_ids.tolist()
        past = self.ledger.history(ids, frame, batch.observation.midpoint_mjd_tai)
        watch.lap("encode")
        self.ledger.commit(
            Commit(
                frame=frame,
                fingerprint=batch.fingerprint,
                revision=revision.number,
                band=batch.observation.band,
                sources=batch.sources,
                association=found,
                records=records,
                alerts=alert_codec.encode_alerts(alerts, records, [past.get(one, []) for one in ids]),
                withdrawn=revision.withdrawn,
                rebuilt=revision.rebuilt,
                schema=schema_text(),
                schema_fingerprint=schema_fingerprint(),
                alert_fingerprint=alerts.fingerprint,
                steps=provenance(batch, settings)[1],
                reference_tai=reference_time(batch),
                now=now,
            )
        )
        watch.lap("commit")
        self.metrics.stages(watch.seconds)
        self.sky.put(found.objects)
        return found

    def _with_free_ids(self, found: Association, frame: FrameId) -> Association:
        """New objects under ids that no object has.

        A source's own id is taken when an earlier revision of the frame made an object of that name which
        other frames have joined; then ids are counted down from the last one the frame could have given.
        """
        ids = found.object_ids.copy()
        free = frame.visit << 24 | frame.detector << 16 | 0xFFFF
        given = set(ids.tolist())
        for row in np.flatnonzero(~found.known):
            if ids[row] in self.sky:
                while free in self.sky or free in given:
                    free -= 1
                ids[row] = free
                given.add(free)
        return replace(found, objects=found.objects.replace(diaObjectId=ids))

    def _refuse(self, parts: Sequence[Any], error: GpudiffError) -> Answer:
        frame = detections.frame_of(list(parts))
        name = "detections-" + "-".join(map(str, frame)) if frame else ""
        self.dead.bury(parts, error, name)
        log.warn("refused", error, FrameId(*frame) if frame else None)
        self.counts[error.name] += 1
        return Answer(frame, "failed", error=error.name, reason=str(error))


def own(directory: Path) -> int:
    """A lock on the directory, as a file descriptor: nobody else gets it until it is closed.

    The kernel gives it back when its holder dies.  Raises StoreFailed when somebody holds it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / "associator.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreFailed(f"{directory}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreFailed(f"{directory}: expected no other associator, one owns this directory") from None
    return lock


def serve(
    directory: Path,
    endpoint: str,
    configuration: Configuration,
    ready: Callable[[str], None],
    stopping: Callable[[], bool],
    metrics: str | None = None,
) -> None:
    """Answer detections until told to stop; a batch that was begun is finished and answered.

    endpoint : to bind; ready : called with the endpoint once batches are taken; stopping : asked every second
    and after each batch; metrics : "[HOST:]PORT" for Prometheus and health, None for none
    Batches that still wait in the socket are their senders' to repeat.
    """
    import astropy.io.fits
    import astropy.wcs  # noqa: F401  # now, not in the first frame's latency

    associator = Associator(directory, configuration)
    monitor: Monitor | None = None
    try:
        if metrics is not None:
            monitor = Monitor(associator.metrics.registry, metrics, well, lambda: "stopping" if stopping() else "")
        router = Router(endpoint_in(directory, endpoint))
        try:
            associator.report("ready", router.endpoint)
            ready(router.endpoint)
            while not stopping():
                message = router.receive(max_bytes=MAX_BYTES)
                if message is None:
                    wait([router], LISTEN_S)
                    continue
                answer = associator.answer(message.parts, message.cut)
                if not router.send(message.sender, detections.encode_answer(answer)):
                    associator.counts["unheard"] += 1
                associator.report("ready", router.endpoint)
            associator.report("stopped", router.endpoint)
        finally:
            router.close()
    finally:
        if monitor is not None:
            monitor.close()
        associator.close()


def _list(frame: FrameId) -> list[int]:
    return [frame.visit, frame.snap, frame.detector]
