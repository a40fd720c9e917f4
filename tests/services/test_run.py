"""gpudiff.services.run: the two programs of `gpudiff run`, started, watched and stopped."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from serving import TIMEOUT_S, a_frame, until

from gpudiff.edges import control, wire
from gpudiff.edges.client import FrameClient
from gpudiff.edges.fits import write_frame
from gpudiff.edges.transport import Dealer
from gpudiff.model.errors import BadConfiguration, GpudiffError, InputRejected, MustStop, NeighbourLost
from gpudiff.services import run
from gpudiff.services.run import DEATHS, Options, Program, Supervisor, differencer_command


def program(code: str) -> Program:
    """A child that runs a line of Python."""
    return Program("child", "frames", "tcp://127.0.0.1:*", lambda endpoint: [sys.executable, "-c", code])


def test_a_child_is_ready_when_it_says_so_and_its_endpoint_is_known():
    child = program("print('ready: frames tcp://127.0.0.1:7', flush=True); input()")
    child.start()
    assert child.endpoint == "tcp://127.0.0.1:7"
    assert child.end(TIMEOUT_S) == 1  # its standard input is empty


@pytest.mark.parametrize(
    ("status", "error"), [(2, BadConfiguration), (3, InputRejected), (4, MustStop), (1, NeighbourLost)]
)
def test_a_child_that_cannot_start_gives_the_error_of_its_exit_status(status, error):
    with pytest.raises(GpudiffError, match=f"exit status {status}") as raised:
        program(f"raise SystemExit({status})").start()
    assert type(raised.value) is error


def test_a_child_that_says_something_else_is_quoted():
    with pytest.raises(NeighbourLost, match=r'expected `ready: frames ENDPOINT`, it said "hello there", exit'):
        program("print('hello there', flush=True)").start()


def test_a_child_that_ends_without_a_word_is_said_to_have_ended():
    with pytest.raises(NeighbourLost, match="it ended first, exit status 0"):
        program("").start()


def test_a_child_that_lives_and_says_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(run, "START_S", 0.2)
    with pytest.raises(NeighbourLost, match="it said nothing for 0 s, exit status -9"):
        program("import time; time.sleep(60)").start()


def test_a_child_may_die_now_and_then_but_not_again_and_again():
    child = program("")
    assert [child.may_start_again() for _ in range(DEATHS)] == [True] * (DEATHS - 1) + [False]


def test_deaths_long_ago_are_forgotten():
    child = program("")
    child.deaths = [-1e6] * DEATHS
    assert child.may_start_again()


KILLED = "import os; os.kill(os.getpid(), 9)"
READY = "print('ready: frames tcp://127.0.0.1:7', flush=True)"


def revived(tmp_path, *codes: str) -> Program:
    """A child that its supervisor started again after its death; each start runs the next line of Python."""
    supervisor = Supervisor(Options(tmp_path, tmp_path, "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"))
    lines = iter([READY, *codes])
    child = Program("child", "frames", "", lambda endpoint: [sys.executable, "-c", next(lines)])
    child.start()
    supervisor._revive(child)
    return child


def test_a_child_that_is_killed_while_it_starts_again_is_started_once_more(tmp_path):
    assert revived(tmp_path, KILLED, KILLED, READY).end(TIMEOUT_S) == 0


def test_a_child_that_is_killed_at_each_start_is_given_up(tmp_path):
    with pytest.raises(NeighbourLost, match="exit status -9"):
        revived(tmp_path, *[KILLED] * DEATHS)


def test_a_child_that_ends_by_itself_before_it_is_ready_is_given_up(tmp_path):
    with pytest.raises(NeighbourLost, match="it ended first, exit status 1"):
        revived(tmp_path, "raise SystemExit(1)", READY)


def test_options_reach_the_differencer(tmp_path):
    options = Options(tmp_path, tmp_path / "t", "tcp://a", "tcp://b", workers=3, metrics=9000)
    words = differencer_command(options, "tcp://127.0.0.1:5", "tcp://127.0.0.1:6")
    assert words[1:4] == ["-m", "gpudiff", "differencer"]
    assert " ".join(words[8:]) == (
        "--frames tcp://127.0.0.1:5 --detections tcp://127.0.0.1:6 --workers 3 --metrics 9000"
    )


def test_two_supervisors_of_one_directory_are_refused(tmp_path):
    options = Options(tmp_path, tmp_path, "tcp://127.0.0.1:*", "tcp://127.0.0.1:*")
    first = Supervisor(options)
    with pytest.raises(BadConfiguration, match="no other"):
        Supervisor(options)
    del first


class Running:
    """`gpudiff run` as a process of its own, with one template and one worker."""

    def __init__(self, directory: Path):
        self.directory = directory / "night"
        templates = directory / "templates"
        templates.mkdir()
        write_frame(templates / "template.fits", a_frame(visit=0))
        command = [sys.executable, "-m", "gpudiff", "run", "--directory", str(self.directory), "--workers", "1"]
        command += ["--templates", str(templates), "--frames", "tcp://127.0.0.1:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.ready = self.process.stdout.readline().split()
        self.endpoint = self.ready[2]

    def children(self) -> list[int]:
        """Process ids of the differencer and the associator."""
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in path.read_text().split()]

    def status(self) -> dict:
        """What status.json says."""
        return json.loads((self.directory / "status.json").read_text())


@pytest.fixture
def running(tmp_path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.process.kill()
    running.process.communicate(timeout=TIMEOUT_S)


def gone(pids: list[int]) -> bool:
    """Whether all of the processes have ended (a zombie has: it only waits to be counted)."""
    return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_run_says_where_it_takes_frames_answers_and_stops_cleanly(running):
    assert running.ready[:2] == ["ready:", "frames"]
    assert running.ready[3:] == ["directory", str(running.directory)]
    with FrameClient(running.endpoint, timeout_s=TIMEOUT_S) as client:
        assert client.send(a_frame(1)).status == "rejected"  # too small to subtract
    children = running.children()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(TIMEOUT_S) == 0
    assert gone(children)
    assert running.status()["state"] == "stopped"


def test_children_that_are_killed_are_started_again_at_the_same_endpoint(running):
    before = running.children()
    with FrameClient(running.endpoint, timeout_s=TIMEOUT_S) as client:
        client.send(a_frame(1))
        workers = running.status()["workers"]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        assert client.send(a_frame(2)).status == "rejected"  # too small to subtract
    until(lambda: len(running.children()) == 2)
    assert not set(before) & set(running.children())
    until(lambda: gone(workers))


def test_children_end_when_run_is_killed(running):
    children = running.children()
    running.process.kill()
    running.process.wait(TIMEOUT_S)
    until(lambda: gone(children))


def test_a_run_that_is_killed_leaves_nobody_at_work_in_the_way_of_the_next(running):
    children, (worker,) = running.children(), running.status()["workers"]
    os.kill(worker, signal.SIGSTOP)  # the frame is never finished
    try:
        with closing(Dealer(running.endpoint)) as dealer:
            dealer.send(wire.encode(a_frame(1)))
            assert control.decode(dealer.receive(TIMEOUT_S))["status"] == "accepted"
        running.process.kill()
        running.process.wait(TIMEOUT_S)
        until(lambda: gone(children))
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_template_folder_that_is_absent_is_refused_with_status_3(tmp_path):
    command = [sys.executable, "-m", "gpudiff", "run", "--directory", str(tmp_path), "--templates", "nowhere"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert done.returncode == 3
    assert "NoTemplate" in done.stderr
