"""Hands detections to the associator that has their part of the sky, and waits until they are committed."""

import sys
import time
from collections.abc import Mapping
from functools import partial
from math import inf
from types import MappingProxyType
from typing import Any

from gpudiff.edges.detections import Answer, decode_answer, encode, encode_later
from gpudiff.edges.transport import ClientKeys, Dealer
from gpudiff.edges.wire_header import Header, place
from gpudiff.model import errors
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.errors import AssociatorAway, GpudiffError, TryAgain
from gpudiff.model.forced import MadeUp
from gpudiff.model.frame import FrameId
from gpudiff.model.regions import Regions

SILENCE_S = 30.0
"""Without an answer the batch is sent again: the associator absorbs repeats."""
LISTEN_S = 1.0
AWAY_S, HANGS_S = 5.0, 60.0
"""Where several associators share the sky: how long one may be gone, or there and say nothing, before a worker
takes up frames of the others."""


class Handover:
    """One worker's connection to the associator."""

    def __init__(
        self,
        endpoint: str,
        silence_s: float = SILENCE_S,
        keys: ClientKeys | None = None,
        away_s: float = inf,
        hangs_s: float = inf,
    ):
        """silence_s : without an answer the batch is sent again; away_s, hangs_s : as AWAY_S and HANGS_S"""
        self.silence_s, self.away_s, self.hangs_s, self._said = silence_s, away_s, hangs_s, False
        self._open = partial(Dealer, endpoint, keys=keys)
        self._dealer, self._unanswered = self._open(), 0

    def close(self) -> None:
        """Close the connection."""
        self._dealer.close()

    def commit(self, batch: DetectionBatch) -> Answer:
        """The associator's answer: committed or duplicate.

        Waits as long as it takes: while the associator is away the frame is kept, and the batch is sent again
        when it is back.  Raises the error that the associator names when it fails, and AssociatorAway after
        `away_s` or `hangs_s`.
        """
        return self._ask(batch.observation.frame, encode(batch))

    def make_up(self, made: MadeUp) -> Answer:
        """The answer to forced photometry that was made up; as `commit`."""
        return self._ask(made.frame, encode_later(made))

    def _ask(self, frame: FrameId, parts: list[Any]) -> Answer:
        identity = [frame.visit, frame.snap, frame.detector]
        if self._unanswered:  # what was sent twice is answered twice, and perhaps was of this very frame
            self._dealer.close()
            self._dealer, self._unanswered = self._open(), 0
        sent, begun, there = float("-inf"), time.monotonic(), time.monotonic()
        while True:
            if self._dealer.came_back() or time.monotonic() - sent > self.silence_s:
                self._unanswered += self._dealer.send(parts)
                sent = time.monotonic()
            message = self._dealer.receive(LISTEN_S)
            if message is None:
                self._complain()
                there = time.monotonic() if self._dealer.connected else there
                self._give_up(begun, there)
                continue
            answer = decode_answer(message)
            self._unanswered -= 1
            if answer.frame == identity:
                return _judged(answer)

    def _give_up(self, begun: float, there: float) -> None:
        """Raise AssociatorAway when it is time to.  begun : of the wait; there : when it was last connected"""
        now = time.monotonic()
        if now - there > self.away_s or now - begun > self.hangs_s:
            raise AssociatorAway(f"{self._dealer.endpoint}: expected an answer, none for {now - begun:.0f} s")

    def _complain(self) -> None:
        """Say once that the associator does not let us in: this needs somebody to look at the keys."""
        if self._dealer.refused and not self._said:
            why = f"not let in ({self._dealer.refused}): are the keys allowed? (gpudiff keys)"
            print(f"associator {self._dealer.endpoint}: {why}", file=sys.stderr, flush=True)
            self._said = True


class Handovers:
    """One worker's connections to all associators that share the sky."""

    def __init__(self, regions: Regions, keys: Mapping[str, ClientKeys | None] = MappingProxyType({})):
        """keys : endpoint -> the keys to connect with"""
        patience = {"away_s": AWAY_S, "hangs_s": HANGS_S} if regions.several else {}
        self.regions = regions
        self._to = {one: Handover(one, keys=keys.get(one), **patience) for one in regions.endpoints}

    def commit(self, batch: DetectionBatch, header: Header) -> Answer:
        """As Handover.commit, by the associator that has the frame of this header."""
        return self._to[route(self.regions, header)].commit(batch)

    def make_up(self, made: MadeUp, ra: float, dec: float) -> Answer:
        """As Handover.make_up, by the associator that has the frame with this place."""
        return self._to[self.regions.of(ra, dec)].make_up(made)


def route(regions: Regions, header: Header) -> str:
    """The endpoint of the one associator that a frame belongs to, by what its header says alone."""
    return regions.of(*place(header)) if regions.several else regions.endpoints[0]


def _judged(answer: Answer) -> Answer:
    """The answer, or the error in it."""
    if answer.status in ("committed", "duplicate"):
        return answer
    raise error_named(answer.error)(f"associator: {answer.reason}")


def error_named(name: str) -> type[GpudiffError]:
    """The error of model.errors with this name; TryAgain for one nobody knows."""
    found = vars(errors).get(name)
    return found if isinstance(found, type) and issubclass(found, GpudiffError) else TryAgain
