"""A running associator killed within its transaction, statement by statement: nothing is lost or doubled."""

import signal
from pathlib import Path

import pytest
from killing import Service, filmed
from serving import until

AGAIN = 3
"""How often it dies in one run, each time somewhere else."""


def die_within(directory: Path, places: list[tuple[int, str]]) -> None:
    """Have the associator killed at each of these writes within its transactions, then check."""
    service = Service(directory)
    words = service.associator.command
    with filmed(service) as camera:
        camera.wait_for(1, 0.0)
        for number, when in places:
            service.associator.command = ["-m", "deadly", str(number), when, *words[2:]]
            service.associator.kill()
            until(lambda: service.associator.process.poll() is not None)
            assert service.associator.process.returncode == -signal.SIGKILL
        service.associator.command = words
        service.associator.start()


def test_an_associator_killed_within_a_transaction_loses_and_doubles_nothing(tmp_path):
    die_within(tmp_path / "night", [(9, "before"), (40, "after")])


@pytest.mark.soak
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("first", range(1, 40, AGAIN))
def test_an_associator_killed_at_any_write_loses_and_doubles_nothing(tmp_path, first, when):
    die_within(tmp_path / "night", [(first + n, when) for n in range(AGAIN)])
