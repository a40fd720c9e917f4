"""Where alerts go: one class for each way, made from a URL; gpudiff.model.outgoing has the contract."""

from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

from gpudiff.edges.notices import TIERS
from gpudiff.edges.transport import ServerKeys
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.outgoing import Sink

FORMS = {
    "zmq+tcp": "zmq+tcp://host:port",
    "kafka": "kafka://host:port/topic",
    "voevent+tcp": "voevent+tcp://host:port",
}


def make_sink(url: str, keys: ServerKeys | None = None) -> Sink:
    """The sink that a URL names: one of FORMS, with ?tier=notice or ?tier=full.

    Without a tier, ZeroMQ has both, by topic, and Kafka whole alerts; VOEvent has notices only.
    keys : only subscribers with an allowed key come in (ZeroMQ)
    Raises BadConfiguration for another URL, and where the sink cannot be made.
    """
    parts = urlsplit(url)
    tier = _tier(url, parts)
    host, port = _address(url, parts)
    if parts.scheme == "kafka":
        from gpudiff.edges.sinks.kafka import Kafka

        topic = parts.path.strip("/")
        if not topic or "/" in topic:
            raise BadConfiguration(f"{url}: expected {FORMS['kafka']}")
        return Kafka(f"{host}:{port}", topic, tier or "full")
    if parts.path.strip("/"):
        raise BadConfiguration(f"{url}: expected no path, as in {FORMS[parts.scheme]}")
    if parts.scheme == "voevent+tcp":
        from gpudiff.edges.sinks.voevent import VOEventAuthor

        if tier == "full":
            raise BadConfiguration(f"{url}: VOEvent has notices only, expected no tier=full")
        return VOEventAuthor(host, port)
    from gpudiff.edges.sinks.zeromq import ZeroMQ

    return ZeroMQ(f"tcp://{host}:{port or '*'}", [tier] if tier else list(TIERS), keys)


def check(url: str) -> None:
    """Raise BadConfiguration for a URL that `make_sink` does not know; makes nothing."""
    parts = urlsplit(url)
    _tier(url, parts)
    _address(url, parts)


def refusals(sinks: Iterable[Sink | None]) -> Counter[str]:
    """Subscribers not let in since last asked, by reason, of those sinks that ask who subscribes."""
    found: Counter[str] = Counter()
    for one in sinks:
        found.update(one.refused() if one is not None and hasattr(one, "refused") else {})
    return found


def _tier(url: str, parts: SplitResult) -> str:
    options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    tier = options.pop("tier", "")
    if options or (tier and tier not in TIERS):
        raise BadConfiguration(f"{url}: expected no option but tier=notice or tier=full")
    return tier


def _address(url: str, parts: SplitResult) -> tuple[str, int]:
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if parts.scheme not in FORMS or not host or port is None:
        raise BadConfiguration(f"sink {url!r}: expected one of {', '.join(FORMS.values())}")
    return f"[{host}]" if ":" in host else host, port
