"""gpudiff inspect: lists, prints and draws alerts."""

from pathlib import Path

import fastavro
import numpy as np
import pytest
from astropy.io import fits
from batches import a_batch, taken
from lsst.alert.packet import get_schema_path

from gpudiff.__main__ import main
from gpudiff.cli.inspect import listing
from gpudiff.edges.picture_alert import draw
from gpudiff.model.tables import flag


@pytest.fixture
def alerts(tmp_path) -> Path:
    """An archive file of a second visit: two known sources, one of them flagged, and a new one."""
    return taken(tmp_path, a_batch(2), a_batch(3, visit=8, flags=[0, flag("SATURATED", "EDGE"), 0])) / "8.avro"


def said(capsys, *arguments) -> list[str]:
    assert main(["inspect", *map(str, arguments)]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_file_is_listed_one_line_an_alert(alerts, capsys):
    heading, *rows = said(capsys, alerts)
    assert heading.split()[:3] == ["index", "diaSourceId", "object"]
    assert [row.split()[3] for row in rows] == ["known", "known", "new"]
    assert rows[1].endswith("EDGE SATURATED")
    assert rows[0].split()[1] == str(8 << 24 | 4 << 16)


def test_what_moves_is_listed_as_moving():
    alert = {"diaSourceId": 7, "diaSource": {"flags": 0}, "association": {"known": False, "kind": "moving"}}
    assert list(listing([alert]))[1].split() == ["0", "7", "moving"]


@pytest.mark.parametrize("which", [("--index", 1), ("--id", (8 << 24 | 4 << 16) + 1)])
def test_one_alert_is_printed_field_by_field(alerts, capsys, which):
    lines = said(capsys, alerts, *which)
    told = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    assert told["diaSourceId"] == str((8 << 24 | 4 << 16) + 1)
    assert told["psfFlux"] == "1001"
    assert told["flags"] == "5 (EDGE SATURATED)"
    assert told["cutoutScience"].startswith("51 x 51 px")
    assert "prvDiaSources: 1" in lines
    assert "reliability" not in told


def test_cutouts_are_drawn(alerts, capsys, tmp_path):
    picture = tmp_path / "alert.png"
    said(capsys, alerts, "--png", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["alert.txt", "alert"])
def test_a_picture_of_a_kind_that_nobody_draws_is_refused(alerts, capsys, name):
    assert main(["inspect", str(alerts), "--png", name]) == 3
    assert "ends in .png, .pdf, .svg" in capsys.readouterr().err


def test_an_alert_of_an_archive_is_printed_with_its_steps(alerts, capsys):
    lines = said(capsys, alerts.parents[1], "--id", (8 << 24 | 4 << 16) + 1)
    assert f"diaSourceId                {(8 << 24 | 4 << 16) + 1}" in lines
    assert [line.split()[1] for line in lines if line.startswith("step ")] == ["calibrate", "associate", "encode"]


def test_a_folder_wants_an_id(alerts, capsys):
    assert main(["inspect", str(alerts.parent)]) == 3
    assert "--id" in capsys.readouterr().err


def test_an_alert_without_usable_pixels_is_drawn(tmp_path):
    hdu = fits.PrimaryHDU(np.full((5, 5), np.nan, np.float32))
    hdu.writeto(tmp_path / "nan.fits")
    draw({"cutoutScience": (tmp_path / "nan.fits").read_bytes()}, "empty", tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


@pytest.mark.parametrize("which", [("--index", 3), ("--id", 5)])
def test_an_alert_that_is_not_there_is_refused(alerts, capsys, which):
    assert main(["inspect", str(alerts), *map(str, which)]) == 3
    assert "none among 3" in capsys.readouterr().err


def test_an_empty_file_has_no_alerts(tmp_path, capsys):
    path = tmp_path / "none.avro"
    with path.open("wb") as file:
        fastavro.writer(file, "string", [])
    assert said(capsys, path) == ["no alerts"]


@pytest.mark.parametrize("content", [b"", b"text, not Avro"])
def test_a_file_of_another_kind_is_refused(tmp_path, capsys, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    assert main(["inspect", str(path)]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_an_absent_file_is_refused(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "absent")]) == 3
    assert "UnreadableFile" in capsys.readouterr().err


def test_a_real_rubin_packet_is_read_with_its_schema(real_data, capsys, tmp_path):
    packet = real_data / "alerts" / "rubin_v9_0_confluent.avro"
    schema = Path(get_schema_path(9, 0)) / "lsst.v9_0.alert.avsc"
    lines = said(capsys, packet, "--schema", schema, "--png", tmp_path / "rubin.png")
    told = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    assert (told["diaSourceId"], told["visit"]) == ("7912941781254298", "943296")
    assert told["cutoutDifference"].startswith("30 x 30 px")
    assert (tmp_path / "rubin.png").is_file()


def test_a_framed_packet_without_its_schema_is_refused_by_name(real_data, capsys):
    assert main(["inspect", str(real_data / "alerts" / "rubin_v9_0_confluent.avro")]) == 3
    error = capsys.readouterr().err
    assert "schema 900" in error
    assert "--schema" in error


def test_a_packet_is_refused_when_the_schema_does_not_fit(real_data, capsys):
    packet = real_data / "alerts" / "rubin_v9_0_confluent.avro"
    schema = Path(get_schema_path(9, 0)) / "lsst.v9_0.diaObject.avsc"
    assert main(["inspect", str(packet), "--schema", str(packet)]) == 3
    assert main(["inspect", str(packet), "--schema", str(schema) + ".not"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 2
