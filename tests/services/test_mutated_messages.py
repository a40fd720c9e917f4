"""Hundreds of damaged messages to `gpudiff run`: all are answered, none leaves a trace."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import DAMAGE
from serving import TIMEOUT_S, Raw
from small_pair import GAIN, WCS, field, render, save

from gpudiff.edges import control, wire
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.services.child import Child

SIZE = 128
"""The least that is quickly subtracted: a fifth of the messages are."""
STARS = field(16, SIZE)
SCIENCE = render([*STARS, (70.0, 62.0, 4000.0)], 4.5 / 2.355, 1, SIZE)
TEMPLATE = render(STARS, 3.5 / 2.355, 2, SIZE)
COUNT, WARM_UP = 300, 60
GROWTH_BYTES = 30 << 20
"""The messages after the warm-up are 0.2 MB each, 47 MB together: keeping them would show."""


def message(visit: int) -> list[bytes]:
    """A good frame, as it goes over the wire."""
    observation = Observation(FrameId(visit, 0, 3), mjd_start_tai=61000.0, mjd_end_tai=61000.1)
    mask, variance = np.zeros(SCIENCE.shape, np.int32), SCIENCE / np.float32(GAIN)
    frame = Frame("frame", observation, SCIENCE, mask, variance, GAIN, 0.0, saturation=6e4, wcs=dict(WCS))
    return [bytes(part) for part in wire.encode(frame)]


# ------------------------------------------------------------------ the service
@dataclass(frozen=True)
class Remote:
    """`gpudiff run` in a directory."""

    directory: Path
    endpoint: str

    def status(self) -> dict[str, Any]:
        """What status.json says."""
        return json.loads((self.directory / "status.json").read_text())

    def associator(self) -> dict[str, Any]:
        """What associator.json says."""
        return json.loads((self.directory / "associator.json").read_text())

    def memory(self) -> int:
        """Bytes that differencer, workers and associator hold (VmRSS of proc(5))."""
        status = self.status()
        pids = [status["pid"], self.associator()["pid"], *status["workers"]]
        lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.fixture
def remote(tmp_path) -> Iterator[Remote]:
    (tmp_path / "templates").mkdir()
    save(tmp_path / "templates" / "template.fits", TEMPLATE)
    words = ["run", "--directory", str(tmp_path / "night"), "--templates", str(tmp_path / "templates")]
    words += ["--workers", "1", "--frames", "tcp://127.0.0.1:0"]
    running = Child(words, tmp_path / "log", "ready: ", TIMEOUT_S)
    yield Remote(tmp_path / "night", running.ready.split()[2])
    assert running.stop() == 0


def answer(raw: Raw, parts: list[bytes]) -> dict[str, Any]:
    """The last word on a message: ready, or a receipt that is more than `accepted` and `busy`."""
    raw.dealer.send(parts)
    while True:
        said = raw.dealer.receive(TIMEOUT_S)
        assert said is not None, "no answer"
        words = control.decode(said)
        if words.get("status") not in ("accepted", "busy"):
            return words


def test_every_damaged_message_is_answered_and_the_service_neither_grows_nor_ends(remote):
    rng, raw, statuses, memory = random.Random(20261122), Raw(remote.endpoint), set(), 0
    for number in range(COUNT):
        parts = message(number)
        rng.choice(DAMAGE)(parts, rng)
        said = answer(raw, parts)
        statuses.add(said.get("status", said["say"]))
        assert "failed 3 times" not in said.get("reason", ""), said  # an error that nobody foresaw
        if number == WARM_UP:
            memory = remote.memory()
    assert statuses == {"ready", "rejected", "failed", "done"}
    assert answer(raw, message(COUNT))["status"] == "done"
    assert remote.memory() - memory < GROWTH_BYTES
    assert remote.status()["worker_restarts"] == 0
    assert "failed" not in remote.associator()["counts"]  # what it cannot store is refused before
    raw.dealer.close()
