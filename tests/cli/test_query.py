"""gpudiff query and gpudiff archive: what is printed, written and refused."""

from pathlib import Path

import fastavro
import pytest
from batches import a_batch, taken

from gpudiff.__main__ import main
from gpudiff.cli.query import print_table

FIRST = 7 << 24 | 4 << 16


@pytest.fixture
def archive(tmp_path) -> Path:
    taken(tmp_path, a_batch(3), a_batch(2, visit=8))
    return tmp_path


def said(capsys, *arguments, status=0) -> list[str]:
    assert main(list(map(str, arguments))) == status
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("conditions", "count"),
    [
        ((), 5),
        (("--id", FIRST), 1),
        (("--object", FIRST), 2),
        (("--visit", 7), 3),
        (("--from", 61007.5), 2),
        (("--to", 61007.5), 3),
        (("--cone", 150.0, -30.0, 1), 2),
        (("--cone", 150.0, -30.0, 1, "--visit", 8), 1),
        (("--id", 5), 0),
    ],
)
def test_every_condition_picks_its_alerts(archive, capsys, conditions, count):
    heading, *rows, last = said(capsys, "query", archive, *conditions)
    assert heading.split()[:3] == ["diaSourceId", "revision", "diaObjectId"]
    assert len(rows) == count
    assert last == f"{count} alerts"


@pytest.mark.parametrize(("beside", "left"), [(True, [1, 1]), (False, [1, 1, 0, 0])])
def test_what_a_later_revision_withdrew_is_left_out(archive, capsys, beside, left):
    taken(archive, a_batch(2, fingerprint="cd" * 16), a_batch(0, visit=8, fingerprint="cd" * 16))
    if not beside:
        (archive / "ledger.sqlite").unlink()
    assert said(capsys, "query", archive)[-1] == "7 alerts"
    _, *rows, _ = said(capsys, "query", archive, "--latest")
    assert [int(row.split()[1]) for row in rows] == left  # only the ledger has the revision without alerts


def test_what_the_associator_committed_is_in_the_index(archive, capsys):
    main(["query", str(archive)])
    assert "not in the index" not in capsys.readouterr().err


def test_alerts_are_written(archive, capsys, tmp_path):
    said(capsys, "query", archive, "--visit", 8, "--output", tmp_path / "out.avro")
    with open(tmp_path / "out.avro", "rb") as file:
        assert [one["diaSource"]["visit"] for one in fastavro.reader(file)] == [8, 8]


def test_the_archive_s_own_files_are_never_replaced(archive, capsys):
    assert main(["query", str(archive), "--output", str(archive / "alerts" / "7.avro")]) == 3
    assert "expected a file outside the archive" in capsys.readouterr().err
    assert said(capsys, "query", archive)[-1] == "5 alerts"


def test_a_damaged_block_is_named(archive, capsys):
    said(capsys, "archive", "index", archive)
    assert said(capsys, "query", archive, "--check") == ["2 sealed blocks, 0 damaged"]
    path = archive / "alerts" / "7.avro"
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    damage, last = said(capsys, "query", archive, "--check", status=3)
    assert damage.startswith("7.avro: block of 3 alerts at bytes")
    assert last == "2 sealed blocks, 1 damaged"


def test_an_index_is_made_again(archive, capsys):
    before = said(capsys, "query", archive)
    assert said(capsys, "archive", "index", archive, "--anew") == ["5 alerts in the index, 2 nights"]
    assert said(capsys, "query", archive) == before


def test_a_night_is_exported_asked_and_deleted(archive, capsys):
    said(capsys, "archive", "index", archive)
    said(capsys, "archive", "export", archive)
    assert said(capsys, "query", archive, "--sql", "SELECT count(*) AS n FROM sources")[1].split() == ["5"]
    would = said(capsys, "archive", "delete", archive, "--days", 1, "--dry-run")
    assert would == ["7.avro: would be deleted", "8.avro: would be deleted", "2 files would be deleted"]
    assert said(capsys, "archive", "delete", archive, "--days", 1)[-1] == "2 files deleted"
    assert said(capsys, "query", archive)[-1] == "0 alerts"


def test_texts_are_printed_as_they_are(capsys):
    print_table(["where"], [("a[red].avro",)])
    assert "a[red].avro" in capsys.readouterr().out


def test_a_folder_that_is_not_there_is_refused(tmp_path, capsys):
    assert main(["query", str(tmp_path / "absent")]) == 3
    assert "expected the folder of an alert archive" in capsys.readouterr().err


def test_a_folder_that_is_no_archive_is_refused_one_whose_alerts_are_still_to_come_is_not(tmp_path, capsys):
    (tmp_path / "elsewhere" / "alerts").mkdir(parents=True)
    assert main(["query", str(tmp_path)]) == 3
    assert "expected the folder of an alert archive" in capsys.readouterr().err
    for archive in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "alerts"):
        assert said(capsys, "query", archive)[-1] == "0 alerts"


@pytest.mark.parametrize("command", [("query", "night"), ("filter", "test", "snr > 5", "--archive", "night")])
def test_a_number_of_lines_below_0_is_refused(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--limit" if command[0] == "query" else "--most", "-1"])
    assert "invalid natural value: '-1'" in capsys.readouterr().err
