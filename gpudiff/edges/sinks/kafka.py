"""Alerts to a Kafka topic, by librdkafka (the extra `kafka`)."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from gpudiff.edges.notices import Message, messages
from gpudiff.model.errors import BadConfiguration, NeighbourLost
from gpudiff.model.outgoing import Delivery, OutgoingBatch

PATIENCE_S = 30.0
"""How long librdkafka repeats a message that the broker does not take."""
WORD_S = 2.0
"""How long a word is waited for that is no alert."""
LARGEST_MESSAGE = 8 << 20
QUEUE_BYTES = 256 << 20
"""Most that waits in memory; beyond it `publish` waits too."""
ROUND_S = 0.1


class Kafka:
    """Key: diaObjectId in digits, or the diaSourceId of what has no object, so that an object's alerts stay in
    order.  Headers: diaSourceId, revision, kind and fingerprint, so that repeats are dropped without decoding."""

    def __init__(self, servers: str, topic: str, tier: str, patience_s: float = PATIENCE_S):
        """servers : "host:port"; raises BadConfiguration where confluent-kafka is not installed."""
        try:
            import confluent_kafka
        except ImportError:
            raise BadConfiguration("kafka: expected confluent-kafka: pip install 'gpudiff[kafka]'") from None
        self.name, self.topic, self.tier = f"kafka://{servers}/{topic}?tier={tier}", topic, tier
        self.patience_s, self._kafka = patience_s, confluent_kafka
        self._producer = confluent_kafka.Producer(
            {
                "bootstrap.servers": servers,
                "acks": "all",
                "linger.ms": 5,
                "message.max.bytes": LARGEST_MESSAGE,
                "batch.size": 1 << 20,
                "queue.buffering.max.kbytes": QUEUE_BYTES >> 10,
                "message.timeout.ms": int(patience_s * 1000),
                "log_level": 2,  # what concerns an alert comes back as its delivery report
            }
        )

    def close(self) -> None:
        """Give up what waits."""
        self._producer.purge()
        self._producer.poll(0)

    def publish(self, batch: OutgoingBatch) -> Delivery:
        found, refused = messages(batch, self.tier)
        failed: dict[int, Any] = {}
        for one in found:
            self._produce(one, batch.fingerprint, failed)
        waiting = self._producer.flush(self.patience_s + 1)
        later = [error for error in failed.values() if not self._final(error)]
        if waiting or later:
            self._producer.purge()
            self._producer.poll(0)
            why = later[0].str() if later else f"{waiting} messages are not acknowledged"
            raise NeighbourLost(f"{self.name}: {why}")
        refused += [(one, error.str()) for one, error in failed.items()]
        return Delivery(len(batch) - len(refused), tuple(refused))

    def tell(self, subject: str, said: Mapping[str, Any]) -> None:
        """A message whose only header is `word`, the subject, its value JSON."""
        failed: dict[int, Any] = {}
        told = partial(self._told, 0, failed)
        try:
            self._producer.produce(
                self.topic, json.dumps(said), subject, headers={"word": subject}, on_delivery=told
            )
        except (BufferError, self._kafka.KafkaException) as error:
            raise NeighbourLost(f"{self.name}: {error}") from None
        if self._producer.flush(min(self.patience_s, WORD_S)) or failed:
            self._producer.purge()
            self._producer.poll(0)
            raise NeighbourLost(f"{self.name}: {failed[0].str() if failed else 'a word is not acknowledged'}")

    def _produce(self, one: Message, fingerprint: str, failed: dict[int, Any]) -> None:
        headers: dict[str, str | bytes | None] = {
            "diaSourceId": str(one.dia_source_id),
            "revision": str(one.revision),
            "kind": one.kind,
            "fingerprint": fingerprint,
        }
        key, told = str(one.dia_object_id or one.dia_source_id), partial(self._told, one.dia_source_id, failed)
        while True:
            try:
                self._producer.produce(self.topic, one.data, key, headers=headers, on_delivery=told)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(ROUND_S)
            except self._kafka.KafkaException as error:
                failed[one.dia_source_id] = error.args[0]
                return

    def _told(self, dia_source_id: int, failed: dict[int, Any], error: Any, message: Any) -> None:
        """What the broker says of one message."""
        if error is not None:
            failed[dia_source_id] = error

    def _final(self, error: Any) -> bool:
        """Whether the same message would be refused again."""
        codes = self._kafka.KafkaError
        return error.code() in (codes.MSG_SIZE_TOO_LARGE, codes.INVALID_MSG, codes.INVALID_RECORD)
