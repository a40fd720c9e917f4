"""gpudiff filter."""

import fastavro
import pytest
from outgoing import an_outgoing

from gpudiff.__main__ import main
from gpudiff.edges import archive

FILE = '[[filter]]\nname = "bright"\nowner = "me"\nwhere = "snr > 15"\nsink = "zmq+tcp://127.0.0.1:1"\n'


@pytest.fixture
def recorded(tmp_path):
    """A folder with the alerts of one visit, snr 10, 20, 12, 30."""
    batch = an_outgoing(4, snr=[10, 20, 12, 30])
    (tmp_path / "alerts").mkdir()
    archive.append(tmp_path / "alerts" / "7.avro", 0, batch.schema, batch.alerts)
    (tmp_path / "filters.toml").write_text(FILE)
    return tmp_path


def test_a_filter_that_matches_too_much_is_refused(recorded, capsys):
    status = main(["filter", "check", str(recorded / "filters.toml"), "--archive", str(recorded)])
    said = capsys.readouterr()
    assert status == 3
    assert "2 of 4 alerts, 50.0% (limit 5%)" in said.out
    assert "matches more of the recorded alerts than it may: bright" in said.err


def test_a_filter_within_its_rate_passes(recorded):
    (recorded / "filters.toml").write_text(FILE + "largest_match_rate = 0.5\n")
    assert main(["filter", "check", str(recorded / "filters.toml"), "--archive", str(recorded)]) == 0


def test_a_test_shows_what_would_have_matched(recorded, capsys):
    picture = recorded / "sheet.png"
    words = ["filter", "test", 'snr > 15 and kind == "new"', "--archive", str(recorded), "--png", str(picture)]
    assert main(words) == 0
    assert "2 of 4 alerts match, 50.0%" in capsys.readouterr().out
    assert picture.stat().st_size > 1000


def test_a_test_without_matches_draws_an_empty_sheet(recorded, capsys):
    picture = recorded / "sheet.png"
    assert (
        main(["filter", "test", 'snr > 99 and band == "$x_$"', "--archive", str(recorded), "--png", str(picture)])
        == 0
    )
    assert "0 of 4" in capsys.readouterr().out


def test_a_folder_without_alerts_is_refused(tmp_path, capsys):
    assert main(["filter", "test", 'snr > 99 and band == "$x_$"', "--archive", str(tmp_path)]) == 3
    assert "expected a folder of alert files" in capsys.readouterr().err


def test_files_without_an_alert_are_refused(tmp_path, capsys):
    with (tmp_path / "7.avro").open("wb") as file:
        fastavro.writer(file, "string", [])
    assert main(["filter", "test", "snr > 1", "--archive", str(tmp_path)]) == 3
    assert "found no alert" in capsys.readouterr().err


def test_a_picture_of_a_kind_that_nobody_draws_is_refused(recorded, capsys):
    assert main(["filter", "test", "snr > 1", "--archive", str(recorded), "--png", "sheet.txt"]) == 3
    assert "ends in .png, .pdf, .svg" in capsys.readouterr().err


def test_the_columns_are_listed(capsys):
    assert main(["filter", "list"]) == 0
    assert "reliability" in capsys.readouterr().out


def test_the_filters_of_a_file_are_listed(recorded, capsys):
    assert main(["filter", "list", str(recorded / "filters.toml")]) == 0
    assert "snr > 15" in capsys.readouterr().out
