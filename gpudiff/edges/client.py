"""FrameClient: sends frames to a running service and waits for their receipts."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpudiff.edges import control, wire
from gpudiff.edges.control import Receipt
from gpudiff.edges.keys import client_keys
from gpudiff.edges.ring_writer import Placed, Ring, offered
from gpudiff.edges.sender import Sender
from gpudiff.edges.transport import Dealer
from gpudiff.model.errors import AssociatorAway, BadMessage, LostSegment, NeighbourLost, NoCredit
from gpudiff.model.frame import Frame, FrameId

ATTEMPTS = 3
PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
"""Before a frame that failed, or had no credit, is sent again: doubled each time."""
SLOTS = 2
"""Of the ring, for each frame of the credit: one given up may lie there until the service is through with it."""


@dataclass
class Waiting:
    """A frame without its final receipt.

    failures : receipts that said `failed`, want of credit aside
    asleep : it waits for a part of the service that is away, and takes no credit meanwhile
    """

    frame: Frame
    attempt: int = 0
    failures: int = 0
    heard: float = 0.0
    again_at: float = float("inf")
    pauses: int = 0
    asleep: bool = False
    placed: tuple[Ring, list[Placed]] | None = None

    def pause(self) -> None:
        """Send again later, each time later still."""
        self.again_at = time.monotonic() + min(PAUSE_S * 2**self.pauses, LONGEST_PAUSE_S)
        self.pauses += 1


class FrameClient(Sender):
    """Sends frames over ZeroMQ; each gets one final receipt, through lost connections and service restarts.

        with FrameClient("tcp://127.0.0.1:5570") as client:
            receipt = client.send(frame)
            for receipt in client.send_many(frames):
                ...

    One thread, no background work: receipts are read while `send` or `send_many` waits.
    """

    def __init__(
        self,
        endpoint: str = "tcp://127.0.0.1:5570",
        name: str = "client",
        timeout_s: float = 60.0,
        keys: str | Path | None = None,
        ring: bool = True,
        patience_s: float = float("inf"),
    ):
        """timeout_s : how long the service may say nothing at all before NeighbourLost is raised.

        keys : this client's NAME.key_secret, with the service's service.key beside it (`gpudiff keys`), where the
        service asks for keys
        ring : put pixels into shared memory where the service offers it on this machine; `way` says what is done
        patience_s : how long frames may wait without one being finished before NoCredit is raised: a service that
            answers, but has no room
        Raises BadConfiguration for keys that are none.
        """
        self.endpoint, self.name, self.timeout_s = endpoint, name, timeout_s
        self.patience_s, self._moved = patience_s, time.monotonic()
        self.credit, self.lease_s, self.max_frame_bytes = 0, timeout_s, 1 << 62
        self._dealer = Dealer(endpoint, keys=client_keys(Path(keys)) if keys else None)
        self._ring: Ring | None = None
        self._ring_sure, self._ring_wanted = False, ring
        self.way = "socket"
        self._waiting: dict[FrameId, Waiting] = {}
        self._heard = time.monotonic()

    def close(self) -> None:
        """Close the connection; frames without a final receipt may or may not have been taken."""
        self._dealer.close()
        if self._ring:
            self._ring.close()
            self._ring = None

    def send_many(self, frames: Iterable[Frame]) -> Iterator[Receipt]:
        """The final receipts, in the order in which the service finishes.

        At most as many frames are under way as the service granted, beside those that wait for an associator that
        is away, and the next is taken from `frames` only when it can be sent (the first one before the service is
        greeted, so that none to send needs no service).
        While `frames` makes one wait, as a camera does, no receipt comes out either.
        Frames of an earlier call that was not read to its end are given up.
        Raises NeighbourLost as `send` does.
        """
        self._waiting.clear()
        source = iter(frames)
        following = None if self.credit else next(source, None)
        if not self.credit and following is not None:
            self._greet()
        while True:
            while sum(not one.asleep for one in self._waiting.values()) < self.credit:
                yield from self._catch_up()
                following = following or next(source, None)
                if following is None or following.observation.frame in self._waiting:
                    break
                refused, following = self._start(following), None
                if refused:
                    yield refused
            if not self._waiting:
                return
            yield from self._listen()

    def _greet(self) -> None:
        """Say hello until the service answers."""
        self._heard = time.monotonic()
        self._dealer.send(control.hello(self.name))
        while not self.credit:
            for _ in self._listen():
                pass

    def _start(self, frame: Frame) -> Receipt | None:
        """Send a frame for the first time; its rejection when it is larger than the service takes."""
        identity = frame.observation.frame
        if frame.nbytes > self.max_frame_bytes:
            reason = f"{frame.name}: expected at most {self.max_frame_bytes} bytes of pixels, got {frame.nbytes}"
            who = identity.visit, identity.snap, identity.detector
            return Receipt(*who, 1, "rejected", error=BadMessage(reason).name, reason=reason)
        if not self._waiting:
            self._heard = self._moved = time.monotonic()  # nobody was asked anything until now
        self._waiting[identity] = Waiting(frame)
        self._send(identity)
        return None

    def _send(self, identity: FrameId, *, next_attempt: bool = True) -> None:
        """Put a waiting frame on the wire (again)."""
        waiting = self._waiting[identity]
        waiting.attempt = max(1, waiting.attempt + next_attempt)
        waiting.heard, waiting.again_at = time.monotonic(), float("inf")
        if not self._dealer.send(wire.encode(waiting.frame, waiting.attempt, self._placed(identity))):
            waiting.pause()

    def _placed(self, identity: FrameId) -> list[Placed]:
        """Where a waiting frame lies in the ring, put there when it is not yet; [] when it is sent whole."""
        waiting = self._waiting[identity]
        if self._ring is None or not self._ring_sure:
            return []
        if waiting.placed is None or waiting.placed[0] is not self._ring:
            planes = [wire.as_bytes(plane) for plane in wire.planes_of(waiting.frame).values()]
            placed = self._ring.put(identity, planes)
            if placed is None:
                self.way = "socket: no room in shared memory"
                return []
            waiting.placed = self._ring, placed
        self.way = "shared memory"
        return waiting.placed[1]

    def _adopt(self, offer: Any) -> None:
        """Use the shared memory that the service offers, when it is on this machine; the ring of a service that is
        gone is given up."""
        folder = offered(offer) if self._ring_wanted else None
        if self._ring and self._ring.folder != folder:
            self._ring.close()
            self._ring = None
        if folder and self._ring is None:
            try:
                self._ring = Ring(folder, SLOTS * self.credit)
            except OSError as error:
                self.way = f"socket: no shared memory: {error.strerror}"
        self._ring_sure = self._ring is not None

    def _listen(self) -> Iterator[Receipt]:
        """Wait for one message, or until something must be sent again; final receipts come out."""
        parts = self._dealer.receive(self._patience())
        if self._dealer.came_back():
            self._ring_sure = False  # it may be another service by now: until it says ready, pixels are sent
            self._resend(list(self._waiting))
        if parts is None:
            self._look_at_the_clock()
        else:
            self._heard = time.monotonic()
            yield from self._understand(control.decode(parts))

    def _catch_up(self) -> Iterator[Receipt]:
        """Final receipts that have come already."""
        while (parts := self._dealer.receive(0.0)) is not None:
            self._heard = time.monotonic()
            yield from self._understand(control.decode(parts))

    def _patience(self) -> float:
        """Seconds until the next thing is due."""
        due = [self._heard + self.timeout_s]
        if self._waiting:
            due.append(self._moved + self.patience_s)
        for waiting in self._waiting.values():
            due += [waiting.again_at, waiting.heard + self.lease_s]
        return max(0.0, min(due) - time.monotonic())

    def _understand(self, message: dict) -> Iterator[Receipt]:
        if message["say"] == "ready":
            self.credit, self.lease_s = int(message["credit"]), float(message["lease_s"])
            self.max_frame_bytes = int(message.get("max_frame_bytes", self.max_frame_bytes))
            self._adopt(message.get("ring"))
        elif message["say"] == "receipt":
            receipt = control.as_receipt(message)
            if receipt.frame and receipt.final and self._ring:
                self._ring.free(receipt.frame)
            waiting = self._waiting.get(receipt.frame) if receipt.frame else None
            if waiting is not None and receipt.frame is not None:
                yield from self._file(receipt.frame, waiting, receipt)

    def _file(self, identity: FrameId, waiting: Waiting, receipt: Receipt) -> Iterator[Receipt]:
        """Note what a receipt says of a waiting frame; it comes out when it is the last."""
        waiting.heard = time.monotonic()
        waiting.asleep = receipt.error == AssociatorAway.__name__
        if receipt.status == "failed" and receipt.attempt == waiting.attempt:
            for_credit = receipt.error == "NoCredit"
            waiting.failures += not for_credit
            if not for_credit and self._ring:
                self._ring.free(identity)
                waiting.placed = None
            if receipt.error == LostSegment.__name__:
                self._ring_sure = False  # until the service says ready again
                self.way = f"socket: the service cannot read shared memory: {receipt.reason}"
            if receipt.retry and waiting.failures < ATTEMPTS:
                waiting.attempt -= for_credit
                waiting.pause()
                return
        elif not receipt.final:
            return
        del self._waiting[identity]
        self._moved = time.monotonic()
        yield receipt

    def _look_at_the_clock(self) -> None:
        """Send again what is due; raise NeighbourLost when the service has been silent for too long."""
        now = time.monotonic()
        if now - self._heard >= self.timeout_s:
            left = f"{len(self._waiting)} frames have no final receipt" if self.credit else "nothing was sent"
            self._waiting.clear()
            silence = f"expected an answer within {self.timeout_s:g} s, heard nothing"
            raise NeighbourLost(f"{self.endpoint}: {silence}; {left}{self._why()}")
        if self._waiting and now - self._moved >= self.patience_s:
            count = len(self._waiting)
            self._waiting.clear()
            raise NoCredit(
                f"{self.endpoint}: expected a frame to be finished within {self.patience_s:g} s, {count} wait: "
                "the service is there, but has no room"
            )
        for identity in [key for key, one in self._waiting.items() if now >= one.again_at]:
            self._send(identity)
        self._resend([key for key, one in self._waiting.items() if now - one.heard >= self.lease_s])

    def _why(self) -> str:
        """What the connection says of the silence."""
        said = self._dealer.refused
        return f"; not let in ({said}): a key that the service allows? (gpudiff keys)" if said else ""

    def _resend(self, frames: list[FrameId]) -> None:
        """Say hello, then send the frames once more: they, or their receipts, may be lost."""
        if frames or not self.credit:
            self._dealer.send(control.hello(self.name))
        for identity in frames:
            self._send(identity)
