"""Two associators share the sky: each visit is one's, and one that is dead holds up only its own."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from killing import PATIENCE_S, Program, check, nothing_is_owed
from serving import a_frame, until

from gpudiff.edges.announcer import announce
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame
from gpudiff.model.frame import Frame, FrameId
from gpudiff.model.next_visit import NextVisit

EAST, WEST = 90.0, 270.0
"""Right ascensions of visits on either side."""


@dataclass
class Sky:
    """A differencer and the associators of two halves, each with a directory of its own."""

    folder: Path

    def __post_init__(self) -> None:
        (self.folder / "templates").mkdir()
        write_frame(self.folder / "templates" / "template.fits", a_frame(0))
        self.frames = f"ipc://{self.folder}/frames.ipc"
        halves = [f"ipc://{self.folder}/east.ipc ra 0 180", f"ipc://{self.folder}/west.ipc ra 180 360"]
        where = [str(self.folder), str(self.folder / "templates"), self.frames]
        words = ["-m", "recorded", *where, "", *halves]
        with ThreadPoolExecutor(3) as pool:
            east, west = (pool.submit(self._associator, name) for name in ("east", "west"))
            differencer = pool.submit(Program, words, self.folder / "differencer.log")
        self.east, self.west, self.differencer = east.result(), west.result(), differencer.result()

    def _associator(self, name: str) -> Program:
        (self.folder / name).mkdir()
        words = ["--directory", str(self.folder / name), "--detections", f"ipc://{self.folder}/{name}.ipc"]
        return Program(["-m", "gpudiff", "associator", *words, "--log", "json"], self.folder / f"{name}.log")

    def send(self, visits: range, ra: float) -> list[str]:
        """The statuses of one frame of each visit, sent by a client of its own."""
        with FrameClient(self.frames, timeout_s=PATIENCE_S) as client:
            return [receipt.status for receipt in client.send_many(a_frame_at(visit, ra) for visit in visits)]

    def summaries(self, name: str) -> dict[int, tuple[int, int]]:
        """Closed visit -> (detectors ok, missing)."""
        path = self.folder / name / "visits.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return {said["visit"]: (said["ok"], said["missing"]) for said in map(json.loads, lines)}

    def stop(self) -> None:
        """All, in order, once nothing is owed; they must end well."""
        until(lambda: nothing_is_owed(self.folder))
        assert [one.stop() for one in (self.differencer, self.east, self.west)] == [0, 0, 0]

    def end(self) -> None:
        """All, whatever state they are in."""
        for one in (self.differencer, self.east, self.west):
            one.process.kill()
            one.process.wait()


def a_frame_at(visit: int, ra: float) -> Frame:
    """A frame of a visit there."""
    frame = a_frame(visit)
    return replace(frame, observation=replace(frame.observation, boresight_ra=ra, boresight_dec=-30.0))


def frames(*visits: range) -> set[FrameId]:
    return {FrameId(visit, 0, 4) for some in visits for visit in some}


@pytest.fixture
def sky(tmp_path):
    made = Sky(tmp_path)
    yield made
    made.end()


def test_each_visit_is_one_associators_and_its_books_are_closed_there_whole(sky):
    said = [NextVisit(v, 1, "next", ra, -30.0, detectors=(4,)) for v, ra in ((1, EAST), (2, WEST), (3, WEST))]
    assert {one["status"] for one in announce(sky.frames, said)} == {"noted"}
    with ThreadPoolExecutor(2) as pool:
        sides = [pool.submit(sky.send, *what) for what in ((range(1, 2), EAST), (range(2, 4), WEST))]
        assert [one.result() for one in sides] == [["done"], ["done"] * 2]
    until(lambda: len(sky.summaries("west")) == 2)
    until(lambda: len(sky.summaries("east")) == 1)
    sky.stop()
    assert (sky.summaries("east"), sky.summaries("west")) == ({1: (1, 0)}, {2: (1, 0), 3: (1, 0)})
    check(sky.folder / "east", frames(range(1, 2)))
    check(sky.folder / "west", frames(range(2, 4)))


def test_a_dead_associator_holds_up_only_its_own_frames_even_of_a_sender_that_mixes_them(sky):
    east, west = range(1, 41), range(101, 141)
    mixed = (
        a_frame_at(*one) for pair in zip(east, west, strict=True) for one in zip(pair, (EAST, WEST), strict=True)
    )
    with FrameClient(sky.frames, timeout_s=PATIENCE_S) as client:
        receipts = client.send_many(mixed)
        ends = [next(receipts)]
        sky.east.process.kill()
        sky.east.process.wait()
        while sum(receipt.visit in west for receipt in ends) < len(west):
            ends.append(next(receipts))
        assert sum(receipt.visit in east for receipt in ends) < len(east)
        sky.east.start()
        ends += receipts
    assert len(ends) == len(east) + len(west)
    assert {receipt.status for receipt in ends} <= {"done", "duplicate"}
    sky.stop()
    check(sky.folder / "east", frames(east))
    check(sky.folder / "west", frames(west))


@pytest.mark.soak
def test_an_associator_that_hangs_holds_up_only_its_own_frames(sky):
    with ThreadPoolExecutor(1) as pool:
        os.kill(sky.east.process.pid, signal.SIGSTOP)
        waiting = pool.submit(sky.send, range(1, 11), EAST)
        until(lambda: '"event": "accepted"' in (sky.folder / "differencer.log").read_text())
        try:
            assert sky.send(range(101, 161), WEST) == ["done"] * 60
            assert not waiting.done()
        finally:
            os.kill(sky.east.process.pid, signal.SIGCONT)
        assert set(waiting.result(PATIENCE_S)) <= {"done", "duplicate"}
    sky.stop()
    check(sky.folder / "east", frames(range(1, 11)))
    check(sky.folder / "west", frames(range(101, 161)))


@pytest.mark.soak
@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_lost_or_doubled_when_any_of_them_is_killed(sky, seed):
    rng, east, west = np.random.default_rng(seed), range(1, 301), range(1001, 1301)
    with ThreadPoolExecutor(2) as pool:
        sent = [pool.submit(sky.send, east, EAST), pool.submit(sky.send, west, WEST)]
        kills = 0
        while wait(sent, rng.uniform(0.0, 1.0)).not_done and kills < 25:
            [sky.east, sky.west, sky.differencer][rng.integers(3)].kill()
            kills += 1
        assert all(set(one.result(10 * PATIENCE_S)) <= {"done", "duplicate"} for one in sent)
    assert kills > 5
    sky.stop()
    check(sky.folder / "east", frames(east))
    check(sky.folder / "west", frames(west))
