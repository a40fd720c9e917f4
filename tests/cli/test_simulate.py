import pytest

from gpudiff.__main__ import main

SMALL = ["--visits", "1", "--detectors", "1", "--size", "128", "--epochs", "1", "--processes", "1"]


def test_simulate_says_what_it_made(tmp_path, capsys):
    assert main(["simulate", "--output", str(tmp_path / "night"), *SMALL]) == 0
    assert "1 frames, 1 templates" in capsys.readouterr().out
    assert (tmp_path / "night" / "frames" / "20261122001_0.fits").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--visits", "0"], "visits: expected 1 to 999, got 0"),
        (["--detectors", "-3"], "detectors: expected 1 to 256, got -3"),
        (["--size", "10"], "size: expected 128 to 16384 px, got 10"),
        (["--stars", "-1"], "stars: expected"),
        (["--focal-plane", "absent.csv"], "absent.csv: expected a CSV file of sensors"),
    ],
)
def test_a_bad_option_ends_in_one_line(tmp_path, capsys, options, message):
    assert main(["simulate", "--output", str(tmp_path / "night"), *SMALL, *options]) == 3
    error = capsys.readouterr().err.strip()
    assert message in error
    assert len(error.splitlines()) == 1


def test_an_earlier_simulation_is_replaced_only_by_force(tmp_path, capsys):
    again = ["simulate", "--output", str(tmp_path), *SMALL]
    assert main(again) == 0
    assert main(again) == 3
    assert "--force replaces them" in capsys.readouterr().err
    assert main([*again, "--force"]) == 0


def test_a_scene_is_one_pair_with_its_truth(tmp_path, capsys):
    again = ["simulate", "--scene", "streak", "--output", str(tmp_path), "--size", "128"]
    assert main(again) == 0
    assert "two satellite streaks" in capsys.readouterr().out
    names = {"science.fits", "template.fits", "perfect.fits", "truth.ecsv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert main(again) == 3
    assert "--force replaces it" in capsys.readouterr().err


def test_a_scene_has_one_detector(tmp_path, capsys):
    assert main(["simulate", "--scene", "streak", "--output", str(tmp_path), "--detectors", "4"]) == 3
    assert "detectors: expected none with --scene" in capsys.readouterr().err
