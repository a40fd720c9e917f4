"""Frames in hand: who sent them, who works on them, what became of them.  No sockets here."""

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from gpudiff.edges.control import Receipt
from gpudiff.edges.wire import Envelope
from gpudiff.edges.wire_header import Header
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import AssociatorAway, BadMessage, NoCredit
from gpudiff.model.frame import FrameId

REMEMBERED = 20_000
"""Finished frames whose receipts are kept, so that a repeat is answered without computing it again."""


@dataclass
class Held:
    """A frame between its `accepted` and its final receipt.

    parts : the message, as it came; content : its checksum (wire.Envelope)
    waiters : client -> the attempt it was sent under
    tries : how often a worker was given it; arrived : time.monotonic(); waited_s : for its first worker
    segments : files of shared memory that its planes lie in; associator : the endpoint of the one that has it
    alone : no other frame may be beside it in its worker, for one that had it died
    """

    frame: FrameId
    parts: Sequence[bytes | memoryview]
    content: str
    size: int
    waiters: dict[bytes, int] = field(default_factory=dict)
    tries: int = 0
    waited_s: float = 0.0
    arrived: float = field(default_factory=time.monotonic)
    received_tai: float = field(default_factory=tai_now)
    segments: frozenset[str] = frozenset()
    associator: str = ""
    alone: bool = False

    @property
    def attempt(self) -> int:
        """The highest under which it was sent."""
        return max(self.waiters.values())


class Intake:
    """The bounded queue between the clients and the workers."""

    def __init__(self, credit: int, max_bytes: int, route: Callable[[Header], str] = lambda header: ""):
        """credit : frames of one client in hand at a time; max_bytes : of all frames in hand; route : the
        associator that has a frame.

        `narrow` may be set: the associators that are behind; one frame for each is in hand at a time, whose answer
        tells whether there is room again.
        `closed` may be set: the associators whose frames must wait; they get half of the room at most, and while
        they wait they take none of their clients' credit.
        """
        self.credit, self.max_bytes, self.route = credit, max_bytes, route
        self.narrow: frozenset[str] = frozenset()
        self.closed: frozenset[str] = frozenset()
        self.held: dict[FrameId, Held] = {}
        self.queue: deque[Held] = deque()
        self._finished: OrderedDict[FrameId, tuple[str, Receipt]] = OrderedDict()

    def take(self, client: bytes, envelope: Envelope, parts: Sequence[bytes | memoryview]) -> Receipt:
        """The receipt for a frame just come: accepted, or duplicate when the very same was done before.

        A frame that is in hand already is not queued twice: the client is told of its end, too.
        Raises NoCredit when the client, or the service, holds all it can; BadMessage when the frame is in
        hand with other pixels, or other words about them.
        """
        frame, attempt = envelope.frame, envelope.header.attempt or 1
        known = self._finished.get(frame)
        if known and known[0] == envelope.content:
            return replace(known[1], attempt=attempt, status="duplicate")
        held = self.held.get(frame)
        if held is None:
            held = self._admit(client, envelope, parts)
        elif held.content != envelope.content:
            raise BadMessage(
                f"frame {frame}: expected the very frame that is in work under this name, got another"
            )
        held.waiters[client] = attempt
        return replace(self.waits(held, "accepted"), attempt=attempt)

    def next(self, alone: bool = True) -> Held | None:
        """The frame to work on next, its try counted; None when none waits whose associator is there.

        alone : whether the worker has no other; until it has none, one that must be alone is waited with
        """
        held = next((one for one in self.queue if not self._asleep(one)), None)
        if held is None or (held.alone and not alone):
            return None
        self.queue.remove(held)
        held.tries += 1
        held.waited_s = held.waited_s or time.monotonic() - held.arrived
        return held

    def again(self, held: Held) -> None:
        """Put a frame back whose worker was lost, or whose moment was wrong: it is next."""
        self.queue.appendleft(held)

    def waits(self, held: Held, status: str) -> Receipt:
        """A receipt that is not the last one; it says so where the frame waits for an associator that is away."""
        error = AssociatorAway.__name__ if self._asleep(held) else None
        return Receipt(held.frame.visit, held.frame.snap, held.frame.detector, None, status, error=error)

    def _asleep(self, held: Held) -> bool:
        return held.associator in self.closed

    def crowd(self) -> Iterator[tuple[Held, NoCredit]]:
        """Take out of the queue, and say why, what waits for associators that are closed and has more than half of
        the room: frames of the others come in, and these are sent again by their clients."""
        asleep = 0
        for held in filter(self._asleep, list(self.queue)):
            asleep += held.size
            if asleep > max(held.size, self.max_bytes / 2):
                self.queue.remove(held)
                yield held, _away(held.frame)

    def report(self) -> dict[str, int]:
        """For status.json: credit of a client, clients with frames in hand, how many more they may send, bytes
        in hand and the room for them, and how many frames in the queue wait for an associator that is away."""
        clients = [client for held in self.held.values() for client in held.waiters]
        taken = [client for held in self.held.values() if not self._asleep(held) for client in held.waiters]
        return {
            "credit": self.credit,
            "clients": len(set(clients)),
            "free": max(0, self.credit * len(set(clients)) - len(taken)),
            "bytes": sum(held.size for held in self.held.values()),
            "room": self.max_bytes,
            "away": len(self.queue) - self.waiting(),
        }

    def waiting(self) -> int:
        """How many frames wait for a worker, not for their associator."""
        return sum(not self._asleep(held) for held in self.queue)

    def finish(self, held: Held, receipt: Receipt) -> None:
        """Let the frame go; a good end is remembered."""
        del self.held[held.frame]
        if receipt.good:
            self._finished[held.frame] = (held.content, receipt)
            while len(self._finished) > REMEMBERED:
                self._finished.popitem(last=False)

    def _admit(self, client: bytes, envelope: Envelope, parts: Sequence[bytes | memoryview]) -> Held:
        frame = envelope.frame
        associator = self.route(envelope.header)
        if associator in self.narrow and any(held.associator == associator for held in self.held.values()):
            raise NoCredit(f"frame {frame}: expected none in hand while its associator is behind")
        awake = (held for held in self.held.values() if not self._asleep(held))
        if associator not in self.closed and sum(client in held.waiters for held in awake) >= self.credit:
            raise NoCredit(f"frame {frame}: expected at most {self.credit} frames of one client in flight")
        size = sum(len(part) for part in parts)
        in_hand = sum(held.size for held in self.held.values())
        if self.held and in_hand + size > self.max_bytes:
            raise NoCredit(
                f"frame {frame}: expected {size} bytes of room, {in_hand} of {self.max_bytes} are taken"
            )
        asleep = sum(held.size for held in self.held.values() if self._asleep(held))
        if associator in self.closed and asleep and asleep + size > self.max_bytes / 2:
            raise _away(frame)
        segments = frozenset(plane.shm.segment for plane in envelope.header.planes if plane.shm)
        held = Held(frame, parts, envelope.content, size, segments=segments, associator=associator)
        self.held[frame] = held
        self.queue.append(held)
        return held


def _away(frame: FrameId) -> NoCredit:
    return NoCredit(f"frame {frame}: its associator is away, and the room for frames that wait for it is taken")
