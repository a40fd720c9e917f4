"""Sockets: the only file that knows ZeroMQ.  Messages are lists of parts; received parts are not copied."""

import math
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import zmq
from zmq.auth.thread import ThreadAuthenticator
from zmq.utils.monitor import parse_monitor_message, recv_monitor_message

from gpudiff.model.errors import BadConfiguration, NeighbourLost

Part = bytes | memoryview
RECONNECT_MS, RECONNECT_MAX_MS = 100, 1000
AGAIN_S = 1.0
"""Between two knocks of a client whose key is not allowed."""
LAST_WORDS_MS = 2000
"""How long receipts sent just before a socket is closed may take to leave."""
RECEIPTS_WAITING = 1000
"""Small messages that may wait for a client that does not read; more are dropped, the client asks again."""
SENT_AHEAD = 1000
"""Messages of a client that may wait for the other end."""

KEEPALIVE = {"TCP_KEEPALIVE": 1, "TCP_KEEPALIVE_IDLE": 10, "TCP_KEEPALIVE_INTVL": 5, "TCP_KEEPALIVE_CNT": 4}
"""Else connections of hosts that died stay open, and an associator that is gone passes for one that is there."""
LONGEST_WAIT_S = 1e6
"""Of one wait, 12 days: ZeroMQ has no room for an infinite one."""

PUBLISHER_RESTS_S = 60.0
"""How long a publisher that waited in vain for a subscriber does not wait again."""

REFUSALS: dict[int, str] = {
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "unknown key",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "no key",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "no key",  # whoever hangs up first
}
"""Why a connection is refused."""
REFUSED = sum(REFUSALS)
"""Those events, or-ed."""


@dataclass(frozen=True)
class ServerKeys:
    """Of a socket that asks who connects: its key pair (Z85), and whether a client's public key may come in."""

    public: bytes
    secret: bytes
    allowed: Callable[[bytes], bool]


@dataclass(frozen=True)
class ClientKeys:
    """Of a socket that connects to such a one: its own key pair and the server's public key (Z85)."""

    public: bytes
    secret: bytes
    server: bytes


@dataclass(frozen=True)
class Received:
    """One message: who sent it, its parts, and whether parts beyond the limits were thrown away unread."""

    sender: bytes
    parts: list[memoryview]
    cut: bool = False


class Socket:
    """What the sockets below share: `close` does not wait, large parts are not copied, and over tcp a peer that is
    gone without a word (its power, its link) is noticed within 30 s, where nothing is under way to it."""

    def __init__(self, kind: int, context: zmq.Context | None = None, **options: Any):
        self._socket: zmq.Socket = (context or zmq.Context.instance()).socket(kind)
        for name, value in {"LINGER": 0, **KEEPALIVE, **options}.items():
            self._socket.setsockopt(getattr(zmq, name), value)

    def close(self) -> None:
        """Close; what cannot be sent within LINGER is dropped."""
        self._socket.close()

    def __del__(self) -> None:
        """Close one that nobody closed, in the order that `close` knows: ZeroMQ's own thread would wait for ever,
        and all other connections with it, to tell a monitor whose reader went first."""
        if "_socket" in self.__dict__ and not self._socket.closed:
            self.close()

    def _bind(self, endpoint: str) -> str:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BadConfiguration(f"{endpoint}: expected a free endpoint to bind: {error}") from None
        return self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def _connect(self, endpoint: str) -> None:
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BadConfiguration(f"{endpoint}: expected an endpoint to connect to: {error}") from None

    def _send(self, parts: Sequence[Part]) -> bool:
        try:
            self._socket.send_multipart(parts, flags=zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return False
        return True

    def _receive(self) -> list[memoryview] | None:
        try:
            return [part.buffer for part in self._socket.recv_multipart(zmq.NOBLOCK, copy=False)]
        except zmq.Again:
            return None


class Bound(Socket):
    """A bound socket; with keys only those with an allowed one come in, over tcp (CURVE; a Unix socket's folder
    guards that one)."""

    def __init__(self, kind: int, endpoint: str, keys: ServerKeys | None, **options: Any):
        self._guard = guard = Guard(keys) if keys and endpoint.startswith("tcp://") else None
        options |= {"LINGER": LAST_WORDS_MS, **(guard.options if guard else {})}
        super().__init__(kind, guard.context if guard else None, **options)
        if guard:
            guard.watch(self._socket)
        self.endpoint = self._bind(endpoint)

    def close(self) -> None:
        """Close; what was just sent may take LINGER to leave."""
        if self._guard:
            self._guard.close(self._socket)
        else:
            super().close()

    def refused(self) -> Counter[str]:
        """Connections refused since last asked, by reason (REFUSALS), {} without keys; for any thread."""
        return self._guard.refused() if self._guard else Counter()


class Router(Bound):
    """A bound ROUTER: many clients, each answered by the name ZeroMQ gave its connection."""

    def __init__(
        self, endpoint: str, backlog: int = 100, max_part_bytes: int = -1, keys: ServerKeys | None = None
    ):
        """backlog : messages read ahead a client; max_part_bytes : a larger part ends the connection"""
        limits = {"RCVHWM": backlog, "SNDHWM": RECEIPTS_WAITING, "MAXMSGSIZE": max_part_bytes}
        super().__init__(zmq.ROUTER, endpoint, keys, ROUTER_MANDATORY=1, **limits)

    def receive(self, max_parts: int = 16, max_bytes: int = 1 << 40) -> Received | None:
        """The next message, or None when there is none; parts beyond a limit are read and thrown away."""
        try:
            frame = self._socket.recv(zmq.NOBLOCK, copy=False)
        except zmq.Again:
            return None
        sender, total, cut = frame.bytes, 0, False
        parts: list[memoryview] = []
        while frame.more:
            frame = self._socket.recv(copy=False)
            total += len(frame)
            if len(parts) < max_parts and total <= max_bytes:
                parts.append(frame.buffer)
            else:
                cut = True
        return Received(sender, parts, cut)

    def send(self, client: bytes, parts: Sequence[Part]) -> bool:
        """Whether the message could be sent: False when the client is gone or does not read."""
        try:
            return self._send([client, *parts])
        except zmq.ZMQError as error:
            if error.errno == zmq.EHOSTUNREACH:
                return False
            raise


class Publisher(Bound):
    """A bound PUB: one message, first part the topic, to all subscribers that asked for it."""

    def __init__(self, endpoint: str, backlog: int, patience_s: float, keys: ServerKeys | None = None):
        """backlog : messages that may wait for a subscriber; patience_s : how long a full one is waited for"""
        waits = {"SNDHWM": backlog, "SNDTIMEO": int(patience_s * 1000), "XPUB_NODROP": 1}
        super().__init__(zmq.PUB, endpoint, keys, **waits)
        self._patient_from = 0.0

    def send(self, parts: Sequence[Part]) -> bool:
        """Whether all who asked for it get the message.

        A subscriber that does not read is waited for, once a minute; then the message goes to the others.
        """
        late = time.monotonic() < self._patient_from
        try:
            self._socket.send_multipart(parts, zmq.NOBLOCK if late else 0)
            return True
        except zmq.Again:
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            self._socket.send_multipart(parts)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        if not late:
            self._patient_from = time.monotonic() + PUBLISHER_RESTS_S
        return False


class Guard:
    """What asks the clients of one socket for their keys (ZAP, RFC 27), in a context of its own.

    options : the socket's; context : to make the socket in (ZeroMQ has one who asks for each context)
    """

    def __init__(self, keys: ServerKeys):
        self.context = zmq.Context()
        self.options = {"CURVE_SERVER": 1, "CURVE_PUBLICKEY": keys.public, "CURVE_SECRETKEY": keys.secret}
        self._asks = ThreadAuthenticator(self.context)
        self._asks.start()
        self._asks.configure_curve_callback(domain="*", credentials_provider=_Provider(keys.allowed))
        self._socket: zmq.Socket | None = None
        self._lock = threading.Lock()

    def watch(self, guarded: zmq.Socket) -> None:
        """Note the refusals of the socket from now on."""
        guarded.monitor("inproc://refused", REFUSED)
        self._socket = self.context.socket(zmq.PAIR)
        self._socket.setsockopt(zmq.RCVHWM, 0)  # a full one would hold up ZeroMQ's own thread
        self._socket.connect("inproc://refused")

    def refused(self) -> Counter[str]:
        """Refusals since last asked, by reason; for any thread."""
        found: Counter[str] = Counter()
        with self._lock:
            while self._socket is not None and self._socket.poll(0):
                found[REFUSALS[parse_monitor_message(self._socket.recv_multipart())["event"]]] += 1
        return found

    def close(self, guarded: zmq.Socket) -> None:
        """Close the socket, then ask no more."""
        with self._lock:
            watched, self._socket = self._socket, None
        guarded.disable_monitor()
        guarded.close()
        self._asks.stop()
        if watched is not None:
            watched.close(0)
        self.context.term()


class _Provider:
    """Allowed keys, as pyzmq's authenticator asks for them."""

    def __init__(self, allowed: Callable[[bytes], bool]):
        self._allowed = allowed

    def callback(self, domain: str, key: bytes) -> bool:
        return self._allowed(key)


class Dealer(Socket):
    """A connected DEALER that knows when its connection was lost and came back.

    One whose key was refused knocks again each AGAIN_S, as it may be allowed by then: ZeroMQ does not by itself.

    refused : why the other end does not let us in, '' as long as it does or has not said
    connected : whether the other end was there when its connection was last looked at
    """

    def __init__(self, endpoint: str, keys: ClientKeys | None = None):
        """keys : with which to connect over tcp, where the other end asks for them"""
        options: dict[str, Any] = {}
        if keys and endpoint.startswith("tcp://"):
            options = {"CURVE_SERVERKEY": keys.server}
            options |= {"CURVE_PUBLICKEY": keys.public, "CURVE_SECRETKEY": keys.secret}
        super().__init__(
            zmq.DEALER,
            SNDHWM=SENT_AHEAD,
            RECONNECT_IVL=RECONNECT_MS,
            RECONNECT_IVL_MAX=RECONNECT_MAX_MS,
            **options,
        )
        self.endpoint, self.refused, self.connected = endpoint, "", False
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | REFUSED
        address = f"inproc://dealer-{uuid.uuid4()}"  # an address is given back some time after its socket closed
        self._socket.monitor(address, events)
        self._monitor: zmq.Socket = zmq.Context.instance().socket(zmq.PAIR)
        self._monitor.setsockopt(zmq.RCVHWM, 0)  # a full one would hold up ZeroMQ's own thread
        self._monitor.connect(address)
        self._lost = self._back = False
        self._again_at = math.inf
        self._connect(endpoint)

    def close(self) -> None:
        self._socket.disable_monitor()
        self._monitor.close(0)
        super().close()

    def send(self, parts: Sequence[Part]) -> bool:
        """Whether the message was queued: False when SENT_AHEAD wait already."""
        return self._send(parts)

    def receive(self, timeout_s: float) -> list[memoryview] | None:
        """The next message; None after `timeout_s`, or as soon as a lost connection came back."""
        last = time.monotonic() + timeout_s
        while not self._back:
            ready = wait([self, self._monitor], min(last, self._again_at) - time.monotonic())
            if self._monitor in ready or not ready:
                self._watch()
            if self in ready:
                return self._receive()
            if not ready and time.monotonic() >= last:
                break
        return None

    def came_back(self) -> bool:
        """Whether the connection was lost and is back since last asked; what was in flight may be lost."""
        self._watch()
        back, self._back = self._back, False
        return back

    def _watch(self) -> None:
        while self._monitor.poll(0):
            event = recv_monitor_message(self._monitor)["event"]
            if event == zmq.EVENT_DISCONNECTED:
                self._lost, self.connected = True, False
            elif event in REFUSALS:
                self.refused = REFUSALS[event]
                if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                    self._lost, self._again_at = True, time.monotonic() + AGAIN_S
            else:
                self._lost, self._back, self.refused = False, self._lost or self._back, ""
                self.connected = True
        if time.monotonic() >= self._again_at:
            self._again_at = math.inf
            self._socket.disconnect(self.endpoint)
            self._connect(self.endpoint)


class Pair(Socket):
    """One end of a conversation between two: bound by the one, connected by the other."""

    def __init__(self, bind: str = "", connect: str = ""):
        super().__init__(zmq.PAIR)
        self.endpoint = self._bind(bind) if bind else connect
        if connect:
            self._connect(connect)

    def send(self, parts: Sequence[Part]) -> None:
        """Queue a message; raises NeighbourLost when the other end does not read."""
        if not self._send(parts):
            raise NeighbourLost(f"{self.endpoint}: expected a reader, none takes the message")

    def receive(self, timeout_s: float = 0.0) -> list[memoryview] | None:
        """The next message, or None after `timeout_s`."""
        if timeout_s and not wait([self], timeout_s):
            return None
        return self._receive()


def wait(sources: Iterable[Any], timeout_s: float) -> list[Any]:
    """Those of the sockets and file descriptors that can be read, [] after `timeout_s`, which may be infinite."""
    poller, by_key = zmq.Poller(), {}
    for source in sources:
        key = source._socket if isinstance(source, Socket) else source
        by_key[key] = source
        poller.register(key, zmq.POLLIN)
    return [by_key[key] for key, _ in poller.poll(int(1000 * min(max(0.0, timeout_s), LONGEST_WAIT_S)))]


def new_pair() -> tuple[bytes, bytes]:
    """A new (public, secret) key pair, Z85."""
    return zmq.curve_keypair()
