"""Templates that come again."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from gpudiff.arrays.mesh import clipped_mesh
from gpudiff.arrays.remembered import Remembered
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import bit
from gpudiff.science import known_template
from gpudiff.science.calibrate import calibrate
from gpudiff.science.known_template import calibrated

CONFIGURATION = Configuration()


@pytest.fixture
def device():
    return SimpleNamespace(remembered=Remembered(), mesh=clipped_mesh)


@pytest.fixture
def looks(monkeypatch):
    """The names of the frames that were calibrated."""
    names = []

    def noted(frame, *given):
        names.append(frame.name)
        return calibrate(frame, *given)

    monkeypatch.setattr(known_template, "calibrate", noted)
    return names


def template(digest="0a", name="first", **values):
    """Sky with a gradient, a hole, a saturated and a masked pixel."""
    rng = np.random.default_rng(1)
    image = (rng.normal(300, 12, (256, 256)) + np.linspace(0, 60, 256)).astype(">f4")
    image[3, 4], image[50, 60:70] = np.nan, 6e4
    mask = np.zeros((256, 256), np.int32)
    mask[7, 8], mask[9] = bit("BAD"), bit("DETECTED")
    known = {"gain": 2.0, "read_noise": 5.0, "saturation": 5e4} | values
    return Frame(name, Observation(FrameId(1, 0, 2)), image, mask, digest=digest, **known)


def spoil(exposure):
    """What a subtraction does to a template's exposure."""
    exposure.mark(np.array([100]), np.array([101]), "CR")
    exposure.image[...] = 7.0


def test_a_template_that_comes_again_is_the_same_exposure(device, looks):
    spoil(calibrated(template(), CONFIGURATION, device))
    again, anew = calibrated(template(name="again"), CONFIGURATION, device), calibrate(template(), CONFIGURATION)
    assert looks == ["first"]
    for plane in ("image", "mask", "unusable", "flaws"):
        np.testing.assert_array_equal(getattr(again, plane), getattr(anew, plane))
        assert getattr(again, plane).dtype == getattr(anew, plane).dtype
    for plane in ("sky", "sky_variance"):
        np.testing.assert_array_equal(getattr(again, plane).grid, getattr(anew, plane).grid)
    for value in ("gain", "variance_known", "notes", "resampled", "held"):
        assert getattr(again, value) == getattr(anew, value)
    assert again.name == "again"


def test_a_spoilt_exposure_does_not_spoil_the_next(device, looks):
    calibrated(template(), CONFIGURATION, device)
    spoil(calibrated(template(), CONFIGURATION, device))
    again = calibrated(template(), CONFIGURATION, device)
    assert not again.unusable[100, 101]
    assert again.mask[100, 101] == 0
    assert len(looks) == 1


@pytest.mark.parametrize(
    "other",
    [
        (template("0b", "other"), CONFIGURATION),
        (template(name="other"), override(CONFIGURATION, "calibrate", sky_cell=64)),
    ],
)
def test_another_revision_or_configuration_is_calibrated_anew(device, looks, other):
    calibrated(template(), CONFIGURATION, device)
    calibrated(*other, device)
    assert looks == ["first", "other"]


@pytest.mark.parametrize(
    "one",
    [
        template(digest=""),
        dataclasses.replace(template(), mask=np.full((256, 256), bit("DETECTED"), np.int32)),
    ],
)
def test_one_without_a_digest_or_with_a_mask_of_many_pixels_is_not_kept(device, looks, one):
    for _ in range(2):
        calibrated(one, CONFIGURATION, device)
    assert looks == ["first", "first"]
    assert device.remembered.bytes == 0


def test_what_is_kept_is_counted(device):
    calibrated(template(), CONFIGURATION, device)
    # 4 factors of 256 x (rank up to 3) float32 and 268 marked pixels, of two planes of 65,536.
    assert 0 < device.remembered.bytes < 30_000
