"""The sink that keeps what it is given: a double for tests and for trying things out."""

from gpudiff.edges.notices import Message, messages
from gpudiff.model.errors import NeighbourLost
from gpudiff.model.outgoing import Delivery, OutgoingBatch


class Memory:
    """`messages` holds what was delivered, in order; `away` makes it as if nobody were there."""

    def __init__(self, name: str = "memory", tier: str = "full"):
        self.name, self.tier = name, tier
        self.messages: list[Message] = []
        self.away = False

    def close(self) -> None:
        pass

    def publish(self, batch: OutgoingBatch) -> Delivery:
        if self.away:
            raise NeighbourLost(f"{self.name}: nobody is there")
        found, refused = messages(batch, self.tier)
        self.messages += found
        return Delivery(len(found), tuple(refused))
