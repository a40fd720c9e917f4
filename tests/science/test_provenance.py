"""The provenance of a subtraction."""

import dataclasses

import numpy as np
import pytest

from gpudiff import __version__
from gpudiff.model.config import Configuration, override
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.provenance import extend
from gpudiff.science.provenance import difference_steps

CONFIGURATION = Configuration()


def frame(digest):
    return Frame("a.fits", Observation(FrameId(1, 0, 2)), np.zeros((2, 2), np.float32), digest=digest)


def fingerprint(science="s", template="t", configuration=CONFIGURATION):
    return difference_steps(frame(science), frame(template), configuration)[1]


def test_the_steps_give_the_fingerprint_again():
    steps, made = difference_steps(frame("s"), frame("t"), CONFIGURATION)
    assert extend("", steps) == made
    assert len(made) == 32
    assert [step["step"] for step in steps] == ["calibrate", "difference", "detect"]
    assert {step["version"] for step in steps} == {__version__}


def test_the_device_is_recorded_beside_the_steps_and_in_no_fingerprint():
    steps, made = difference_steps(frame("s"), frame("t"), CONFIGURATION, "cuda:0")
    assert {step["device"] for step in steps} == {"cuda:0"}
    assert made == fingerprint()


def test_equal_inputs_give_equal_fingerprints():
    assert fingerprint() == fingerprint()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("calibrate", "sky_cell", 128),
        ("match", "convolve", "science"),
        ("match", "half_width", 9),
        ("detect", "threshold", 6.0),
        ("detect", "decorrelate", False),
    ],
)
def test_every_setting_that_changes_a_result_changes_it(section, key, value):
    assert fingerprint(configuration=override(CONFIGURATION, section, **{key: value})) != fingerprint()


def test_settings_that_change_no_result_do_not():
    assert fingerprint(configuration=override(CONFIGURATION, "match", threads=7)) == fingerprint()
    assert fingerprint(configuration=override(CONFIGURATION, "service", credit=9)) == fingerprint()


def test_science_and_template_change_it_each_in_its_place():
    assert len({fingerprint(), fingerprint("t", "s"), fingerprint("x"), fingerprint(template="x")}) == 4


def test_a_difference_carries_its_steps(done):
    made = done.difference
    assert extend("", made.steps) == made.fingerprint
    science, template = made.science.frame, made.template.frame
    assert difference_steps(science, template, done.configuration)[1] == made.fingerprint
    assert dataclasses.asdict(done.configuration)["match"]["threads"] == 1
