"""Input that cannot be subtracted: exit status 3 and one line of what was expected and what came."""

import subprocess
import sys

import numpy as np
import pytest
from small_pair import HEADER, SIZE, WCS, images, render, save

from gpudiff.__main__ import main

SCIENCE, TEMPLATE = images()
SHAPE = (SIZE, SIZE)


def refused(capsys, science, template, *options) -> str:
    """The one line on standard error."""
    assert main(["subtract", str(science), str(template), *map(str, options)]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert "expected" in err
    return err


@pytest.fixture
def good(tmp_path):
    return save(tmp_path / "good.fits", TEMPLATE)


def half_nan() -> np.ndarray:
    image = SCIENCE.copy()
    image[: SIZE // 2] = np.nan
    return image


@pytest.mark.parametrize(
    ("image", "error"),
    [
        (np.full(SHAPE, np.nan, "f4"), "NoUsablePixels"),
        (half_nan(), "NoUsablePixels"),
        (np.full(SHAPE, 400, "f4"), "ConstantImage"),
        (np.stack([SCIENCE] * 3), "NotAnImage"),
        (render([], 1.9, 5), "NoStars"),
    ],
    ids=["all NaN", "half NaN", "constant", "cube", "no stars"],
)
def test_pixels_that_cannot_be_used_are_refused(tmp_path, capsys, good, image, error):
    bad = save(tmp_path / "bad.fits", image)
    for pair in ((bad, good), (good, bad)):
        line = refused(capsys, *pair)
        assert f" {error}: " in line
        assert "bad.fits" in line or error == "NoStars"


def test_pixel_grids_of_two_shapes_without_a_wcs_are_refused(tmp_path, capsys, good):
    narrow = save(tmp_path / "narrow.fits", SCIENCE[:, :-3], HEADER)
    for pair in ((narrow, good), (good, narrow)):
        assert " WrongShape: " in refused(capsys, *pair)


def test_pixel_grids_of_two_shapes_are_not_taken_as_aligned(tmp_path, capsys, good):
    narrow = save(tmp_path / "narrow.fits", SCIENCE[:, :-3])
    assert " WrongShape: " in refused(capsys, narrow, good, "--align", "none")
    assert main(["subtract", str(narrow), str(good), "--align", "auto"]) == 0
    assert "resampled by WCS" in capsys.readouterr().out


@pytest.mark.parametrize("value", [0.0, -4.0, np.nan])
def test_a_variance_that_cannot_be_is_refused(tmp_path, capsys, good, value):
    variance = np.full(SHAPE, value, "f4")
    bad = save(tmp_path / "bad.fits", SCIENCE, None, VARIANCE=variance)
    assert " BadVariance: " in refused(capsys, bad, good)


def test_a_variance_of_another_shape_is_refused(tmp_path, capsys, good):
    variance = save(tmp_path / "v.fits", np.ones((SIZE, SIZE - 1), "f4"), {})
    assert " WrongShape: " in refused(capsys, good, good, "--science-variance", variance)


def test_an_absurd_gain_is_refused(tmp_path, capsys, good):
    bad = save(tmp_path / "bad.fits", SCIENCE, HEADER | WCS | {"GAIN": 1e9})
    line = refused(capsys, bad, good)
    assert " BadGain: " in line
    assert "got GAIN 1000000000.0; --gain, or gain under [instrument]" in line


@pytest.mark.parametrize("card", [{"DETECTOR": 300}, {"VISIT": 20261130035112}])
def test_numbers_that_no_source_id_can_hold_are_refused_in_the_science_frame_alone(tmp_path, capsys, good, card):
    big = save(tmp_path / "big.fits", SCIENCE, HEADER | WCS | card)
    assert "--visit and --detector say others" in refused(capsys, big, good)
    assert main(["subtract", str(good), str(big), "-q"]) == 0
    assert main(["subtract", str(big), str(good), "-q", "--detector", "4", "--visit", "5"]) == 0


@pytest.mark.parametrize("keep", [0, 1000, 2880, 50000, 150000])
def test_a_truncated_file_is_refused(tmp_path, capsys, good, keep):
    bad = save(tmp_path / "bad.fits", SCIENCE)
    bad.write_bytes(bad.read_bytes()[:keep])
    assert " UnreadableFile: " in refused(capsys, bad, good)


def test_an_absent_file_is_refused(tmp_path, capsys, good):
    assert "absent.fits" in refused(capsys, good, tmp_path / "absent.fits")


def test_the_program_ends_with_the_status_and_the_line(tmp_path, good):
    command = [sys.executable, "-m", "gpudiff", "subtract", str(tmp_path / "absent.fits"), str(good)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr.count("found no file\n")) == (3, "", 1)


def test_a_template_of_other_sky_is_refused(tmp_path, capsys, good):
    elsewhere = save(tmp_path / "elsewhere.fits", TEMPLATE[::-1], HEADER | WCS | {"CRVAL1": 151.0})
    assert " NoOverlap: " in refused(capsys, good, elsewhere)
