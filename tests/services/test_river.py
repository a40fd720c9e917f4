"""Real frames down the river: `gpudiff run`, its ledger and its archive, against `gpudiff subtract`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table as File

from gpudiff.__main__ import main
from gpudiff.edges import archive
from gpudiff.edges.client import FrameClient
from gpudiff.edges.control import Receipt
from gpudiff.edges.fits import read_frame
from gpudiff.edges.ledger_reader import LedgerReader
from gpudiff.model.tables import DIASOURCE, Table
from gpudiff.services.child import Child

pytestmark = pytest.mark.real_data

TIMEOUT_S = 60.0
SCIENCE = [f"input_data__DEC-OBS04{letter}.mini.fits" for letter in "abcde"]
TEMPLATE = "input_data__DEC-OBS18a.mini.fits"
VARIABLE = 129, 128
"""x, y of the DECam variable."""


@dataclass(frozen=True)
class River:
    """What a night of five visits left behind, after every frame was sent twice."""

    frames: Path
    folder: Path
    sources: Table
    first: list[Receipt]
    again: list[Receipt]
    before: dict[str, bytes]
    """The archive's files between the two rounds."""

    def archive(self) -> dict[str, bytes]:
        """File name -> content."""
        return files(self.folder)

    def alerts(self) -> list[int]:
        """The diaSourceId of every alert in the archive."""
        return [alert["diaSourceId"] for name in self.archive() for alert in archive.read(self.folder / name)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.avro"))}


@pytest.fixture(scope="module")
def river(real_data, tmp_path_factory) -> Iterator[River]:
    pair, folder = real_data / "decam_pair", tmp_path_factory.mktemp("river")
    (folder / "templates").mkdir()
    (folder / "templates" / TEMPLATE).symlink_to(pair / TEMPLATE)
    frames = [read_frame(pair / name, visit=visit) for visit, name in enumerate(SCIENCE, 1)]
    words = ["run", "--directory", str(folder / "night"), "--templates", str(folder / "templates")]
    running = Child([*words, "--frames", "tcp://127.0.0.1:0"], folder / "log", "ready: ", TIMEOUT_S)
    try:
        with FrameClient(running.ready.split()[2], timeout_s=TIMEOUT_S) as client:
            first = list(client.send_many(frames))
            before = files(folder / "night" / "alerts")
            again = list(client.send_many(frames))
    finally:
        assert running.stop() == 0
    ledger = LedgerReader(folder / "night" / "ledger.sqlite")
    yield River(pair, folder / "night" / "alerts", ledger.sources(), first, again, before)
    ledger.close()


def test_every_frame_is_done(river):
    assert sorted((receipt.visit, receipt.status) for receipt in river.first) == [(v, "done") for v in range(1, 6)]


@pytest.mark.parametrize("visit", range(1, 6))
def test_the_ledger_holds_what_subtract_finds(river, tmp_path, visit):
    science, template = river.frames / SCIENCE[visit - 1], river.frames / TEMPLATE
    words = ["--sources", str(tmp_path / "sources.fits"), "--visit", str(visit)]
    assert main(["subtract", str(science), str(template), *words]) == 0
    expected = File.read(tmp_path / "sources.fits")
    stored = river.sources.take(river.sources["visit"] == visit)
    assert len(expected) > 0
    for column in DIASOURCE:
        np.testing.assert_array_equal(stored[column.name], expected[column.name], err_msg=column.name)


def test_there_is_one_alert_for_each_source(river):
    assert sorted(river.alerts()) == river.sources["diaSourceId"].tolist()


def test_frames_sent_again_are_duplicates_and_change_nothing(river):
    assert {receipt.status for receipt in river.again} == {"duplicate"}
    assert river.archive() == river.before


def test_the_variable_is_one_object_in_all_visits(river):
    x, y = VARIABLE
    found = river.sources.take(np.hypot(river.sources["x"] - x, river.sources["y"] - y) < 2)
    assert found["visit"].tolist() == [1, 2, 3, 4, 5]
    assert len(set(found["diaObjectId"].tolist())) == 1
