"""gpudiff.science.instrument_signature: what the simulated camera put in comes out."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.calibration import Amplifier, Calibration
from gpudiff.model.errors import WrongShape
from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.mask import marked
from gpudiff.science.instrument_signature import remove_signature

H, W, OVER = 240, 160, 16
QUADRATIC = 4e-7
"""The camera loses this share of its counts per count: 2 % at 50,000."""
LEFT = Amplifier((0, W, 0, H), (0, 0), 1.5, 6.0, 60_000.0, (W, W + OVER, 0, H))
RIGHT = Amplifier(
    (W + 2 * OVER, 2 * W + 2 * OVER, 0, H), (W, 0), 2.1, 9.0, 60_000.0, (W + OVER, W + 2 * OVER, 0, H)
)
Y, X = np.mgrid[:H, : 2 * W]
FLAT = (1 + 0.1 * np.sin(X / 40) * np.cos(Y / 55)).astype(np.float32)
BIAS = (3 * np.sin(Y / 20)).astype(np.float32)
SKY = 900.0
"""Electrons."""


def linearity(gain: float) -> tuple[float, ...]:
    """The series that undoes s = t - QUADRATIC t^2, to its fourth order: 1e-5 at 50,000 counts."""
    q = QUADRATIC
    return (1.0, q, 2 * q**2, 5 * q**3)


AMPLIFIERS = tuple(dataclasses.replace(one, linearity=linearity(one.gain)) for one in (LEFT, RIGHT))
CALIBRATION = Calibration("calibration", AMPLIFIERS, BIAS, FLAT)


def raw(truth: np.ndarray, seed: int) -> Frame:
    """What the camera makes of a scene: truth (H, 2 W) electrons above the atmosphere."""
    rng = np.random.default_rng(seed)
    image = np.empty((H, 2 * W + 2 * OVER))
    for one, level in zip(AMPLIFIERS, (1000.0, 1200.0), strict=True):
        here = np.s_[:, one.at[0] : one.at[0] + W]
        counts = rng.poisson(truth[here] * FLAT[here]) / one.gain
        counts = counts - QUADRATIC * counts**2 + BIAS[here]
        x0, x1, _, _ = one.data
        image[:, x0:x1] = level + counts + rng.normal(0, one.read_noise / one.gain, (H, W))
        x0, x1, _, _ = one.overscan
        image[:, x0:x1] = level + rng.normal(0, one.read_noise / one.gain, (H, OVER))
    pixels = np.clip(np.round(image), 0, 65535).astype(np.uint16)
    return Frame("raw", Observation(FrameId(1, 0, 3)), pixels, calibrated=False)


def test_the_scene_comes_out_within_its_noise():
    truth = np.where((X // 60 + Y // 60) % 2, 20_000.0, SKY)
    frame = remove_signature(raw(truth, 1), CALIBRATION)
    pull = (frame.image - truth) / np.sqrt(frame.variance)
    assert abs(pull.mean()) < 0.02  # 0.004 by chance, 0.01 for the overscan's own mean
    assert pull.std() == pytest.approx(1, abs=0.01)  # 76,800 pixels: 0.003 by chance, quantisation 0.001


@pytest.mark.parametrize("amplifier", [0, 1])
@pytest.mark.parametrize("level", [50.0, 2000.0, 60_000.0])
def test_the_variance_is_that_of_many_frames_to_a_percent(amplifier, level):
    """Electrons of 60,000 are 40,000 counts: still below saturation."""
    truth = np.full((H, 2 * W), level)
    frames = [remove_signature(raw(truth, seed), CALIBRATION) for seed in range(6)]
    half = np.s_[:, amplifier * W : (amplifier + 1) * W]
    scatter = np.var([frame.image[half] for frame in frames], axis=0, ddof=1).mean()
    said = np.mean([frame.variance[half] for frame in frames])
    rounding = (AMPLIFIERS[amplifier].gain ** 2) / 12  # of the counts to whole numbers: not in the variance
    assert said == pytest.approx(scatter - rounding, rel=0.01)  # 192,000 degrees of freedom: 0.3 % by chance


def test_defects_dark_pixels_saturation_and_missing_values_are_masked():
    frame = raw(np.full((H, 2 * W), SKY), 1)
    frame.image[7, 5] = 65535
    defects, flat = np.zeros((H, 2 * W), bool), FLAT.copy()
    defects[3, 4], flat[10, 11], flat[12, 13] = True, 0.0, np.nan
    made = remove_signature(frame, dataclasses.replace(CALIBRATION, defects=defects, flat=flat))
    assert np.argwhere(marked(made.mask, "BAD")).tolist() == [[3, 4], [10, 11], [12, 13]]
    assert np.argwhere(marked(made.mask, "SAT")).tolist() == [[7, 5]]
    assert np.isfinite(made.image).all()
    assert (made.variance > 0).all()


def test_the_frame_says_what_it_is_now():
    made = remove_signature(raw(np.full((H, 2 * W), SKY), 1), CALIBRATION)
    assert (made.unit, made.gain, made.calibrated, made.image.shape) == ("electron", 1.0, True, (H, 2 * W))
    assert made.saturation == pytest.approx(1.5 * 59_000, rel=0.05)
    assert made.digest


def test_a_cosmic_ray_in_the_overscan_moves_nothing():
    frame = raw(np.full((H, 2 * W), SKY), 1)
    before = remove_signature(frame, CALIBRATION).image
    frame.image[20, W + 3] = 30_000
    assert abs((remove_signature(frame, CALIBRATION).image - before).mean()) < 0.01


def test_a_pixel_of_the_overscan_without_a_value_moves_nothing():
    frame = raw(np.full((H, 2 * W), SKY), 1)
    before = remove_signature(frame, CALIBRATION).image
    frame = dataclasses.replace(frame, image=frame.image.astype(np.float32))
    frame.image[20, W + 3] = np.nan
    assert abs((remove_signature(frame, CALIBRATION).image - before).mean()) < 0.01  # of 3,840 pixels one is gone


@pytest.mark.parametrize(
    "change", [{"bias": BIAS[1:]}, {"flat": FLAT[:, 1:]}, {"defects": np.zeros((2, 2), bool)}]
)
def test_a_plane_of_another_shape_is_refused(change):
    with pytest.raises(WrongShape, match=next(iter(change))):
        remove_signature(raw(np.full((H, 2 * W), SKY), 1), dataclasses.replace(CALIBRATION, **change))


def test_a_frame_of_another_camera_is_refused():
    frame = dataclasses.replace(raw(np.full((H, 2 * W), SKY), 1), image=np.zeros((H, W), np.uint16))
    with pytest.raises(WrongShape, match="overscan"):
        remove_signature(frame, CALIBRATION)
