"""What goes on beside the camera: a schedule that changes all the time, a client of rubbish, a subscriber."""

import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import zmq
from serving import a_frame

from gpudiff.edges import control, next_visit, wire
from gpudiff.edges.sinks.zeromq import KEY
from gpudiff.edges.transport import Dealer
from gpudiff.model.clock import tai_now
from gpudiff.model.next_visit import NextVisit

RECONNECT_MS = 20
TIERS = ("notice", "full")


class Beside(threading.Thread, ABC):
    """Takes its turn again and again until it is told to finish; an error in it is raised there."""

    def __init__(self, every_s: float):
        super().__init__(daemon=True)
        self.every_s, self.error = every_s, None
        self._over = threading.Event()

    @abstractmethod
    def turn(self) -> None:
        """What it does each time."""

    def end(self) -> None:
        """What is done last."""

    def run(self) -> None:
        try:
            while not self._over.wait(self.every_s):
                self.turn()
        except Exception as error:
            self.error = error
        finally:
            self.end()

    def give_up(self) -> None:
        """No more turns; do not wait."""
        self._over.set()

    def finish(self) -> None:
        """No more turns; raises what went wrong in one."""
        self._over.set()
        self.join(30.0)
        assert not self.is_alive()
        assert self.error is None, self.error


class Observatory(Beside):
    """Announces the visits to come, and changes its mind: other revisions, cancelled visits, some superseded.

    answers : how often each outcome was told
    """

    def __init__(self, endpoint: str, visits: Sequence[int], every_s: float, seed: int):
        """visits : those of which frames were sent, while they are sent"""
        super().__init__(every_s)
        self.dealer, self.visits = Dealer(endpoint), visits
        self.rng, self.revision = np.random.default_rng(seed), 0
        self.answers: Counter[str] = Counter()

    def turn(self) -> None:
        now, self.revision = (self.visits or [1])[-1], self.revision + 1
        for ahead in range(-2, 6):
            wanted = {
                "cancelled": bool(self.rng.random() < 0.2),
                "supersedes": (now + ahead + 1,) if self.rng.random() < 0.2 else (),
                "detectors": tuple(self.rng.permutation([4, 5, 6]).tolist()),
                "start_tai": tai_now() + ahead / 86400,
            }
            place = {"ra": float(self.rng.uniform(0, 360)), "dec": -30.0, "duration_s": 0.1}
            said = NextVisit(max(1, now + ahead), self.revision, "next", **place, **wanted)
            self.dealer.send(next_visit.encode(said))
        self.dealer.came_back()
        while (message := self.dealer.receive(0.0)) is not None:
            self.answers[(next_visit.decode_answer(message) or {"status": "other"})["status"]] += 1

    def end(self) -> None:
        self.dealer.close()


class Rogue(Beside):
    """Sends frames that were sent before: whole, cut, with a bit turned over, at the first attempt and the last.

    receipts : how often each status, or error where there was one, was told
    """

    def __init__(self, endpoint: str, visits: Sequence[int], every_s: float, seed: int):
        """visits : as Observatory"""
        super().__init__(every_s)
        self.dealer, self.visits, self.rng = Dealer(endpoint), visits, np.random.default_rng(seed)
        self.receipts: Counter[str] = Counter()

    def turn(self) -> None:
        if not self.visits:
            return
        frame = a_frame(int(self.rng.choice(self.visits[-20:])))
        parts = [bytes(part) for part in wire.encode(frame, attempt=int(self.rng.choice([1, 3])))]
        damage = self.rng.choice(["none", "bit", "plane lost", "plane cut", "header cut", "no header"])
        if damage == "bit":
            pixels = bytearray(parts[2])
            pixels[int(self.rng.integers(len(pixels)))] ^= 1 << int(self.rng.integers(8))
            parts[2] = bytes(pixels)
        elif damage == "plane lost":
            parts = parts[:2]
        elif damage == "plane cut":
            parts[2] = parts[2][: int(self.rng.integers(len(parts[2])))]
        elif damage == "header cut":
            parts[1] = parts[1][: int(self.rng.integers(len(parts[1])))]
        elif damage == "no header":
            parts = parts[:1]
        self.dealer.send(parts)
        self.dealer.came_back()
        while (message := self.dealer.receive(0.0)) is not None:
            receipt = control.as_receipt(control.decode(message))
            self.receipts[receipt.error or receipt.status] += 1

    def end(self) -> None:
        self.dealer.close()


class Subscriber(Beside):
    """Hears the alerts, and drops by id and revision what it has heard before.

    heard : of each tier, how often each (diaSourceId, revision) came
    """

    def __init__(self, endpoint: str):
        super().__init__(0.0)
        self.heard: dict[str, Counter[tuple[int, int]]] = {tier: Counter() for tier in TIERS}
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        for option, value in ((zmq.LINGER, 0), (zmq.RECONNECT_IVL, RECONNECT_MS), (zmq.RCVHWM, 0)):
            self.socket.setsockopt(option, value)
        self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.socket.connect(endpoint)

    def turn(self) -> None:
        if self.socket.poll(100):
            topic, key, _ = self.socket.recv_multipart()
            which, revision, _ = KEY.unpack(key)
            self.heard[topic.decode().split(".")[0]][which, revision] += 1

    def has(self, expected: Iterable[int]) -> bool:
        """Whether all of these have come, in each tier."""
        wanted = {(which, 0) for which in expected}
        return all(wanted <= heard.copy().keys() for heard in self.heard.values())

    def end(self) -> None:
        self.socket.close()
