"""What everything that sends frames offers: the client, and its double for tests."""

import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from gpudiff.edges.control import Receipt
from gpudiff.model.errors import BadMessage
from gpudiff.model.frame import Frame


@dataclass(frozen=True)
class VisitReport:
    """What became of a visit's frames: their final receipts, in the order in which they came."""

    visit: int | None
    receipts: tuple[Receipt, ...]

    @property
    def good(self) -> bool:
        """Whether the detections of all frames are committed."""
        return all(receipt.good for receipt in self.receipts)

    @property
    def refused(self) -> tuple[Receipt, ...]:
        """Receipts of the frames that are not committed: rejected, or failed for the last time."""
        return tuple(receipt for receipt in self.receipts if not receipt.good)

    @property
    def sources(self) -> int:
        """DIASources of the visit."""
        return sum(receipt.sources or 0 for receipt in self.receipts)

    @property
    def alerts(self) -> int:
        """Alerts made of them."""
        return sum(receipt.alerts or 0 for receipt in self.receipts)

    def __str__(self) -> str:
        waits = [receipt.latency_s for receipt in self.receipts if receipt.latency_s is not None]
        text = f"visit {self.visit}: {len(self.receipts)} frames, {len(self.refused)} refused, "
        text += f"{self.sources} sources, {self.alerts} alerts"
        return f"{text}, {statistics.median(waits):.2f} s, {max(waits):.2f} s at most" if waits else text


class Sender(ABC):
    """Frames in, final receipts out.  A subclass has `send_many` and `close`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let the service go; frames without a final receipt may or may not have been taken."""

    @abstractmethod
    def send_many(self, frames: Iterable[Frame]) -> Iterator[Receipt]:
        """The final receipts, in the order in which the service finishes."""

    def send(self, frame: Frame) -> Receipt:
        """The frame's final receipt: done, duplicate or rejected; failed when it failed three times.

        Raises NeighbourLost when the service says nothing for too long, NoCredit when it finishes nothing.
        """
        return next(iter(self.send_many([frame])))

    def send_visit(self, frames: Iterable[Frame]) -> VisitReport:
        """What became of all detectors of one visit.

        Raises BadMessage for a frame of another visit than the first, before it is sent; else as `send`.
        """
        visits: list[int] = []

        def of_one_visit() -> Iterator[Frame]:
            for frame in frames:
                visits.append(frame.observation.frame.visit)
                if visits[-1] != visits[0]:
                    raise BadMessage(f"{frame.name}: expected a frame of visit {visits[0]}, got {visits[-1]}")
                yield frame

        receipts = tuple(self.send_many(of_one_visit()))
        return VisitReport(visits[0] if visits else None, receipts)
