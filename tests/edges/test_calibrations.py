"""gpudiff.edges.calibrations: a folder that an observatory fills by hand."""

import dataclasses

import numpy as np
import pytest
from serving import SHAPE, a_frame

from gpudiff.edges.calibrations import CalibrationStore
from gpudiff.edges.fits import write_frame
from gpudiff.model.config import Service
from gpudiff.model.errors import BadConfiguration, NoCalibration
from gpudiff.services.raw_frames import calibrator

H, W = SHAPE
ENTRY = f"""
detector = 4
bias = "bias.fits"
flat = {{r = "flat.fits"}}
defects = "defects.fits"
[[amplifiers]]
data = [0, {W}, 0, {H}]
level = 10.0
gain = 2.0
read_noise = 3.0
saturation = 60000.0
"""


@pytest.fixture
def folder(tmp_path):
    for name, value in (("bias", 5.0), ("flat", 2.0), ("defects", 0.0)):
        write_frame(tmp_path / f"{name}.fits", a_frame(fill=value))
    (tmp_path / "first.toml").write_text(ENTRY)
    return tmp_path


def raw(**observation):
    """A raw frame of detector 4 at MJD 61000.05, 115 counts everywhere."""
    frame = a_frame(1, fill=115.0, calibrated=False)
    return dataclasses.replace(frame, observation=dataclasses.replace(frame.observation, **observation))


def test_a_raw_frame_comes_out_in_electrons(folder):
    made = calibrator(Service(calibrations=str(folder)))(raw())
    np.testing.assert_allclose(made.image, (115 - 10 - 5) * 2 / 2)
    np.testing.assert_allclose(made.variance, (200 + 9) / 4)


def test_the_latest_that_is_valid_is_taken(folder):
    (folder / "later.toml").write_text(
        f"from_mjd = 61000.0\nto_mjd = 61001.0\n{ENTRY}".replace("2.0\nread", "4.0\nread")
    )
    store = CalibrationStore(folder)
    assert store.find(raw()).amplifiers[0].gain == 4.0
    assert store.find(raw(mjd_start_tai=60900.0, mjd_end_tai=60900.0)).amplifiers[0].gain == 2.0


def test_an_absent_calibration_is_refused_by_name(folder):
    store = CalibrationStore(folder)
    with pytest.raises(NoCalibration, match="band 'z'"):
        store.find(raw(band="z"))
    (folder / "first.toml").write_text("to_mjd = 60000.0\n" + ENTRY)
    with pytest.raises(NoCalibration, match=r"detector 4 valid at MJD 61000\.05"):
        CalibrationStore(folder).find(raw())
    with pytest.raises(NoCalibration, match="expected a folder"):
        CalibrationStore(folder / "absent").find(raw())


def test_a_raw_frame_without_a_store_is_refused_and_a_calibrated_one_passes():
    with pytest.raises(NoCalibration, match="raw"):
        calibrator(Service())(raw())
    frame = a_frame(1)
    assert calibrator(Service())(frame) is frame


def test_configuration_says_what_frames_do_not(folder):
    every = calibrator(Service(calibrations=str(folder), raw=True))
    assert every(dataclasses.replace(raw(), calibrated=None)).unit == "electron"
    assert every(dataclasses.replace(raw(), calibrated=True)).unit == "adu"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gain = 2.0", "gain = 0", "gain"),
        ("gain = 2.0", "gian = 2.0", "gian|gain"),
        ("bias.fits", "../bias.fits", "below"),
        ("detector = 4", "detector = [", "calibration"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_refused_by_name(folder, old, new, said):
    (folder / "first.toml").write_text(ENTRY.replace(old, new))
    with pytest.raises(BadConfiguration, match=said) as raised:
        CalibrationStore(folder).find(raw())
    assert "first.toml" in str(raised.value)
