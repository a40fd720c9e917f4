"""A service of real processes that are killed and started again, and a client that sends all the while."""

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from disturbing import Beside, Observatory, Rogue, Subscriber
from recorded import COUNT
from serving import KNOWN, a_frame, until
from sinking import free_ports
from small_disk import SmallDisk

from gpudiff.edges import archive
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.frame import Frame, FrameId

HERE = Path(__file__).parent
START_S, PATIENCE_S = 60.0, 120.0
"""A program starts in seconds, and the client waits through several starts; a loaded machine is slower."""
REPEATED, DELAYED = 0.1, 0.1
"""Of the frames are sent a second time, when everything else is through."""
FROZEN, LONGEST_S = 0.2, 7.0
"""How often a program hangs after a kill, and how long; a lease is 5 s."""
CLOSING = "missing_s = 0.5\nclose_s = 1.0\n"
"""Visits are given up and closed while frames of theirs are still to come."""


VICTIMS = ["associator", "differencer", "worker", "publisher"]


class Program:
    """One program that can be killed and started again at the same endpoint."""

    def __init__(self, command: list[str], log: Path, inside: Sequence[str] = ()):
        """inside : the command that runs it where it is to run"""
        self.command, self.log, self.inside = command, log, inside
        self.start()

    def start(self) -> None:
        """Start it, and wait for its `ready:` line; once more when its endpoint was not free yet."""
        for _ in range(5):
            with open(self.log, "ab") as log:
                self.process = subprocess.Popen(
                    [*self.inside, sys.executable, *self.command],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (HERE, *HERE.parents[:2])))},
                )
            if self._line().startswith(b"ready:"):
                return
            self.process.kill()
            self.process.wait()
        raise AssertionError(f"{self.command}: not ready: {self.log.read_text()[-2000:]}")

    def _line(self) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if selector.select(START_S) else b""

    def kill(self) -> None:
        """SIGKILL, and start it again."""
        self.process.kill()
        self.process.wait()
        self.start()

    def stop(self) -> int:
        """SIGTERM; its exit status."""
        self.process.terminate()
        return self.process.wait(START_S)


class Service:
    """An associator, a differencer with recorded detections, and a subscriber to the alerts; one directory."""

    def __init__(self, directory: Path, ledger: str = "", disk: SmallDisk | None = None):
        """ledger : [ledger] of the associator's configuration; disk : a store of its own for the associator"""
        self.endpoint, stream = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        self.directory, self.disk = directory, disk
        self.detections = f"ipc://{directory}/detections.ipc"
        templates, file = directory / "templates", directory / "associator.toml"
        templates.mkdir(parents=True)
        write_frame(templates / "template.fits", a_frame(0))
        file.write_text(f'[service]\nsinks = ["zmq+{stream}"]\n[ledger]\n{ledger}')
        store, inside = (disk.store, disk.inside) if disk else (directory, ())
        words = ["-m", "gpudiff", "associator", "--directory", str(store), "--detections", self.detections]
        words += ["--config", str(file), "--log", "json"]
        others = ["-m", "recorded", str(directory), str(templates), self.endpoint, self.detections]
        with ThreadPoolExecutor(2) as pool:  # the imports of both take most of a short test
            associator = pool.submit(Program, words, directory / "associator.log", inside)
            differencer = pool.submit(Program, others, directory / "differencer.log")
        self.associator, self.differencer = associator.result(), differencer.result()
        self.subscriber = Subscriber(stream)
        self.subscriber.start()

    def kill(self, who: str) -> None:
        """SIGKILL one of VICTIMS; a worker and a publisher are started again by their parents."""
        if who in ("associator", "differencer"):
            getattr(self, who).kill()
            return
        parent = (self.differencer if who == "worker" else self.associator).process.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        for pid in children[:1]:
            with suppress(ProcessLookupError):  # it has died just before
                os.kill(int(pid), signal.SIGKILL)

    def freeze(self, who: str, seconds: float) -> None:
        """Let the associator, or the differencer, hang for a while."""
        process = getattr(self, who).process
        process.send_signal(signal.SIGSTOP)
        threading.Event().wait(seconds)
        process.send_signal(signal.SIGCONT)

    def wait_for(self, program: str, event: str) -> None:
        """Wait until a program says that something has happened, once more."""
        log, said = self.directory / f"{program}.log", f'"event": "{event}"'
        before = log.read_text().count(said)
        until(lambda: log.read_text().count(said) > before)

    def stop(self) -> None:
        """Both, in order; they must end well."""
        assert self.differencer.stop() == 0
        assert self.associator.stop() == 0

    def check(self, sent: set[FrameId]) -> None:
        """Stop; ids in ledger, archive and stream are those of an undisturbed run: none lost, none doubled.

        Those of the stream once repeats are dropped.
        """
        expected = ids(sent)
        with suppress(AssertionError):  # what is not there by then is named below
            until(lambda: self.subscriber.has(expected))
            until(lambda: nothing_is_owed(self.directory))
        self.stop()
        self.subscriber.finish()
        check(self.disk.copy(self.directory / "kept") if self.disk else self.directory, sent)
        for tier, heard in self.subscriber.heard.items():
            same(f"stream of {tier}", [which for which, revision in heard if revision == 0], expected)

    def end(self) -> None:
        """Both, whatever state they are in."""
        self.subscriber.give_up()
        for program in (self.differencer, self.associator):
            program.process.kill()
            program.process.wait()


class Camera:
    """Sends frames in a thread until told to stop; some twice, none in order of their visits."""

    def __init__(self, endpoint: str, seed: int):
        self.rng, self.endpoint = np.random.default_rng(seed), endpoint
        self.sent: set[FrameId] = set()
        self.visits: list[int] = []
        self.ends: Counter[str] = Counter()
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _frames(self) -> Iterator[Frame]:
        number, kept = 0, []
        while not self._stop.is_set():
            number += 1
            visit = 1 + number // 4 * 4 + 3 - number % 4  # four by four backwards
            if self.visits and self.rng.random() < REPEATED:
                visit = int(self.rng.choice(self.visits[-20:]))
            if self.rng.random() < DELAYED:
                kept.append(visit)
                continue
            yield self._frame(visit)
        for visit in kept:
            yield self._frame(visit)

    def _frame(self, visit: int) -> Frame:
        frame = a_frame(visit)
        self.sent.add(frame.observation.frame)
        self.visits.append(visit)
        return frame

    def _run(self) -> None:
        try:
            with FrameClient(self.endpoint, timeout_s=PATIENCE_S) as client:
                for receipt in client.send_many(self._frames()):
                    self.ends[receipt.status] += 1
        except Exception as error:
            self.error = error

    def wait_for(self, more: int, after_s: float) -> None:
        """Wait for so many more final receipts, and a little more."""
        goal = self.ends.total() + more
        until(lambda: self.error or self.ends.total() >= goal)
        self._stop.wait(after_s)

    def give_up(self) -> None:
        """No more frames; do not wait."""
        self._stop.set()

    def finish(self) -> None:
        """No more frames; wait for the receipts of those under way."""
        self._stop.set()
        self._thread.join(PATIENCE_S)
        assert self.error is None
        assert not self._thread.is_alive()


def ids(sent: set[FrameId]) -> list[int]:
    """The ids that an undisturbed run gives: content makes them."""
    return sorted(frame.visit << 24 | frame.detector << 16 | n for frame in sent for n in range(COUNT))


def stored(directory: Path) -> list[int]:
    """The diaSourceId of every row of the ledger there."""
    ledger = LedgerReader(directory / "ledger.sqlite")
    found = ledger.sources()["diaSourceId"].tolist()
    ledger.close()
    return found


def nothing_is_owed(directory: Path) -> bool:
    """Whether all forced photometry that a differencer put off has been made up, and its status says so.

    A file is there before its frame is committed; the status is written after the receipts of its turn have left.
    """
    waiting = [path for path in (directory / "put_off").glob("*.npz") if not path.name.startswith(".")]
    return not waiting and json.loads((directory / "status.json").read_text())["put_off"] == 0


def forced(directory: Path) -> list[tuple[int, int]]:
    """Visit and detector of every forced flux of the ledger there."""
    ledger = LedgerReader(directory / "ledger.sqlite")
    table = ledger.forced()
    records = ledger.forced_history([KNOWN], float("nan")).get(KNOWN, [])
    ledger.close()
    assert len(records) == len(table)
    return list(zip(table["visit"].tolist(), table["detector"].tolist(), strict=True))


def check(directory: Path, sent: set[FrameId]) -> None:
    """What is in ledger and archive is that of an undisturbed run: none lost, none doubled."""
    same("ledger", stored(directory), ids(sent))
    same("forced", forced(directory), [(frame.visit, frame.detector) for frame in sent])
    files = sorted((directory / "alerts").glob("*.avro"))
    same("archive", [alert["diaSourceId"] for file in files for alert in archive.read(file)], ids(sent))


def same(where: str, found: list, expected: list) -> None:
    """The same ids, as often."""
    there, wanted = Counter(found), Counter(expected)
    assert (where, list(wanted - there), list(there - wanted)) == (where, [], [])  # lost, doubled


@dataclass
class Night:
    """What took part in a disturbed run, for its counts."""

    camera: Camera
    observatory: Observatory
    rogue: Rogue


def survive(directory: Path, seed: int, kills: int) -> Night:
    """Kill programs and let them hang while frames come, the schedule changes and rubbish comes; then check."""
    service, rng = Service(directory, CLOSING), np.random.default_rng(seed)
    beside, camera = list[Beside](), None
    try:
        camera = Camera(service.endpoint, seed)
        observatory = Observatory(service.endpoint, camera.visits, 0.5, seed)
        rogue = Rogue(service.endpoint, camera.visits, 0.05, seed)
        beside = [observatory, rogue]
        for one in beside:
            one.start()
        for _ in range(kills):
            camera.wait_for(int(rng.integers(1, 8)), float(rng.uniform(0, 0.1)))
            service.kill(str(rng.choice(VICTIMS)))
            if rng.random() < FROZEN:
                service.freeze(str(rng.choice(["associator", "differencer"])), float(rng.uniform(0, LONGEST_S)))
        camera.wait_for(1, 0.0)
        camera.finish()
        for one in beside:
            one.finish()
        service.check(camera.sent)
    finally:
        service.end()
        for one in beside:
            one.give_up()
        if camera is not None:
            camera.give_up()
    return Night(camera, observatory, rogue)


@contextmanager
def filmed(service: Service) -> Iterator[Camera]:
    """A camera that sends all the while; after that it sends the rest, and nothing may be lost or doubled."""
    camera = None
    try:
        camera = Camera(service.endpoint, seed=1)
        yield camera
        camera.wait_for(1, 0.0)
        camera.finish()
        service.check(camera.sent)
    finally:
        service.end()
        if camera is not None:
            camera.give_up()
