"""The sink that keeps what it is given: a double for tests and for embedding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gpudiff.edges.notices import Message, messages
from gpudiff.model.errors import NeighbourLost
from gpudiff.model.outgoing import Delivery, OutgoingBatch


@dataclass
class Memory:
    """`batches` holds what was taken, `messages` what was delivered of it, in order; `words` what was told.

    away : as if nobody were there; lost : how many offers it shall not take now; refuse : diaSourceIds that it
    refuses for good
    """

    name: str = "memory"
    tier: str = "notice"
    away: bool = False
    lost: int = 0
    refuse: frozenset[int] = frozenset()
    batches: list[OutgoingBatch] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    words: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def close(self) -> None:
        pass

    def publish(self, batch: OutgoingBatch) -> Delivery:
        if self.away or self.lost:
            self.lost = max(0, self.lost - 1)
            raise NeighbourLost(f"{self.name}: nobody is there")
        found, refused = messages(batch, self.tier)
        kept = [one for one in found if one.dia_source_id not in self.refuse]
        refused += [(one.dia_source_id, "refused") for one in found if one.dia_source_id in self.refuse]
        self.batches.append(batch)
        self.messages += kept
        return Delivery(len(kept), tuple(refused))

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        if self.away:
            raise NeighbourLost(f"{self.name}: nobody is there")
        self.words.append((subject, dict(said)))

    @property
    def ids(self) -> list[tuple[int, int]]:
        """(diaSourceId, revision) of every alert that came, refused ones too, in the order of their coming."""
        return [
            pair
            for batch in self.batches
            for pair in zip(batch.rows["diaSourceId"].tolist(), batch.rows["revision"].tolist(), strict=True)
        ]
