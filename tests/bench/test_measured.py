"""The README's tables say what the records say."""

import pytest


@pytest.fixture
def measured(bench):
    return bench("_measured")


def test_a_figure_that_is_not_there_leaves_its_cell_empty(measured):
    assert [measured.number(value, ".1f", " s") for value in (None, float("nan"), 1.25)] == ["", "", "1.2 s"]


def test_a_record_on_a_busy_machine_says_so(measured):
    record = {"date": "2026-11-24T10:00:00+00:00", "device": "two cores", "load_average": 5.0}
    assert measured.where(record) == "2026-11-24, two cores, shared (load 5.0)"


def test_a_goal_that_was_missed_stands_in_the_table(measured):
    row = {"name": "wall, s", "wanted": "1.5 at most", "median": 2.0, "perfect": None, "verdict": "FAIL"}
    record = {"date": "2026-11-24", "device": "", "load_average": 0.1, "seeds": "1,2", "tables": {"2048": [row]}}
    assert "| wall, s | 1.5 at most | 2, FAIL |" in measured.standard(record)


def test_without_peers_there_is_no_table_of_them(bench, monkeypatch, tmp_path, measured):
    monkeypatch.setenv("GPUDIFF_PEERS_PYTHON", str(tmp_path / "none"))
    assert bench("_peers").available() == {}
    assert measured.beside({"peers": {}}) == ""
