"""gpudiff subtract --calibrations: a raw science image against a calibrated template."""

import numpy as np
import pytest
from astropy.table import Table
from small_pair import GAIN, NEW, READ_NOISE, SIZE, images, save

from gpudiff.__main__ import main

LEVEL = 1000
CALIBRATION = f"""
detector = 3
[[amplifiers]]
data = [0, {SIZE}, 0, {SIZE}]
overscan = [{SIZE}, {SIZE + 16}, 0, {SIZE}]
gain = {GAIN}
read_noise = {READ_NOISE}
saturation = 60000.0
"""


@pytest.fixture
def words(tmp_path):
    """A raw science file with an overscan, a template in electrons, and an empty folder of calibrations."""
    science, template = images()
    overscan = np.random.default_rng(3).normal(0, READ_NOISE / GAIN, (SIZE, 16))
    raw = np.round(np.hstack([science, overscan]) + LEVEL).astype(np.uint16)
    (tmp_path / "calibrations").mkdir()
    files = [str(save(tmp_path / "raw.fits", raw)), str(save(tmp_path / "template.fits", template))]
    out = ["--sources", str(tmp_path / "sources.ecsv"), "--calibrations", str(tmp_path / "calibrations")]
    return ["subtract", *files, *out, "--quiet"]


def test_what_is_new_in_a_raw_image_is_found(words, tmp_path):
    (tmp_path / "calibrations" / "three.toml").write_text(CALIBRATION)
    assert main(words) == 0
    found = Table.read(tmp_path / "sources.ecsv")
    found = found[~found["flagged"] & ~found["isNegative"]]
    assert np.hypot(found["x"] - NEW[0], found["y"] - NEW[1]).min() < 0.5
    assert found["psfFlux"].max() == pytest.approx(GAIN * NEW[2], rel=0.1)  # electrons; 50 sigma


def test_a_raw_image_without_a_calibration_is_refused_with_status_3(words, capsys):
    assert main(words) == 3
    assert "NoCalibration" in capsys.readouterr().err
