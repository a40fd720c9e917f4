"""FrameClientDouble: a service in memory, for programs that send frames and want to be tested without one."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from gpudiff.edges import wire
from gpudiff.edges.client import ATTEMPTS
from gpudiff.edges.control import Receipt, one_line
from gpudiff.edges.sender import Sender
from gpudiff.model.errors import GpudiffError, InputRejected, NeighbourLost
from gpudiff.model.frame import Frame, FrameId


class FrameClientDouble(Sender):
    """Answers as a service does that finds nothing in any frame; what shall go wrong is planned.

        client = FrameClientDouble({FrameId(7, 0, 3): [NoCredit("full"), NoStars("few")]})

    Messages are encoded and checked as on the wire: what a service would refuse by its words is refused here.
    `sent` holds the frames taken, by their identity.
    """

    def __init__(
        self, plan: Mapping[FrameId, Sequence[GpudiffError]] | None = None, max_frame_bytes: int = 1 << 30
    ):
        """plan : errors of a frame, one an attempt: an InputRejected rejects it, NeighbourLost is raised,
        another lets the attempt fail; an attempt beyond the list succeeds"""
        self._plan = {frame: list(errors) for frame, errors in (plan or {}).items()}
        self._max_frame_bytes = max_frame_bytes
        self._done: dict[FrameId, tuple[str, Receipt]] = {}
        self.sent: dict[FrameId, Frame] = {}

    def close(self) -> None:
        """Nothing is held."""

    def send_many(self, frames: Iterable[Frame]) -> Iterator[Receipt]:
        """The final receipts, in the order of the frames; raises a NeighbourLost that was planned."""
        for frame in frames:
            yield self._answer(frame)

    def _answer(self, frame: Frame) -> Receipt:
        identity = frame.observation.frame
        errors = self._plan.get(identity, [])
        for attempt in range(1, ATTEMPTS + 1):
            error = errors.pop(0) if errors else None
            if isinstance(error, NeighbourLost):
                raise error
            if isinstance(error, InputRejected):
                return _refused(identity, attempt, "rejected", error)
            if error is None:
                return self._take(frame, attempt)
        return _refused(identity, ATTEMPTS, "failed", error)

    def _take(self, frame: Frame, attempt: int) -> Receipt:
        identity = frame.observation.frame
        try:
            envelope = wire.open_envelope(wire.encode(frame, attempt), self._max_frame_bytes)
            fingerprint = wire.frame_in(envelope).digest
        except InputRejected as error:
            return _refused(identity, attempt, "rejected", error)
        content, receipt = self._done.get(identity, ("", None))
        if receipt is not None and content == envelope.content:
            return replace(receipt, attempt=attempt, status="duplicate")
        made = Receipt(
            identity.visit, identity.snap, identity.detector, attempt, "done", 0, 0, fingerprint, latency_s=0.0
        )
        self._done[identity], self.sent[identity] = (envelope.content, made), frame
        return made


def _refused(frame: FrameId, attempt: int, status: str, error: GpudiffError | None) -> Receipt:
    said: dict[str, Any] = {"error": error.name, "reason": one_line(str(error))} if error else {}
    return Receipt(frame.visit, frame.snap, frame.detector, attempt, status, retry=status == "failed", **said)
