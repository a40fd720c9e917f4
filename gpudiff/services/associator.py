"""Associator: takes each frame's detections, decides known or new, commits, publishes, answers.

One thread, one writer.  A batch is answered once it is in the ledger and its alerts are in the archive; a crash
before the answer makes the sender repeat the batch, and the ledger absorbs the repeat.
"""

import json
import math
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpudiff.edges import alert_codec, detections, folder
from gpudiff.edges.atomic import atomically
from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.detections import Answer
from gpudiff.edges.ledger import Ledger
from gpudiff.model.association import KINDS
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.clock import tai_now
from gpudiff.model.config import Configuration
from gpudiff.model.errors import BadMessage, GpudiffError, MustStop
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.outgoing import Sink
from gpudiff.science.alert import forced_common, latency, published_forced, reference_time
from gpudiff.science.associate import looks
from gpudiff.science.stopwatch import Stopwatch
from gpudiff.services import log
from gpudiff.services.alert_files import AlertFiles
from gpudiff.services.associator_metrics import AssociatorMetrics
from gpudiff.services.breaker import Breaker
from gpudiff.services.load import CUTOUTS, FULL_ALERTS, Load
from gpudiff.services.publisher import Publisher
from gpudiff.services.publishing import PublisherProcess
from gpudiff.services.settled import Settled, runs
from gpudiff.services.settling import Settling
from gpudiff.services.storing import Storing
from gpudiff.services.visits import Visits, obey

Made = TypeVar("Made")
Read = DetectionBatch | Answer
MAX_BYTES = 4 << 30
"""Of one message; 65,536 sources with three cutouts of 51 x 51, variance and mask are 3 GB."""


@dataclass(frozen=True)
class Message:
    """What came from a differencer; cut : it was longer than it may be, and is not whole."""

    parts: Sequence[Any]
    cut: bool = False


@dataclass(frozen=True)
class Done:
    """A frame of the transaction that is under way.

    kinds : DIASources by kind (model.association.KINDS); latency_s : at `at`, MJD TAI
    """

    frame: FrameId
    kinds: dict[str, int]
    latency_s: float | None
    at: float


class Associator:
    """The owner of a directory: ledger.sqlite, alerts/, dead/, associator.json, and a lock against others."""

    def __init__(
        self,
        directory: Path,
        configuration: Configuration,
        clock: Callable[[], float] = tai_now,
        sinks: Sequence[Sink] = (),
        monotonic: Callable[[], float] = time.monotonic,
        apart: bool = False,
    ):
        """sinks : fed by threads of this process; apart : those of the configuration are fed by another process

        Raises StoreFailed, also when the directory has an owner already; BadConfiguration for a sink that is none.
        """
        self.configuration, self.clock = configuration, clock
        self.counts: Counter[str] = Counter()
        self.metrics = AssociatorMetrics()
        self._done: list[Done] = []
        self.directory, self.alerts = directory, directory / "alerts"
        self._lock = folder.own(directory, "associator")
        store = configuration.ledger.store
        where = directory / "ledger.sqlite" if store == "sqlite" else store
        self.ledger = Ledger(where)
        self.archive = AlertFiles(self.alerts, self.ledger)
        self.frames = Storing(self.ledger, self.archive)
        self.dead = DeadLetters(directory / "dead")
        self.breaker = Breaker(configuration.ledger.suspect_factor, configuration.ledger.suspect_count)
        marks = self.ledger.watermarks()
        self.publisher = (
            PublisherProcess(directory, configuration, where, self.alerts, marks)
            if apart and (configuration.service.sinks or configuration.broker.filters)
            else Publisher(where, self.alerts, sinks, marks, clock)
        )
        self.ledger.delivered([], self.publisher.names, clock())  # what only waited for a sink that is no more
        self.visits = Visits(self.ledger, directory, configuration.ledger, clock, monotonic)
        self.load = Load(monotonic, configuration.ledger.patience_s)
        self.settling = Settling(configuration, self.ledger, self.visits, self.breaker, clock)
        if known := configuration.sky.known_objects:
            self.metrics.snapshot(Path(known).stat().st_mtime)

    def close(self) -> None:
        """Stop the sinks, close the ledger, give the directory back."""
        self.publisher.close()
        self.tick()
        self.ledger.close()
        os.close(self._lock)

    def answer(self, parts: Sequence[Any], cut: bool = False) -> Answer:
        """What to say to one message: committed, duplicate, or failed and put aside.  Raises MustStop only."""
        return self.answers([Message(parts, cut)])[0]

    def take(self, batch: DetectionBatch) -> Answer:
        """Associate, archive and commit one batch; a repeat changes nothing."""
        self.archive.know([batch])
        with self._committing():
            return self._take_one(batch)

    def answers(self, messages: Sequence[Message], read: Sequence[Read] | None = None) -> list[Answer]:
        """What to say to messages that are committed together, in their order.  Raises MustStop only.

        read : what `read` made of each as it came; None: they are read now
        """
        read = [self.read(message) for message in messages] if read is None else read
        self.archive.know([one for one in read if isinstance(one, DetectionBatch)])
        with self._committing():
            made = self._answer(messages, read)
        self.counts.update(answer.status for answer in made)
        for answer in made:
            self.metrics.answered(answer.status, answer.error)
        return made

    def read(self, message: Message) -> Read:
        """The batch in a message, or the answer that refuses it.  Raises MustStop only.

        What can be made of a frame without any other is made here, while the others of its group come.
        """

        def decode() -> DetectionBatch:
            if message.cut:
                raise BadMessage(f"detections: expected at most 16 parts and {MAX_BYTES} bytes")
            batch = detections.decode(list(message.parts))
            _ = batch.jacobian
            return batch

        return self._refusing(message, decode)

    def control(self, parts: Sequence[Any]) -> Answer:
        """Do what a control message says: announce a visit, give up a frame, release alerts."""
        try:
            said = detections.decode_control(list(parts))
            done = obey(said, self.visits, self.ledger, self.clock())
            self._prepare(said)
            self.publisher.wake()
            answer = Answer(None, "done", alerts=done)
        except MustStop:
            raise
        except GpudiffError as error:
            answer = Answer(None, "failed", error=error.name, reason=str(error))
        self.counts[f"control: {answer.status}"] += 1
        return answer

    def later(self, parts: Sequence[Any]) -> Answer:
        """Store forced photometry that was made up: committed, duplicate, or failed and put aside.

        Raises MustStop only.
        """
        answer = self._refusing(Message(parts), lambda: self._make_up(detections.decode_later(list(parts))))
        self.counts[f"forced: {answer.status}"] += 1
        return answer

    def _make_up(self, made: MadeUp) -> Answer:
        records = alert_codec.encode_forced(published_forced(made), forced_common(made, self.clock()))
        new = self.ledger.make_up(made, records)
        return Answer(_list(made.frame), "committed" if new else "duplicate")

    def _prepare(self, said: dict[str, Any]) -> None:
        """Read the known objects of a visit that was announced, before its detections come."""
        place = [one for one in (said.get("ra"), said.get("dec")) if isinstance(one, int | float)]
        if said["say"] == "announce" and len(place) == 2 and all(map(math.isfinite, place)):
            ra, dec = map(float, place)
            self.settling.sky.prepare(ra, dec, self.configuration.telescope.field_radius)

    def tick(self) -> None:
        """Write down what the sinks did, close what is due.  To be called now and then, and when nothing comes."""
        self._note_progress()
        self.visits.tick()

    def rest(self) -> None:
        """To be called when nothing comes: what is due, and what would hold up the frames that will."""
        self.tick()
        self.ledger.rest()

    def burdened(self, waiting: bool) -> None:
        """waiting : whether a batch has waited for those just answered.  Steps begin and end by that."""
        if self.load.note(waiting):
            self.metrics.loaded(self.load)
            log.say("load", steps=self.load.level)
            self.publisher.defer_full(self.load.on(FULL_ALERTS))

    # ------------------------------------------------------------ a group
    def _note_progress(self) -> None:
        done, sinks = self.publisher.progress(), self.publisher.names
        if done:
            self.metrics.delivered(done, self.ledger.waits([one.seq for one in done]))
        if done or (not sinks and self.ledger.pending(limit=1)):
            published = self.ledger.delivered(done, sinks, self.clock())
            self.metrics.published(published)
            self.visits.left(one.visit for one in published)

    @contextmanager
    def _committing(self) -> Iterator[None]:
        """One transaction; the archive files that it fills are on disk before it ends."""
        self.archive.begin()
        self._done.clear()
        try:
            with self.ledger.transaction():
                yield
                watch = Stopwatch()
                self.archive.sync()
                self._note_progress()
        finally:
            self.archive.end()
        watch.lap("commit")
        self.metrics.stages(watch.seconds)
        self._say_done()
        if failed := self.archive.index():
            self.counts["not indexed"] += failed
        self.publisher.wake()
        self.visits.tick()

    def _say_done(self) -> None:
        """Count and log what the transaction that just ended has committed."""
        now = self.clock()
        for one in self._done:
            seconds = None if one.latency_s is None else one.latency_s + (now - one.at) * 86400
            self.metrics.committed(one.kinds, seconds, len(self.settling.sky))
            log.say("commit", one.frame, **one.kinds, latency_s=seconds)

    def _answer(self, messages: Sequence[Message], read: Sequence[Read]) -> list[Answer]:
        """What to say to each: those that can be are taken together, in their order."""
        answers = {n: one for n, one in enumerate(read) if isinstance(one, Answer)}
        batches = {n: one for n, one in enumerate(read) if isinstance(one, DetectionBatch)}
        for run in runs(batches, lambda frame: self.ledger.standing(frame) is not None):
            made = self._take_or_refuse([messages[n] for n in run], [batches[n] for n in run])
            answers.update(zip(run, made, strict=True))
        return [answers[n] for n in range(len(read))]

    def _take_or_refuse(self, messages: Sequence[Message], batches: Sequence[DetectionBatch]) -> list[Answer]:
        """Take batches together; one by one when that fails, as one of them alone may be at fault."""
        if len(batches) > 1:
            try:
                return self._take(batches)
            except MustStop:
                raise
            except Exception as error:
                log.say("one by one", level=log.WARNING, frames=len(batches), reason=str(error))
        pairs = zip(messages, batches, strict=True)
        return [self._refusing(message, partial(self._take_one, one)) for message, one in pairs]

    def _take_one(self, batch: DetectionBatch) -> Answer:
        return self._take([batch])[0]

    def _refusing(self, message: Message, make: Callable[[], Made]) -> Made | Answer:
        """What `make` makes; the answer that refuses the message when it cannot.  Raises MustStop only."""
        try:
            return make()
        except MustStop:
            raise
        except GpudiffError as error:
            return self._refuse(message.parts, error)
        except Exception as error:
            # a message must not stop the service, whatever it trips over: it is kept, with the place
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            bad = BadMessage(f"detections: {type(error).__name__} at {place}: {error}")
            return self._refuse(message.parts, bad)

    def _take(self, batches: Sequence[DetectionBatch]) -> list[Answer]:
        """Associate and store batches within the transaction; several, if they belong together.

        A repeat changes nothing.
        """
        frame = batches[0].observation.frame
        stored = self.ledger.standing(frame)
        if stored and stored.fingerprint == batches[0].fingerprint:
            if len(batches[0].forced):  # it may have been put off when the frame was committed
                self._make_up(made_up(batches[0]))
            new = stored.sources - stored.known
            counts = (stored.sources, stored.known, new)
            return [Answer(_list(frame), "duplicate", *counts, latency_s=stored.latency_s)]
        self.visits.admit(frame.visit)
        self.settling.sky.begin()
        try:
            with self.ledger.transaction():
                settled = self._commit(batches, stored.revision + 1 if stored else 0)
        except Exception:
            self.settling.sky.undo()
            raise
        return [self._committed(one) for one in settled]

    def _committed(self, one: Settled) -> Answer:
        """Note that a frame is stored, for when the transaction ends; what to say of it."""
        self.visits.seen(one.frame, reference_time(one.batch))
        if one.held:
            self.counts["suspect"] += 1
        else:
            self.breaker.note(one.frame.detector, len(one.batch.sources))
        self.metrics.set_apart(len(one.batch.sources), bool(one.held), one.delayed)
        self.counts["unplaced"] += int(np.isnan(one.batch.sources["ra"]).sum())
        found, seconds = one.association, latency(one.batch, self.clock())
        known, count = int(found.known.sum()), len(found.known)
        kinds = {kind: int(np.count_nonzero(found.kind == number)) for number, kind in enumerate(KINDS)}
        self._done.append(Done(one.frame, kinds, seconds, self.clock()))
        return Answer(_list(one.frame), "committed", count, known, count - known, latency_s=seconds)

    def report(self, state: str, endpoint: str) -> None:
        """Write associator.json: state, process id, endpoint, objects known, and what was counted since the
        start: committed, duplicate, failed, suspect, each error by name, unplaced sources, unheard answers; how
        far each sink is behind; visits that are open; what is left out under load."""
        status = {"state": state, "pid": os.getpid(), "detections": endpoint, "objects": len(self.settling.sky)}
        sinks = self.publisher.lag(self.ledger.last_seq())
        self.metrics.note(self.visits.counts, sinks)
        status |= {"sinks": sinks, "visits": self.visits.open(), "load": self.load.report()}
        with atomically(self.directory / "associator.json") as temporary:
            temporary.write_text(json.dumps({**status, "counts": self.counts}, indent=1))

    def _commit(self, batches: Sequence[DetectionBatch], revision: int) -> list[Settled]:
        """Settle frames look by look, each knowing the sky after the one before, and store them together; not so
        those that tell of one object: the alert of the later one repeats what the earlier one stored.
        """
        watch, now, settings = Stopwatch(), self.clock(), self.settling.settings()

        def store(frames: Sequence[Settled]) -> None:
            bare = self.frames.store(frames, settings, now, self.load.on(CUTOUTS), watch)
            self.counts.update({"alerts without cutouts": bare} if bare else {})

        done: list[Settled] = []
        waiting: list[Settled] = []
        told: set[int] = set()
        for look in looks([one.sources for one in batches], self.configuration.service.association_radius):
            for one in self.settling.settle(batches[look], revision, now):
                if not told.isdisjoint(one.objects()):
                    watch.lap("associate")
                    store(waiting)
                    waiting, told = [], set()
                waiting.append(one)
                told |= one.objects()
                done.append(one)
            watch.lap("associate")
        store(waiting)
        self.metrics.stages(watch.seconds)
        return done

    def _refuse(self, parts: Sequence[Any], error: GpudiffError) -> Answer:
        frame = detections.frame_of(list(parts))
        name = "detections-" + "-".join(map(str, frame)) if frame else ""
        self.dead.bury(parts, error, name)
        log.warn("refused", error, FrameId(*frame) if frame else None)
        self.counts[error.name] += 1
        return Answer(frame, "failed", error=error.name, reason=str(error))


def made_up(batch: DetectionBatch) -> MadeUp:
    """A batch's forced photometry alone."""
    return MadeUp(batch.observation.frame, batch.fingerprint, batch.unit, batch.zero_point, batch.forced)


def _list(frame: FrameId) -> list[int]:
    return [frame.visit, frame.snap, frame.detector]
