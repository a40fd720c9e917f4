"""The sinks that a configuration asks for: those of the service, and the mini-broker."""

from pathlib import Path

from gpudiff.edges.keys import server_keys
from gpudiff.edges.sinks import check, make_sink
from gpudiff.model.config import Configuration
from gpudiff.model.outgoing import Sink
from gpudiff.services.broker import broker_of

ZEROMQ = "zmq+"


def sinks_of(configuration: Configuration, directory: Path) -> list[Sink]:
    """One for each URL of [service] sinks, and the broker of [broker] filters.

    Raises BadConfiguration for a URL that names no sink, a socket beyond this machine without keys, wrong filters.
    """

    def made(url: str) -> Sink:
        check(url)
        if not url.startswith(ZEROMQ):
            return make_sink(url)
        endpoint = url.removeprefix(ZEROMQ).partition("?")[0]
        return make_sink(url, server_keys(configuration.security, endpoint, "alerts"))

    return [*map(made, configuration.service.sinks), *broker_of(configuration, directory, made)]
