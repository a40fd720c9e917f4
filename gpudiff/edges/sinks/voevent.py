"""Alerts to a VOEvent broker, as an author does (VOEvent Transport Protocol 2.0, IVOA 2017, arXiv:1709.01264).

For each event: connect, send it, wait for ack or nak, close.  Both ways a message is its length, 4 bytes
big-endian, and so many bytes of XML.
"""

import socket
import struct
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from gpudiff.edges.notices import sources
from gpudiff.edges.voevent import write_event, write_word
from gpudiff.model.clock import tai_now
from gpudiff.model.errors import BadMessage, NeighbourLost
from gpudiff.model.outgoing import Delivery, OutgoingBatch

ATTEMPTS = 3
PATIENCE_S = 10.0
LARGEST_ANSWER = 1 << 16
LENGTH = struct.Struct(">I")


class VOEventAuthor:
    """What the broker's nak refuses is refused for good; what it does not answer is sent again, three times.

    The broker drops repeats by their IVORN, which is made from diaSourceId and revision.
    """

    tier = "notice"

    def __init__(self, host: str, port: int, patience_s: float = PATIENCE_S):
        self.name = f"voevent+tcp://{host}:{port}"
        self._address, self.patience_s = (host.strip("[]"), port), patience_s

    def close(self) -> None:
        pass

    def publish(self, batch: OutgoingBatch) -> Delivery:
        kept, records, refused = sources(batch)
        rows = list(batch.rows.take(kept).rows())
        for row, record in zip(rows, records, strict=True):
            try:
                self._deliver(write_event(row, record, batch.fingerprint))
            except BadMessage as error:
                refused.append((row["diaSourceId"], str(error)))
        return Delivery(len(batch) - len(refused), tuple(refused))

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        """An event with the role `utility`."""
        self._deliver(write_word(subject, said, tai_now()))

    def _deliver(self, event: bytes) -> None:
        """Raises BadMessage for a nak, NeighbourLost when no attempt brings an answer."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._send(event)
                return
            except OSError as error:
                if attempt == ATTEMPTS:
                    raise NeighbourLost(f"{self.name}: {error}") from None

    def _send(self, event: bytes) -> None:
        with socket.create_connection(self._address, self.patience_s) as connection:
            connection.sendall(LENGTH.pack(len(event)) + event)
            length = LENGTH.unpack(_exactly(connection, LENGTH.size))[0]
            if length > LARGEST_ANSWER:
                raise ConnectionError(f"expected an answer of at most {LARGEST_ANSWER} bytes, got {length}")
            role, reason = _answer(_exactly(connection, length))
        if role != "ack":
            raise BadMessage(f"{role}: {reason}")


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError(f"expected {size} bytes of an answer, got {len(data)}")
        data += more
    return data


def _answer(data: bytes) -> tuple[str, str]:
    """Role of a Transport message, and what its Result says."""
    try:
        message = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ConnectionError(f"expected a Transport message: {error}") from None
    role = message.get("role", "")
    if role not in ("ack", "nak"):
        raise ConnectionError(f"expected ack or nak, got {role!r}")
    return role, message.findtext("Meta/Result", "")
