"""Programs killed at random moments: ids in ledger and archive are those of an undisturbed run."""

import socket
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from killing import survive


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_programs_are_killed(tmp_path):
    camera = survive(tmp_path / "night", free_port(), seed=1, kills=6)
    assert set(camera.ends) <= {"done", "duplicate"}


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 14))
def test_nothing_is_lost_or_doubled_in_two_hundred_kills(tmp_path, seed):
    camera = survive(tmp_path / "night", free_port(), seed, kills=50)
    assert set(camera.ends) <= {"done", "duplicate"}
