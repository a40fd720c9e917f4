"""Tells the associator what a differencer knows beside detections: visits that come, frames that were given up."""

from collections.abc import Iterable

from gpudiff.edges.detections import encode_control
from gpudiff.edges.transport import ClientKeys, Dealer
from gpudiff.model.frame import FrameId
from gpudiff.model.next_visit import NextVisit


class Herald:
    """One connection, on which nobody waits: what cannot be sent now, or is lost, only leaves a state unwritten,
    and a frame of a visit that nobody announced is normal.
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None = None):
        self._dealer = Dealer(endpoint, keys=keys)

    def close(self) -> None:
        """Close the connection."""
        self._dealer.close()

    def visit(self, said: NextVisit) -> None:
        """A visit was announced, changed or cancelled.  Only the next one's detectors are expected."""
        for number in said.supersedes:
            self._tell("visit", visit=number, state="SUPERSEDED", reason=f"by visit {said.visit}")
        if said.cancelled:
            self._tell("visit", visit=said.visit, state="CANCELLED", reason="announced")
        elif said.horizon == "next":
            end = said.start_tai + said.duration_s / 86400
            place = {"ra": said.ra, "dec": said.dec}
            when = {"readout_end_tai": end} if end == end else {}
            snaps = max(1, said.images)
            self._tell("announce", visit=said.visit, detectors=said.detectors, snaps=snaps, **place, **when)

    def failed(self, frame: FrameId, reason: str) -> None:
        """A frame became a dead letter."""
        named = {"visit": frame.visit, "snap": frame.snap, "detector": frame.detector}
        self._tell("failed", **named, reason=reason)

    def listen(self) -> None:
        """Take in the answers, which nobody needs."""
        self._dealer.came_back()
        while self._dealer.receive(0.0) is not None:
            pass

    def _tell(self, say: str, **values: int | float | str | Iterable[int]) -> None:
        self._dealer.send(encode_control(say, **values))
