"""Several senders, two differencers, one associator: each frame is committed once."""

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import TIMEOUT_S, Served, a_frame, serving, until

from gpudiff.edges.client import FrameClient
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.config import Configuration
from gpudiff.services.associator_loop import serve


class RealAssociator:
    """gpudiff's own, in a thread."""

    def __init__(self, directory):
        self.endpoint = ""
        self._stop = threading.Event()
        arguments = (directory, "tcp://127.0.0.1:0", Configuration(), self._ready, self._stop.is_set)
        self._thread = threading.Thread(target=serve, args=arguments, daemon=True)
        self._thread.start()
        until(lambda: self.endpoint)

    def _ready(self, endpoint: str) -> None:
        self.endpoint = endpoint

    def close(self) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT_S)


@pytest.fixture
def differencers(tmp_path) -> Iterator[tuple[Served, Served]]:
    """Two, with one associator in tmp_path/night."""
    associator = RealAssociator(tmp_path / "night")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with serving(tmp_path / "one", associator) as one, serving(tmp_path / "two", associator) as two:
        yield one, two
    associator.close()


def send(endpoint: str, visits) -> list[str]:
    """The statuses that a sender of its own gets."""
    with FrameClient(endpoint, timeout_s=TIMEOUT_S) as client:
        return [receipt.status for receipt in client.send_many(a_frame(visit) for visit in visits)]


def committed(tmp_path) -> list[int]:
    """The diaSourceId of every row of the ledger."""
    reader = LedgerReader(tmp_path / "night" / "ledger.sqlite")
    ids = reader.sources()["diaSourceId"].tolist()
    reader.close()
    return ids


def test_senders_share_differencers_and_differencers_an_associator(differencers, tmp_path):
    ends = [served.endpoint for served in differencers]
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(send, ends[n % 2], range(10 * n, 10 * n + 5)) for n in range(4)]
        assert [one.result() for one in work] == [["done"] * 5] * 4
    ids = committed(tmp_path)
    assert len(ids) == len(set(ids)) == 40


def test_the_same_frames_sent_to_both_are_committed_once(differencers, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        work = [pool.submit(send, served.endpoint, range(1, 7)) for served in differencers]
        statuses = sorted(status for one in work for status in one.result())
    assert statuses == ["done"] * 6 + ["duplicate"] * 6
    ids = committed(tmp_path)
    assert len(ids) == len(set(ids)) == 12


def test_when_nothing_comes_the_ledgers_file_gets_what_its_wal_holds(differencers, tmp_path):
    assert send(differencers[0].endpoint, [1, 2]) == ["done"] * 2
    until(lambda: alone(tmp_path) == 4)


def alone(tmp_path) -> int:
    """How many DIASources the ledger's file has without its WAL."""
    shutil.copyfile(tmp_path / "night" / "ledger.sqlite", tmp_path / "alone.sqlite")
    try:
        return sqlite3.connect(tmp_path / "alone.sqlite").execute("SELECT count(*) FROM dia_source").fetchone()[0]
    except sqlite3.Error:  # no table yet, or half of a page
        return 0
