"""Announcements on their way to a service, and its answers."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpudiff.edges.keys import client_keys
from gpudiff.edges.next_visit import decode_answer, encode
from gpudiff.edges.transport import Dealer
from gpudiff.model.errors import NeighbourLost
from gpudiff.model.next_visit import NextVisit

UNDER_WAY = 50
"""Announcements without an answer, at most."""


def announce(
    endpoint: str, visits: Iterable[NextVisit], timeout_s: float = 10.0, keys: Path | None = None
) -> Iterator[dict[str, Any]]:
    """The service's answer to each announcement, in order.

    keys : as FrameClient takes them.  Raises NeighbourLost after a silence of `timeout_s`, BadConfiguration.
    """
    dealer, waiting = Dealer(endpoint, keys=client_keys(keys) if keys else None), 0

    def heard() -> dict[str, Any]:
        while True:
            message = dealer.receive(timeout_s)
            if message is None:
                raise NeighbourLost(f"{endpoint}: no answer to an announcement within {timeout_s:g} s")
            said = decode_answer(message)
            if said is not None:
                return said

    try:
        for visit in visits:
            if waiting == UNDER_WAY:
                yield heard()
                waiting -= 1
            dealer.send(encode(visit))
            waiting += 1
        for _ in range(waiting):
            yield heard()
    finally:
        dealer.close()
