"""The sinks that a configuration asks for: those of the service, and the mini-broker."""

import sys
from collections import Counter
from pathlib import Path

from gpudiff.edges.keys import server_keys, warning
from gpudiff.edges.sinks import check, make_sink
from gpudiff.model.config import Configuration, Security
from gpudiff.model.errors import BadConfiguration
from gpudiff.model.outgoing import Sink
from gpudiff.services.broker import broker_of

ZEROMQ = "zmq+"


def sinks_of(configuration: Configuration, directory: Path) -> list[Sink]:
    """One for each URL of [service] sinks, and the broker of [broker] filters.

    Raises BadConfiguration for a URL that names no sink, sinks of one name (they would share a watermark), sockets
    beyond this machine without keys, wrong filters.
    """

    def made(url: str) -> Sink:
        return sink_of(url, configuration.security)

    sinks = list(map(made, configuration.service.sinks))
    for name, count in Counter(one.name for one in sinks).items():
        if count > 1:
            raise BadConfiguration(f"[service] sinks: expected each sink once, got {name} {count} times")
    return [*sinks, *broker_of(configuration, directory, made)]


def sink_of(url: str, security: Security) -> Sink:
    """The sink that a URL names; one that binds a socket asks its subscribers for keys, as `security` says.

    Raises BadConfiguration for a URL that names no sink, a socket beyond this machine without keys.
    """
    check(url)
    if not url.startswith(ZEROMQ):
        return make_sink(url)
    endpoint = url.removeprefix(ZEROMQ).partition("?")[0]
    keys = server_keys(security, endpoint, "alerts")
    if warning(security, endpoint):
        said = "gives alerts to everybody, unencrypted ([security] insecure = true)"
        print(f"insecure: {endpoint} {said}", file=sys.stderr, flush=True)
    return make_sink(url, keys)
