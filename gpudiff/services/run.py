"""`gpudiff run`: a differencer and an associator as child processes, watched, restarted, stopped in order."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from gpudiff.edges import folder
from gpudiff.edges.endpoint import endpoint_in
from gpudiff.model.errors import (
    BadConfiguration,
    GpudiffError,
    InputRejected,
    MustStop,
    NeighbourLost,
)
from gpudiff.services import log
from gpudiff.services.child import ending_with_its_parent

START_S = 60.0
"""A child that has not said that it is ready by then is broken."""
FINISH_S = 60.0
"""How long the associator may take to publish what it holds."""
DEATHS, WITHIN_S = 5, 60.0
"""A child that dies this often within this time is not started again."""
ON_PURPOSE = (2, 3, 4)
"""Exit statuses of a child that refuses its command line or input, or must stop: a new start cannot help."""


@dataclass
class Program:
    """One child: how to start it, and the endpoint it is reached at.

    command : makes its command line from the endpoint it shall bind
    kind : the word in its line `ready: KIND ENDPOINT`
    killed : exit status of a start that a signal ended before the child said a word
    """

    name: str
    kind: str
    endpoint: str
    command: Callable[[str], list[str]]
    process: subprocess.Popen | None = None
    deaths: list[float] = field(default_factory=list)
    killed: int | None = None

    def start(self) -> None:
        """Start it and wait until it is ready; the endpoint is then the one it really bound.

        Raises MustStop when it ends, or says nothing, before that.
        """
        self.process = subprocess.Popen(
            self.command(self.endpoint),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,  # the terminal's Ctrl-C is ours alone: children are stopped in order
            # on SIGTERM a differencer waits for its associator, which ends too, and bars the port to a new start
            preexec_fn=ending_with_its_parent(signal.SIGKILL),
        )
        line = self._first_line()
        words = line.split() if line else []
        if words[:2] != ["ready:", self.kind] or len(words) < 3:
            said = f'it said "{line}"' if line else "it ended first"
            if line is None:
                said = f"it said nothing for {START_S:.0f} s"
            status = self.end()
            self.killed = status if line == "" and status < 0 else None
            raise self.failure(f"expected `ready: {self.kind} ENDPOINT`, {said}", status)
        self.endpoint = words[2]

    def start_again(self) -> int | None:
        """As `start`, but for one that somebody kills before it is ready (for memory, perhaps): that is a death as
        any other, and its status comes back."""
        try:
            self.start()
        except NeighbourLost:
            if self.killed is None:
                raise
            return self.killed
        return None

    @property
    def output(self) -> IO[bytes]:
        """Its standard output; ends when the child does."""
        assert self.process is not None
        assert self.process.stdout is not None
        return self.process.stdout

    def may_start_again(self) -> bool:
        """Note a death; whether there were few enough of late."""
        now = time.monotonic()
        self.deaths = [when for when in self.deaths if now - when < WITHIN_S] + [now]
        return len(self.deaths) < DEATHS

    def failure(self, what: str, status: int) -> GpudiffError:
        """The error for a child that ended, with the same exit status where that says something."""
        kind = {2: BadConfiguration, 3: InputRejected, 4: MustStop}.get(status, NeighbourLost)
        return kind(f"{self.name}: {what}, exit status {status}")

    def terminate(self) -> None:
        """Ask it to finish what it holds and end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()

    def end(self, patience_s: float = 0.0) -> int:
        """Wait for its end, by force after `patience_s`; its exit status."""
        assert self.process is not None
        try:
            status = self.process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.output.close()
        return status

    def _first_line(self) -> str | None:
        """What it says first, '' when it ends before, None when it is silent for START_S."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            return self.output.readline().decode().strip() if selector.select(START_S) else None


@dataclass(frozen=True)
class Options:
    """What `gpudiff run` was told; None leaves the choice to the configuration."""

    directory: Path
    templates: Path
    frames: str
    detections: str
    workers: int | None = None
    config: Path | None = None
    metrics: str | None = None
    associator_metrics: str | None = None
    log: str | None = None


class Supervisor:
    """The two programs of one directory.

    One line on standard output when both are up: `ready: frames ENDPOINT directory DIR`.
    """

    def __init__(self, options: Options):
        """Takes the directory for itself; raises BadConfiguration when another `gpudiff run` has it."""
        self.directory = options.directory
        self._lock = _lock(options.directory)
        self.associator = Program(
            "associator",
            "detections",
            endpoint_in(options.directory, options.detections),
            lambda endpoint: associator_command(options, endpoint),
        )
        self.differencer = Program(
            "differencer",
            "frames",
            endpoint_in(options.directory, options.frames),
            lambda endpoint: differencer_command(options, endpoint, self.associator.endpoint),
        )
        self.programs = (self.associator, self.differencer)
        self._wake, self._waker = os.pipe()
        self._signals = 0

    def run(self) -> None:
        """Start both, keep both running, stop both in order when a signal comes.

        Raises the error for a child that cannot start, must stop, or dies too often.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        try:
            for program in self.programs:
                program.start()
            print(f"ready: frames {self.differencer.endpoint} directory {self.directory}", flush=True)
            while not self._signals:
                self._watch()
        finally:
            self._stop()

    def _signalled(self, *_: Any) -> None:
        self._signals += 1
        os.write(self._waker, b"x")

    def _watch(self) -> None:
        """Wait until a child says something, dies, or a signal comes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            for program in self.programs:
                selector.register(program.output, selectors.EVENT_READ, program)
            for key, _ in selector.select():
                if key.data is None:
                    return
                said = os.read(key.fd, 1 << 16)
                if said:
                    sys.stderr.write(said.decode(errors="replace"))
                else:
                    self._revive(key.data)

    def _revive(self, program: Program) -> None:
        """Start a child again that died."""
        status: int | None = program.end(START_S)
        while status is not None and not self._signals:
            if status in ON_PURPOSE or not program.may_start_again():
                raise program.failure("ended", status)
            log.say("program died", level=log.WARNING, which=program.name, status=status)
            status = program.start_again()

    def _stop(self) -> None:
        """The differencer first, for it needs the associator to finish; a second signal ends both at once."""
        for program in reversed(self.programs):
            if program.process is None:
                continue
            program.terminate()
            last = float("inf") if program is self.differencer else time.monotonic() + FINISH_S
            while program.process.poll() is None and self._signals < 2 and time.monotonic() < last:
                _pause(program)
            program.end()


def differencer_command(options: Options, frames: str, detections: str) -> list[str]:
    """How to start the differencer."""
    command = ["differencer", "--directory", options.directory, "--templates", options.templates]
    command += ["--frames", frames, "--detections", detections]
    for name in ("workers", "config", "metrics", "log"):
        value = getattr(options, name)
        if value is not None:
            command += [f"--{name}", value]
    return _gpudiff(command)


def associator_command(options: Options, detections: str) -> list[str]:
    """How to start the associator."""
    command: list[Any] = ["associator", "--directory", options.directory, "--detections", detections]
    for name, value in (
        ("config", options.config),
        ("metrics", options.associator_metrics),
        ("log", options.log),
    ):
        if value is not None:
            command += [f"--{name}", value]
    return _gpudiff(command)


def _gpudiff(words: list[Any]) -> list[str]:
    return [sys.executable, "-m", "gpudiff", *map(str, words)]


def _pause(program: Program) -> None:
    """Wait a little, taking in what the child still says, so that it never blocks on a full pipe."""
    with selectors.DefaultSelector() as selector:
        selector.register(program.output, selectors.EVENT_READ)
        if selector.select(0.2) and not os.read(program.output.fileno(), 1 << 16):
            time.sleep(0.02)  # its output has ended, it is about to


def _lock(directory: Path) -> int:
    """The lock of the directory, which is made where it is absent."""
    held = folder.lock(directory / "run.lock")
    if held is None:
        raise BadConfiguration(f"{directory}: expected a directory no other `gpudiff run` uses")
    return held
