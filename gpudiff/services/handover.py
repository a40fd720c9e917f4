"""Hands detections to the associator, and waits until they are committed."""

import sys
import time

from gpudiff.edges.detections import Answer, decode_answer, encode
from gpudiff.edges.transport import ClientKeys, Dealer
from gpudiff.model import errors
from gpudiff.model.batch import DetectionBatch
from gpudiff.model.errors import GpudiffError, TryAgain

SILENCE_S = 30.0
"""Without an answer the batch is sent again: the associator absorbs repeats."""
LISTEN_S = 1.0


class Handover:
    """One worker's connection to the associator."""

    def __init__(self, endpoint: str, silence_s: float = SILENCE_S, keys: ClientKeys | None = None):
        self.silence_s, self._said = silence_s, False
        self._dealer = Dealer(endpoint, keys=keys)

    def close(self) -> None:
        """Close the connection."""
        self._dealer.close()

    def commit(self, batch: DetectionBatch) -> Answer:
        """The associator's answer: committed or duplicate.

        Waits as long as it takes: while the associator is away the frame is kept, and the batch is sent again
        when it is back.  Raises the error that the associator names when it fails.
        """
        frame, parts = batch.observation.frame, encode(batch)
        identity = [frame.visit, frame.snap, frame.detector]
        sent = float("-inf")
        while True:
            if self._dealer.came_back() or time.monotonic() - sent > self.silence_s:
                self._dealer.send(parts)
                sent = time.monotonic()
            message = self._dealer.receive(LISTEN_S)
            if message is None:
                self._complain()
                continue
            answer = decode_answer(message)
            if answer.frame == identity:
                return _judged(answer)

    def _complain(self) -> None:
        """Say once that the associator does not let us in: this needs somebody to look at the keys."""
        if self._dealer.refused and not self._said:
            why = f"not let in ({self._dealer.refused}): are the keys allowed? (gpudiff keys)"
            print(f"associator {self._dealer.endpoint}: {why}", file=sys.stderr, flush=True)
            self._said = True


def _judged(answer: Answer) -> Answer:
    """The answer, or the error in it."""
    if answer.status in ("committed", "duplicate"):
        return answer
    raise error_named(answer.error)(f"associator: {answer.reason}")


def error_named(name: str) -> type[GpudiffError]:
    """The error of model.errors with this name; TryAgain for one nobody knows."""
    found = vars(errors).get(name)
    return found if isinstance(found, type) and issubclass(found, GpudiffError) else TryAgain
