"""The differencer: takes frames from clients, has workers subtract them, sends receipts."""

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gpudiff.edges import folder
from gpudiff.edges.control import Receipt
from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.endpoint import endpoint_in
from gpudiff.edges.keys import keys_by_endpoint
from gpudiff.edges.positions import known_positions
from gpudiff.edges.reliability_model import model_named
from gpudiff.edges.templates import TemplateStore
from gpudiff.edges.transport import wait
from gpudiff.model.errors import (
    AssociatorAway,
    BadConfiguration,
    ChecksumMismatch,
    GpudiffError,
    InputRejected,
    LostSegment,
    MustStop,
    NeighbourLost,
    StoreFailed,
)
from gpudiff.model.frame import FrameId
from gpudiff.services import log
from gpudiff.services.associators import Associators
from gpudiff.services.backlog import Backlog, Owed
from gpudiff.services.handover import error_named
from gpudiff.services.intake import Held
from gpudiff.services.load import FORCED, INTAKE, Level
from gpudiff.services.preload import Preloader
from gpudiff.services.reception import Reception, refusal
from gpudiff.services.settings import DONE, HANDING, LATER, NEVER, NOW, READY, Settings
from gpudiff.services.workers import Seat, WorkerPool, WorkerProcess

TURN_S = 1.0
"""The loop looks at its clocks at least this often."""
TURNS_A_LEASE = 12
"""And this often: a beat (reception.BEATS_A_LEASE) is late by a turn, and three are to fit into a lease."""
STILL_S = 30.0
"""A loop that has not turned for so long hangs."""


class Differencer:
    """One thread that owns the clients' socket, the queue and the workers.

    Every frame gets one final receipt, whatever becomes of the worker that had it.  `run` returns when `stop`
    was called and all frames in hand are finished, or none moves for a lease; frames unread or unfinished by then
    are sent again by their clients.
    """

    def __init__(self, settings: Settings):
        """Binds the socket and starts the workers.

        Raises BadConfiguration for an endpoint that cannot be bound, StoreFailed for a directory that cannot
        be written or that another differencer has, NoTemplate for a template folder that is absent, and as
        `_check_inputs` does.
        """
        service = settings.configuration.service
        _check_inputs(settings)
        self.attempts, self.lease_s = service.attempts, service.lease_s
        self._status_file = settings.directory / "status.json"
        letters = DeadLetters(settings.directory / "dead")
        TemplateStore(settings.templates, settings.configuration.instrument, index=settings.index).close()
        security = settings.configuration.security
        bind = endpoint_in(settings.directory, settings.frames)
        self.associators = Associators(settings.regions, keys_by_endpoint(security, settings.regions.keys))
        self.reception = Reception(bind, service, letters, security, self.associators)
        self._lock = self._own(settings.directory)
        self.endpoint, self.metrics = self.reception.router.endpoint, self.reception.metrics
        self.intake = self.reception.intake
        ring = str(self.reception.rings.path) if self.reception.rings else ""
        self.pool = WorkerPool(replace(settings, ring=ring))
        self.preloader = Preloader(settings, self.reception.schedule)
        self.preloader.start()
        self.level = Level()
        self.backlog = Backlog(settings.put_off, service.forced_room, settings.regions.of)
        self._wake, self._waker = os.pipe()
        self._stopping = False
        self._ready: Callable[[str], None] | None = None
        self._moved = self._turned = time.monotonic()
        self._write_status("starting")

    def stop(self) -> None:
        """Take no more frames, finish those in hand, return from `run`; for any thread or signal handler."""
        self._stopping, self._moved = True, time.monotonic()
        os.write(self._waker, b"x")

    def stop_on_signals(self) -> None:
        """Let SIGTERM and SIGINT call `stop`; main thread only."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())

    def run(self, ready: Callable[[str], None] = lambda endpoint: None) -> None:
        """Serve until stopped; raises MustStop after telling all clients to send their frames again.

        ready : called with the endpoint once every worker can take a frame, so that no frame waits for a start
        """
        self._ready = ready
        try:
            while not (self._stopping and (not self.intake.held or self._stuck())):
                self._turn()
                self._announce()
            self.reception.hand_back(NeighbourLost("the service stopped before the frame was finished"))
            self._write_status("stopped")
        except MustStop as error:
            self.reception.hand_back(error)
            raise
        finally:
            self.close()

    def close(self) -> None:
        """End the workers and the reading ahead, close the sockets."""
        self.preloader.close()
        self.pool.close()
        self.reception.close()
        self.associators.close()
        os.close(self._lock)
        os.close(self._wake)
        os.close(self._waker)

    def _own(self, directory: Path) -> int:
        """The lock of the directory."""
        try:
            return folder.own(directory, "differencer")
        except StoreFailed:
            self.reception.close()
            raise

    def alive(self) -> str:
        """Why this differencer should be started anew, '' while its loop turns."""
        still = time.monotonic() - self._turned
        return f"expected a turn of the loop each second, none for {still:.0f} s" if still > STILL_S else ""

    def ready(self) -> str:
        """Why frames should not come now, '' when they may."""
        workers = list(self.pool.workers)
        able = sum(one.ready for one in workers)
        if self._stopping:
            return "stopping"
        return "" if able else f"{able} of {len(workers)} workers are ready"

    def _announce(self) -> None:
        """Say once that all workers are ready."""
        say = self._ready
        if say is not None and all(one.ready for one in self.pool.workers):
            self._ready = None
            say(self.endpoint)

    def _stuck(self) -> bool:
        """Whether no frame has come to an end for a whole lease, as when the associator is gone for good."""
        return time.monotonic() - self._moved > self.lease_s

    def _turn(self) -> None:
        """Wait for something to happen, act on it, give idle workers what waits."""
        self._turned = time.monotonic()
        workers, seats = list(self.pool.workers), self.pool.seats
        sources: list[Any] = [self._wake, *(seat.pair for seat in seats), *(one.alive for one in workers)]
        if not self._stopping:
            sources.append(self.reception.router)
        ready = wait(sources, min(TURN_S, self.lease_s / TURNS_A_LEASE))
        if self._wake in ready:
            os.read(self._wake, 1 << 10)
        if self.reception.router in ready:
            self.reception.listen()
        for seat in seats:
            if seat.pair in ready:
                self._hear(seat)
        for one in workers:
            if one.alive in ready:
                self._bury_worker(one)
        self._give_work()
        self.metrics.overdue.inc(self.pool.kill_overdue())
        self.associators.listen()
        self._follow()
        self.reception.beat()
        self._write_status("stopping" if self._stopping else "running")

    def _give_work(self) -> None:
        """Give idle workers the next frames, or, when none waits, the forced photometry that was put off."""
        self._look_who_is_there()
        while seat := self.pool.idle():
            if held := self.intake.next(alone=not seat.worker.at_work):
                seat.work(held, self._when(held))
            elif not self.intake.waiting() and (owed := self._owed()):
                seat.make_up(owed)
            else:
                return
            self._look_who_is_there()

    def _when(self, held: Held) -> bytes:
        """When a frame's forced photometry is measured: under load it is put off, as long as there is room."""
        free = self.intake.waiting() <= self.pool.room
        if free and held.associator not in self.associators.leaving_out(FORCED):
            return NOW
        return NEVER if self.backlog.full else LATER

    def _owed(self) -> Owed | None:
        if self._stopping:
            return None
        return self.backlog.next(self.intake.closed | self.associators.leaving_out(FORCED))

    def _look_who_is_there(self) -> None:
        busy = {seat.associator for seat in self.pool.seats if seat.associator}
        self.intake.closed = self.associators.closed(busy)

    def _follow(self) -> None:
        """Leave out what the associators said last, and ask again while that is anything."""
        if self.level.set(self.associators.level):
            self.metrics.load(self.level)
            log.say("load", steps=self.level.level)
        self.intake.narrow = self.associators.leaving_out(INTAKE)
        self.associators.ask()

    def _hear(self, one: Seat) -> None:
        """Act on all that a worker has said of a frame."""
        while (message := one.pair.receive()) is not None:
            said = bytes(message[0])
            if said == READY:
                self.pool.made_ready(one)
            elif said == HANDING:
                one.handing = True
            elif one.held is not None:
                held, one.held, self._moved = one.held, None, time.monotonic()
                values = json.loads(bytes(message[1]))
                if said == DONE:
                    self._done(held, values, one.worker)
                else:
                    self._failed(held, values["error"], values["reason"])
            elif one.owed is not None:
                owed, one.owed, values = one.owed, None, json.loads(bytes(message[1]))
                if said == DONE:
                    self._made_up(owed, values)
                else:
                    self._not_made_up(owed, values["error"], values["reason"])

    def _done(self, held: Held, values: dict[str, Any], one: WorkerProcess) -> None:
        """The frame's detections are committed."""
        self.metrics.stages(values.pop("seconds") | {"frame_wait": held.waited_s})
        self.metrics.template(self.preloader.before(values.pop("template"), held.arrived))
        one.most = values.pop("at_a_time")
        frame, told = held.frame, self._forced(held, values.pop("forced"), values.pop("put_off"))
        self.associators.answered(held.associator, values.pop("load"))
        self._follow()
        log.say("done", frame, sources=values["sources"], status=values["status"], forced=told)
        self.reception.end(held, Receipt(frame.visit, frame.snap, frame.detector, None, **values))

    def _forced(self, held: Held, fluxes: int, size: int | None) -> int | str:
        """Count a frame's forced fluxes; those that were put off are owed.  What to say of it.

        size : bytes that were put off, None where they had to be left out
        """
        self.metrics.forced.inc(fluxes)
        if size:
            self.backlog.add(held.frame, size, held.associator)
            self.metrics.put_off.inc()
            return "put off"
        self.backlog.forget(held.frame)
        if size is None:
            self.metrics.put_off.inc()
            self.backlog.dropped += 1
            return "left out"
        return fluxes

    def _made_up(self, owed: Owed, values: dict[str, Any]) -> None:
        """Forced photometry that was put off is committed."""
        self.backlog.end(owed)
        self.metrics.made_up(values["forced"])
        self.associators.answered(owed.associator, values["load"])
        self._follow()
        log.say("made up", owed.frame, forced=values["forced"])

    def _not_made_up(self, owed: Owed, name: str, reason: str) -> None:
        """As `_failed`; what is rejected is dropped, and counted."""
        kind = error_named(name)
        if issubclass(kind, MustStop):
            raise kind(f"forced photometry of {owed.frame}: {reason}")
        if issubclass(kind, AssociatorAway):
            self.associators.gave_up(owed.associator)
            owed.tries -= 1
            self.backlog.again(owed)
        elif issubclass(kind, InputRejected) or owed.tries >= self.attempts:
            self.backlog.drop(owed, kind(f"forced photometry of {owed.frame}: {name}: {reason}"))
        else:
            self.backlog.again(owed)

    def _failed(self, held: Held, name: str, reason: str) -> None:
        """By the error's branch: reject, try again (three times, then reject), or stop.

        An error nobody foresaw is tried again: it may lie in the worker, not in the frame.  One whose pixels
        in shared memory are not what its message says goes back to its sender, who may send it again; a checksum
        that is wrong in the last attempt, too, is rejected.
        """
        kind = error_named(name)
        if issubclass(kind, MustStop):
            raise kind(f"frame {held.frame}: {reason}")
        if issubclass(kind, AssociatorAway):
            log.say("away", held.frame, log.WARNING, reason=reason)
            self.associators.gave_up(held.associator)
            held.tries -= 1
            self.intake.again(held)
        elif issubclass(kind, LostSegment) or (
            issubclass(kind, ChecksumMismatch) and held.attempt < self.attempts
        ):
            self.backlog.forget(held.frame)
            self.reception.end(held, refusal(held.frame, "failed", kind(reason)))
        elif issubclass(kind, InputRejected):
            self.reception.reject(held, kind(reason))
        elif held.tries < self.attempts:
            log.say("retry", held.frame, log.WARNING, error=name, reason=reason, tries=held.tries)
            self.intake.again(held)
        else:
            self.reception.reject(held, _last(kind, name, reason, held))

    def _bury_worker(self, one: WorkerProcess) -> None:
        """Start another worker in the place of one that died, and give its frames to the next.

        Each will be alone there: nobody knows which of them it died of, and the others must not pay for that.
        """
        for seat in one.seats:
            self._hear(seat)
        status = self.pool.replace(one)
        self.metrics.worker_restarts.inc()
        had: list[FrameId | None] = [work.frame for seat in one.seats if (work := seat.held or seat.owed)]
        for frame in had or [None]:
            log.say("worker died", frame, log.WARNING, status=status)
        why = "NeighbourLost", f"its worker died, exit status {status}"
        for seat in one.seats:
            if seat.held is not None:
                seat.held.alone = True
                self._failed(seat.held, *why)
            if seat.owed is not None:
                self._not_made_up(seat.owed, *why)

    def _write_status(self, state: str) -> None:
        pids = sorted(one.pid for one in self.pool.workers)
        self.metrics.dropped(self.backlog.dropped)
        busy = {"busy": sum(one.at_work > 0 for one in self.pool.workers), "at_a_time": self.pool.room}
        more = {**busy, **self.intake.report(), **self.backlog.report(), "associators": self.associators.report()}
        self.metrics.write(self._status_file, len(self.intake.held), len(self.intake.queue), pids, state, more)


def _check_inputs(settings: Settings) -> None:
    """Refuse here, rather than by each worker or frame, what workers are to read.

    Raises BadConfiguration, UnreadableFile.
    """
    known_positions(settings.known_objects)
    model_named(settings.configuration.reliability.model)
    calibrations = settings.configuration.service.calibrations
    if calibrations and not Path(calibrations).is_dir():
        raise BadConfiguration(f"[service] calibrations: expected a folder, {calibrations} is none")


def _last(kind: type[GpudiffError], name: str, reason: str, held: Held) -> GpudiffError:
    """The error of a frame that failed too often, with its own name where it has one."""
    said = reason if kind.__name__ == name else f"{name}: {reason}"
    return kind(f"frame {held.frame}: failed {held.tries} times, at last: {said}")
