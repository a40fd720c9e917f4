"""Readout channels of a pair."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.config import Calibrate
from gpudiff.science.channels import level_channels
from gpudiff.science.stars import sky_noise
from gpudiff.science.subtract import open_device, subtract

SIDE, NOISE = 640, 15.0
"""Pixels; of a sky pixel of `Maker.pair`, about."""


@pytest.fixture(scope="module")
def pair(maker):
    return maker.pair(size=SIDE, stars=150, transients=20)


@pytest.fixture(scope="module")
def clean(maker, pair):
    return maker.run(pair)


def stripes(seed=1):
    """(SIDE,) pedestals of 8 channels."""
    return np.repeat(np.random.default_rng(seed).normal(0, NOISE, 8), SIDE // 8)


def quadrants():
    """(SIDE, SIDE) of four quadrants, each with a level and a direction of its own."""
    half = SIDE // 2
    levels = np.add.outer(stripes(2), np.zeros(SIDE))
    levels[:half, :half] = stripes(3)[:half]
    levels[half:, half:] = stripes(4)[half:]
    levels[half:] += 2 * NOISE
    levels[:, half:] -= NOISE
    return levels


def stepped(pair, name, levels):
    frame = getattr(pair, name)
    return dataclasses.replace(pair, **{name: dataclasses.replace(frame, image=frame.image + np.float32(levels))})


@pytest.mark.parametrize(
    "levels", [stripes(), stripes()[:, None], quadrants()], ids=["columns", "rows", "quadrants"]
)
@pytest.mark.parametrize("name", ["science", "template"])
def test_channels_of_either_image_leave_no_trace(maker, pair, clean, name, levels):
    again = maker.run(stepped(pair, name, levels))
    assert any("between readout channels" in note for note in again.difference.notes)
    assert abs(len(again.sources) - len(clean.sources)) <= 2  # those of 5 sigma come and go
    assert (again.nearest() >= 0).sum() >= (clean.nearest() >= 0).sum() - 1
    assert np.nanstd(again.difference.score) == pytest.approx(np.nanstd(clean.difference.score), rel=0.05)
    # a level is known to 0.1 sigma of a pixel, which is 0.5 of the score's


def test_an_image_without_channels_is_left_as_it_is(maker, pair):
    for one in maker.exposures(pair):
        before = one.image.copy()
        assert level_channels(one, Calibrate()) is one
        np.testing.assert_array_equal(one.image, before)


def test_pixels_without_a_value_stay_zero(maker, pair):
    image = pair.science.image + np.float32(stripes())
    image[100:110, 200:230] = np.nan
    one, _ = maker.exposures(dataclasses.replace(pair, science=dataclasses.replace(pair.science, image=image)))
    levelled = level_channels(one, Calibrate())
    assert (levelled.image[102:108, 202:228] == 0).all()
    assert levelled.flaws is one.flaws


def test_what_is_left_of_a_step_is_less_than_a_tenth_of_the_noise(maker, pair):
    one, _ = maker.exposures(stepped(pair, "science", stripes()))
    before, _ = maker.exposures(pair)
    steps = np.median(level_channels(one, Calibrate()).image - before.image, 0)[SIDE // 16 :: SIDE // 8]
    # the sky of either is another surface; steps of an image of 640 px are known to 0.04 sigma, 3 errors
    assert np.abs(np.diff(steps, 2)).max() < 2 * 0.12 * sky_noise(one)


def test_a_template_that_comes_again_is_levelled_again(maker, pair):
    made = stepped(pair, "template", stripes())
    template, configuration = dataclasses.replace(made.template, digest="0a"), maker.settings()
    device = open_device(configuration)
    first, again = (subtract(made.science, template, configuration, device)[0] for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.notes == again.notes
