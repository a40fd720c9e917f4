"""The places that sinks deliver to, for all tests of them."""

from sinking import kafka_broker, place, topic, voevent_broker

__all__ = ["kafka_broker", "place", "topic", "voevent_broker"]
