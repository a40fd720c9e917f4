"""Tells the associator what a differencer knows beside detections: visits that come, frames that were given up."""

import time
from collections.abc import Iterable
from contextlib import suppress

from gpudiff.edges.detections import decode_answer, encode_control
from gpudiff.edges.transport import ClientKeys, Dealer
from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import FrameId
from gpudiff.model.next_visit import NextVisit

ASK_S, SILENCE_S = 1.0, 30.0


class Herald:
    """One connection, on which nobody waits: what cannot be sent now, or is lost, only leaves a state unwritten,
    and a frame of a visit that nobody announced is normal.
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None = None):
        self._dealer = Dealer(endpoint, keys=keys)
        self._asked_at, self._owed = float("-inf"), False

    def close(self) -> None:
        """Close the connection."""
        self._dealer.close()

    @property
    def connected(self) -> bool:
        """Whether the associator was there when `listen` was last called."""
        return self._dealer.connected

    @property
    def refused(self) -> str:
        """Why it does not let us in, '' when it does."""
        return self._dealer.refused

    def visit(self, said: NextVisit) -> None:
        """A visit was announced, changed or cancelled.  Only the next one's detectors are expected."""
        for number in said.supersedes:
            self.end(number, "SUPERSEDED", f"by visit {said.visit}")
        if said.cancelled:
            self.end(said.visit, "CANCELLED", "announced")
        elif said.horizon == "next":
            end = said.start_tai + said.duration_s / 86400
            place = {"ra": said.ra, "dec": said.dec}
            when = {"readout_end_tai": end} if end == end else {}
            snaps = max(1, said.images)
            self._tell("announce", visit=said.visit, detectors=said.detectors, snaps=snaps, **place, **when)

    def end(self, visit: int, state: str, reason: str) -> None:
        """A visit will not come: it is SUPERSEDED or CANCELLED."""
        self._tell("visit", visit=visit, state=state, reason=reason)

    def failed(self, frame: FrameId, reason: str) -> None:
        """A frame became a dead letter."""
        named = {"visit": frame.visit, "snap": frame.snap, "detector": frame.detector}
        self._tell("failed", **named, reason=reason)

    def ask(self) -> None:
        """Have the associator say how much it leaves out; once a second at most, not while it owes an answer."""
        now = time.monotonic()
        if now - self._asked_at > (SILENCE_S if self._owed else ASK_S):
            self._asked_at, self._owed = now, True
            self._tell("load")

    def listen(self) -> int | None:
        """Take in the answers; how many steps (services.load) the last one leaves out, None when none came."""
        told = None
        if self._dealer.came_back():
            self._owed = False
        while (message := self._dealer.receive(0.0)) is not None:
            self._owed = False
            with suppress(BadMessage):  # whoever answers so has nothing to tell
                told = decode_answer(message).load
        return told

    def _tell(self, say: str, **values: int | float | str | Iterable[int]) -> None:
        self._dealer.send(encode_control(say, **values))
