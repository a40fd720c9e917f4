"""The clients' side of the differencer: messages in, receipts out, refusals kept as dead letters."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gpudiff.edges import control, next_visit, wire, wire_header
from gpudiff.edges.control import Receipt
from gpudiff.edges.dead_letters import DeadLetters
from gpudiff.edges.keys import server_keys
from gpudiff.edges.ring import RingFolder
from gpudiff.edges.transport import Received, Router
from gpudiff.model.clock import tai_now
from gpudiff.model.config import Security, Service
from gpudiff.model.errors import BadMessage, ChecksumMismatch, GpudiffError, InputRejected, MustStop, TryAgain
from gpudiff.model.frame import FrameId
from gpudiff.model.schedule import CANCELLED, NOTED
from gpudiff.services import log
from gpudiff.services.associators import Associators
from gpudiff.services.intake import Held, Intake
from gpudiff.services.metrics import Metrics
from gpudiff.services.schedule import Schedule

BEATS_A_LEASE = 4
"""How often within a lease a client is told that its frame is still in work: three times, a turn late each."""
MESSAGES_A_TURN = 8
MEBIBYTE = 1 << 20
LARGEST_FRAMES = 4
"""The service holds as many bytes as this many frames of the largest size allowed."""


class Reception:
    """Owns the socket that clients send frames to.  Nothing a client sends makes it raise or grow.

    Raises MustStop, and nothing else, when a dead letter cannot be kept.
    """

    def __init__(
        self,
        endpoint: str,
        service: Service,
        dead_letters: DeadLetters,
        security: Security = Security(),  # noqa: B008
        associators: Associators | None = None,
    ):
        """Binds the endpoint; raises BadConfiguration, also for one beyond this machine without keys.

        associators : are told of visits and of frames given up; None: nobody does
        """
        self.service, self.dead_letters, self.associators = service, dead_letters, associators
        self._max_bytes = service.max_frame_bytes + wire_header.MAX_HEADER_BYTES
        self.router = Router(
            endpoint,
            backlog=service.credit + MESSAGES_A_TURN,
            max_part_bytes=max(service.max_frame_bytes, wire_header.MAX_HEADER_BYTES) + MEBIBYTE,
            keys=server_keys(security, endpoint, "frames"),
        )
        route = associators.route if associators else lambda header: ""
        self.intake = Intake(service.credit, LARGEST_FRAMES * service.max_frame_bytes, route)
        self.metrics = Metrics(self.router.endpoint)
        self.schedule = Schedule()
        self.rings = ring_folder(service.ring)
        self.segments = self.rings.segments if self.rings else None
        self._beat_at, self._told_closed = time.monotonic(), self.intake.closed

    def listen(self) -> None:
        """Take in a few of the messages that wait."""
        for _ in range(MESSAGES_A_TURN):
            message = self.router.receive(wire.MAX_PARTS, self._max_bytes)
            if message is None:
                return
            if message.parts and bytes(message.parts[0][:5]) == control.CONTROL:
                self._answer(message)
            elif message.parts and bytes(message.parts[0][:5]) == next_visit.ANNOUNCE:
                self._note(message)
            else:
                self._take(message)

    def end(self, held: Held, receipt: Receipt) -> None:
        """Let a frame go with its last receipt, which every client that waits for it gets."""
        receipt = replace(receipt, latency_s=time.monotonic() - held.arrived)
        self.metrics.count(receipt)
        for client, attempt in held.waiters.items():
            self._send(client, replace(receipt, attempt=attempt))
        self.intake.finish(held, receipt)

    def reject(self, held: Held, error: GpudiffError) -> None:
        """Let a frame go as a dead letter."""
        frame = held.frame
        log.warn("rejected", error, frame)
        if self.associators:
            self.associators.failed(frame, f"{error.name}: {error}", held.associator)
        self._bury(held.parts, error, wire_header.Identity(frame.visit, frame.snap, frame.detector))
        self.end(held, refusal(frame, "rejected", error))

    def hand_back(self, error: GpudiffError) -> None:
        """Tell all clients to send their frames again, later."""
        for held in list(self.intake.held.values()):
            self.end(held, refusal(held.frame, "failed", error))

    def close(self) -> None:
        """Close the socket once the last receipts are on their way."""
        self.router.close()
        self.metrics.close()
        if self.rings:
            self.rings.close()

    def beat(self) -> None:
        """Count who was not let in; make room beside frames whose associator is away; now and then within a lease,
        and when an associator went or came, say that frames are in work, and which of them wait for one."""
        self.metrics.refused(self.router.refused())
        for held, error in self.intake.crowd():
            self.end(held, refusal(held.frame, "failed", error))
        now = time.monotonic()
        if now < self._beat_at and self.intake.closed == self._told_closed:
            return
        self._beat_at, self._told_closed = now + self.service.lease_s / BEATS_A_LEASE, self.intake.closed
        if self.rings:
            self.rings.sweep({name for held in self.intake.held.values() for name in held.segments})
        for held in self.intake.held.values():
            for client, attempt in held.waiters.items():
                self._send(client, replace(self.intake.waits(held, "busy"), attempt=attempt))

    def _answer(self, message: Received) -> None:
        """Say ready to a hello; refuse any other control message."""
        try:
            said = control.decode(message.parts)["say"]
            if said != "hello":
                raise BadMessage(f"control message: expected hello, got {said[:40]!r}")
        except BadMessage as error:
            self._refuse(message, error)
            return
        service, ring = self.service, self.rings.offer if self.rings else None
        ready = control.ready(service.credit, service.lease_s, service.max_frame_bytes, ring)
        self.router.send(message.sender, ready)

    def _note(self, message: Received) -> None:
        """Take an announcement of a visit, or refuse it by name, and say which."""
        try:
            visit = next_visit.decode(message.parts)
            outcome = self.schedule.hear(visit)
            if self.associators and outcome in (NOTED, CANCELLED):
                self.associators.visit(visit)
            said = next_visit.answer(visit.visit, visit.revision, outcome)
        except BadMessage as error:
            outcome = error.name
            said = next_visit.answer(None, None, "refused", error.name, control.one_line(str(error)))
        self.metrics.visit(outcome)
        self.router.send(message.sender, said)

    def _take(self, message: Received) -> None:
        """Check a frame message and take the frame in hand, or refuse it by name."""
        try:
            if message.cut:
                size = self.service.max_frame_bytes
                raise BadMessage(f"expected at most {wire.MAX_PARTS} parts and {size} bytes of pixels")
            envelope = wire.check(message.parts, self.service.max_frame_bytes, self.segments)
            receipt = self.intake.take(message.sender, envelope, message.parts)
        except (InputRejected, TryAgain) as error:
            self._refuse(message, error)
            return
        if receipt.status == "accepted" and (came := self.schedule.frame_came(envelope.frame.visit)):
            self.metrics.visit(came)
        self.metrics.count(receipt)
        if envelope.header.sent_tai is not None:
            self.metrics.stages({"transfer": max(0.0, (tai_now() - envelope.header.sent_tai) * 86400)})
        log.say(receipt.status, envelope.frame, attempt=receipt.attempt)
        self._send(message.sender, receipt)

    def _refuse(self, message: Received, error: GpudiffError) -> None:
        """Failed for what another attempt may cure; else rejected, and a dead letter."""
        identity = wire_header.identity(message.parts)
        log.warn("refused", error, visit=identity.visit, snap=identity.snap, detector=identity.detector)
        damaged = isinstance(error, ChecksumMismatch) and (identity.attempt or 1) < self.service.attempts
        status = "failed" if damaged or isinstance(error, TryAgain) else "rejected"
        receipt = refusal(identity, status, error)
        if status == "rejected":
            try:
                self._bury(message.parts[:2] if message.cut else message.parts, error, identity)
            except MustStop as full:
                told = refusal(identity, "failed", full)
                self.metrics.count(told)
                self._send(message.sender, told)
                raise
        self.metrics.count(receipt)
        self._send(message.sender, receipt)

    def _bury(self, parts: Sequence[bytes | memoryview], error: GpudiffError, who: wire_header.Identity) -> None:
        known = None not in (who.visit, who.snap, who.detector)
        parts = wire.whole(parts, self.segments)
        self.dead_letters.bury(parts, error, f"{who.visit}-{who.snap}-{who.detector}" if known else "")
        self.metrics.dead_letters.inc()

    def _send(self, client: bytes, receipt: Receipt) -> None:
        """A client that is gone asks again when it is back: nothing is lost with its receipt."""
        self.router.send(client, control.receipt(receipt))


def ring_folder(parent: str) -> RingFolder | None:
    """Shared memory to offer; None where none is wanted, or the folder cannot be written: then pixels are sent."""
    try:
        return RingFolder(Path(parent)) if parent else None
    except OSError:
        return None


def refusal(frame: wire_header.Identity | FrameId, status: str, error: GpudiffError) -> Receipt:
    """The receipt for a frame that failed (send it again) or was rejected (do not)."""
    return Receipt(
        frame.visit,
        frame.snap,
        frame.detector,
        getattr(frame, "attempt", None),
        status,
        error=error.name,
        reason=control.one_line(str(error)),
        retry=status == "failed",
    )
