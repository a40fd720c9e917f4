"""The commit path under SIGKILL: a child is killed before or after every write, sync and statement, one by one.

After each kill the batch is sent again; ids in ledger, archive and sink then equal those of an undisturbed run.
"""

import json
import os
import signal
from collections.abc import Callable
from itertools import count
from pathlib import Path

import fastavro
import pytest
from batches import a_batch
from deadly import PLACES
from serving import until

from gpudiff.edges.detections import encode
from gpudiff.edges.ledger import Ledger
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.edges.sinks.memory import Memory
from gpudiff.model.config import Configuration
from gpudiff.services.associator import Associator, Message

NOW = 61030.0
FIRST = [a_batch(2), a_batch(1, detector=5)]
SECOND = [a_batch(3, visit=8), a_batch(2, detector=5, fingerprint="cd" * 16), a_batch(1, visit=8, detector=6)]
"""A group with a new visit, a new revision and objects that are known."""


def send(directory: Path, batches: list, sink: Memory | None = None) -> list[str]:
    """What is said to one group; with a sink, once it has everything."""
    associator = Associator(
        directory, Configuration(), clock=lambda: NOW, sinks=[sink] if sink else [], monotonic=lambda: 0.0
    )
    answers = associator.answers([Message(encode(batch)) for batch in batches])
    if sink:
        until(lambda: associator.tick() or not associator.ledger.pending())
    associator.close()
    return [answer.status for answer in answers]


def ids(directory: Path) -> tuple[list, list]:
    """(diaSourceId, revision) of every DIASource of the ledger, the withdrawn too, and of every alert archived."""
    reader = LedgerReader(directory / "ledger.sqlite")
    stored = sorted(reader._rows("SELECT diaSourceId, revision FROM dia_source"))
    reader.close()
    alerts = []
    for path in sorted((directory / "alerts").glob("*.avro")):
        with open(path, "rb") as file:
            alerts += [(one["diaSourceId"], one["provenance"]["revision"]) for one in fastavro.reader(file)]
    return stored, sorted(alerts)


def in_child(work: Callable[[], object]) -> bool:
    """Do something in a forked child; whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status == signal.SIGKILL


def deadly(number: int, after: bool) -> None:
    """Have this process killed at the `number`-th write from now on."""
    calls = count(1)

    def kill_at(place: object, name: str) -> None:
        step = getattr(place, name)

        def counted(*arguments):
            now = next(calls) == number
            if now and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            made = step(*arguments)
            if now:
                os.kill(os.getpid(), signal.SIGKILL)
            return made

        setattr(place, name, counted)

    for place, name in PLACES:
        kill_at(place, name)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The ids of a run that nobody kills, and how they come out of a sink."""
    directory, sink = tmp_path_factory.mktemp("calm"), Memory()
    send(directory, FIRST)
    send(directory, SECOND, sink)
    return ids(directory), sorted(sink.ids)


def killed_everywhere(directory: Path, undisturbed: tuple, after: bool, first: int, stride: int) -> int:
    """Kill a run at each `stride`-th write, from the `first` on, until one ends by itself; the last number."""
    number, killed = first, True
    while killed:
        here = directory / str(number)
        send(here, FIRST)
        killed = in_child(lambda: (deadly(number, after), send(here, SECOND)))  # noqa: B023
        sink = Memory()
        send(here, SECOND, sink)
        stored, archived = ids(here)
        assert (stored, archived) == undisturbed[0], number
        assert set(sink.ids) <= set(archived), number
        number += stride
    return number


@pytest.mark.parametrize(("after", "first"), [(False, 3), (True, 7)], ids=["before", "after"])
def test_a_kill_at_a_write_loses_nothing_and_doubles_nothing(tmp_path, undisturbed, after, first):
    assert killed_everywhere(tmp_path, undisturbed, after, first, 13) > 40


@pytest.mark.soak
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_write_loses_nothing_and_doubles_nothing(tmp_path, undisturbed, after):
    assert killed_everywhere(tmp_path, undisturbed, after, 1, 1) > 40


def test_a_kill_while_a_ledger_is_made_leaves_one_that_can_be_made(tmp_path):
    number, killed = 0, True
    while killed:
        number += 1
        path = tmp_path / f"{number}.sqlite"
        killed = in_child(lambda: (deadly(number, True), Ledger(path)))  # noqa: B023
        Ledger(path).close()
    assert number > 10  # so many statements a ledger is made with


def test_a_sink_gets_everything_at_least_once_over_a_kill(tmp_path, undisturbed):
    """Killed when the sink has the batch and its watermark is not written: the batch comes again."""
    send(tmp_path, FIRST)
    had = tmp_path / "had.json"
    assert in_child(lambda: send(tmp_path, SECOND, Last(had)))
    sink, before = Memory(), [tuple(pair) for pair in json.loads(had.read_text())]
    send(tmp_path, SECOND, sink)
    assert set(before) | set(sink.ids) == set(undisturbed[1])
    assert set(before) & set(sink.ids) >= {before[-1]}


class Last(Memory):
    """A sink that kills its process when it has got the third batch, and leaves in a file what it had."""

    def __init__(self, file: Path):
        super().__init__()
        self.file = file

    def publish(self, batch):
        made = super().publish(batch)
        if len(self.batches) == 3:
            self.file.write_text(json.dumps(self.ids))
            os.kill(os.getpid(), signal.SIGKILL)
        return made
