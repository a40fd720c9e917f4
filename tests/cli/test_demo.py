import json
import os

import pytest

from gpudiff.__main__ import main

SMALL = ["--visits", "2", "--detectors", "2", "--size", "384", "--processes", "1", "--seed", "3"]
FEW = ["--transients", "5", "--variables", "1", "--vanished", "1", "--moving", "1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A whole demo: simulation, the service as it ships, frames over ZeroMQ, report."""
    folder = tmp_path_factory.mktemp("demo")
    assert main(["demo", "--output", str(folder), *SMALL, *FEW]) == 0
    return folder


@pytest.fixture(scope="module")
def figures(folder):
    return json.loads((folder / "demo.json").read_text())


def test_the_demo_finds_what_was_put_in(figures):
    assert figures["problems"] == []
    # About 30 changes to see: one in ten may fall to noise, an edge or a dead column.
    assert figures["found"] >= 0.8 * figures["detectable"] > 10


def test_the_demo_finds_little_else(figures):
    assert figures["false"] <= 2  # in 0.56 Mpx


def test_the_second_visit_joins_the_objects_of_the_first(figures):
    assert figures["association_right"] >= 5
    assert figures["association_wrong"] == 0
    assert figures["known"] >= figures["association_right"]


def test_every_alert_has_a_latency_from_the_last_pixel(figures):
    # A frame takes well under a second here; 20 s allows for a machine that others use too.
    assert 0 < figures["latency_s"]["median"] <= figures["latency_s"]["max"] < 20


def test_the_demo_leaves_a_report_and_no_service(folder):
    assert "<h1>gpudiff demo</h1>" in (folder / "report.html").read_text()
    mine = [pid for pid in os.listdir("/proc") if pid.isdigit() and str(folder).encode() in _command(pid)]
    assert mine == []


def _command(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    assert main(["demo", "--output", str(tmp_path), *SMALL]) == 3
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
