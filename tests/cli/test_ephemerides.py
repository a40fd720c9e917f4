"""gpudiff ephemerides: build a night's, look into it."""

from gpudiff.__main__ import main


def test_the_sample_is_built_and_looked_up(tmp_path, capsys):
    path = str(tmp_path / "tonight.sky")
    site = ["--site", "-70.749", "-30.245", "2663"]
    assert main(["ephemerides", "build", "sample", "--night", "61001.2", *site, "--output", path]) == 0
    assert main(["ephemerides", "at", path, "--mjd", "61001.25", "--ra", "6.8", "--dec", "-10.1"]) == 0
    said = capsys.readouterr().out
    assert "12 objects" in said
    assert "(1) Ceres" in said


def test_a_night_of_no_length_is_refused(tmp_path, capsys):
    command = ["ephemerides", "build", "sample", "--night", "61001", "--hours", "0", "-o", str(tmp_path / "a.sky")]
    assert main(command) == 3
    assert "hours" in capsys.readouterr().err


def test_a_site_on_no_planet_is_refused(tmp_path, capsys):
    site = ["--site", "-30.245", "289.25", "2663"]
    command = ["ephemerides", "build", "sample", "--night", "61001", *site, "-o", str(tmp_path / "a.sky")]
    assert main(command) == 3
    assert "latitude" in capsys.readouterr().err


def test_a_time_outside_the_night_is_refused(tmp_path, capsys):
    path = str(tmp_path / "tonight.sky")
    assert main(["ephemerides", "build", "sample", "--night", "61001.2", "--output", path]) == 0
    assert main(["ephemerides", "at", path, "--mjd", "61001.6", "--ra", "6.8", "--dec", "-10.1"]) == 3
    assert "within 7 h of MJD 61001.2" in capsys.readouterr().err
