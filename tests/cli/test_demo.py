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


def test_a_filter_reaches_its_quota_and_the_others_get_all(figures):
    filters = figures["filters"]
    assert set(filters) == {"new-and-bright", "movers", "sure-variables", "fading"}
    first = filters.pop("new-and-bright")
    assert first["over_quota"] > 0
    assert first["sent"] == first["matches"] - first["over_quota"]
    assert all(one["sent"] == one["matches"] for one in filters.values())
    assert sum(one["matches"] for one in filters.values()) > 5


def test_replayed_alerts_pass_the_filters_as_they_did_that_night(figures):
    assert all(one["passed"] == one["sent"] for one in figures["filters"].values())


def test_an_alert_is_verified_from_its_frame_to_a_filter(figures):
    found = figures["verified"]
    steps = [one["step"] for one in found["steps"]]
    assert steps[0] == "calibrate"
    assert steps[-1].startswith("filter ")
    assert found["wrong"] == []
    assert found["compared"] == ["configuration", "template"]
    assert found["steps"][-1]["fingerprint"] == found["fingerprint"]


def test_the_night_is_replayed_id_for_id(figures):
    replayed = figures["replayed"]
    assert replayed["delivered"] == replayed["archived"] == figures["alerts"]
    assert (replayed["missing"], replayed["unexpected"]) == (0, 0)


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
