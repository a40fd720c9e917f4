"""What a program shows over HTTP: /metrics for Prometheus, /healthz and /readyz for whoever restarts or routes.

healthz says whether the program does its work at all (200), or should be started anew (503); readyz whether work
may be sent to it now.  Both answer one JSON line, `{"ok": false, "why": "2 of 4 workers are ready"}`.
"""

import json
import threading
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from gpudiff.model.errors import BadConfiguration

Probe = Callable[[], str]
"""Why the answer is no; '' when it is yes.  Called in the server's thread."""


def well() -> str:
    """The probe that always says yes."""
    return ""


def address(text: str) -> tuple[str, int]:
    """Host and port of "[HOST:]PORT"; this machine alone without a host.  Raises BadConfiguration."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise BadConfiguration(f"metrics: expected [HOST:]PORT, got {text!r}")
    return host or "127.0.0.1", int(port)


class Monitor:
    """An HTTP server in a thread of its own; `port` is the one it really has."""

    def __init__(self, registry: CollectorRegistry, where: str, alive: Probe, ready: Probe):
        """where : "[HOST:]PORT", port 0 for a free one; raises BadConfiguration when it cannot be had."""
        self._pages = {"/metrics": make_wsgi_app(registry), "/healthz": _probe(alive), "/readyz": _probe(ready)}
        try:
            self._server = make_server(*address(where), self._page, ThreadingWSGIServer, _Silent)
        except OSError as error:
            raise BadConfiguration(f"metrics: {where}: expected a free address: {error.strerror}") from None
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, name="monitor", daemon=True).start()

    def _page(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        return self._pages.get(environ["PATH_INFO"], _absent)(environ, start)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Silent(WSGIRequestHandler):
    """A request is no event of the service."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _probe(why: Probe) -> Callable[..., Iterable[bytes]]:
    def page(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        reason = why()
        start("503 Service Unavailable" if reason else "200 OK", [("Content-Type", "application/json")])
        return [json.dumps({"ok": not reason, "why": reason}).encode() + b"\n"]

    return page


def _absent(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    start("404 Not Found", [("Content-Type", "text/plain")])
    return [b"expected /metrics, /healthz or /readyz\n"]
