"""Alerts over ZeroMQ: a bound PUB socket, any number of subscribers, each choosing by topic."""

import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpudiff.edges.notices import messages
from gpudiff.edges.transport import Publisher, ServerKeys
from gpudiff.model.outgoing import SETTLE_S, Delivery, OutgoingBatch

KEY = struct.Struct(">qiQ")
"""diaSourceId, revision, and the message's number among those of its topic since the socket was bound."""

BACKLOG = {"full": 1000, "notice": 100_000}
"""Messages that may wait for one subscriber: 80 MB of whole alerts, 25 MB of notices."""
PATIENCE_S = 1.0
"""How long a subscriber that does not read is waited for."""


class ZeroMQ:
    """A message is three parts: topic "TIER.KIND.BAND", KEY, and the framed Avro record (edges/ALERTS.md).

    A subscriber that reads too slowly is waited for a moment, then it misses messages, which their numbers show;
    who is not connected gets nothing.  Delivered is what ZeroMQ took: the archive has what a subscriber missed.
    settle_s : what was taken no longer ago may be lost when the program is killed, and is to be sent again then
    """

    settle_s = SETTLE_S

    def __init__(
        self,
        endpoint: str,
        tiers: Sequence[str],
        keys: ServerKeys | None = None,
        backlog: int | None = None,
        patience_s: float = PATIENCE_S,
    ):
        """endpoint : to bind, port * for a free one
        backlog : messages that may wait for one subscriber; None: by the tiers, as BACKLOG has it
        """
        self.name, self.tiers = f"zmq+{endpoint}", tiers
        self.tier = tiers[0] if len(tiers) == 1 else ""
        """The only one, '' for both."""
        self._numbers: Counter[str] = Counter()
        room = min(BACKLOG[tier] for tier in tiers) if backlog is None else backlog
        self._socket = Publisher(endpoint, room, patience_s, keys)
        self.endpoint = self._socket.endpoint
        self.overruns = 0
        """Messages that a slow subscriber missed."""

    def close(self) -> None:
        self._socket.close()

    def refused(self) -> Counter[str]:
        """Subscribers not let in since last asked, by reason (edges.transport.REFUSALS)."""
        return self._socket.refused()

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        """Topic "word.SUBJECT", KEY with 0, 0 and its number, JSON."""
        topic = f"word.{subject}"
        key = KEY.pack(0, 0, self._numbers[topic])
        self._numbers[topic] += 1
        self._socket.send([topic.encode(), key, json.dumps(said).encode()])

    def publish(self, batch: OutgoingBatch) -> Delivery:
        refused: dict[int, str] = {}
        for tier in self.tiers:
            found, without = messages(batch, tier)
            refused.update(without)
            for one in found:
                topic = f"{tier}.{one.kind}.{one.band}"
                key = KEY.pack(one.dia_source_id, one.revision, self._numbers[topic])
                self._numbers[topic] += 1
                self.overruns += not self._socket.send([topic.encode(), key, one.data])
        return Delivery(len(batch) - len(refused), tuple(refused.items()))
