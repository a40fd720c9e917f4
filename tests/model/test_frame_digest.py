"""The digest of a frame: the same for the same pixels and words, however they came."""

import dataclasses

import numpy as np
import pytest

from gpudiff.model.frame import Frame, FrameId, Observation
from gpudiff.model.provenance import frame_digest, with_digest

FRAME = Frame("a", Observation(FrameId(1, 0, 2)), np.arange(12, dtype="f4").reshape(3, 4), wcs={"CRPIX1": 512})


def test_byte_order_layout_and_name_change_nothing():
    other = np.asfortranarray(FRAME.image.astype(">f4"))
    assert frame_digest(dataclasses.replace(FRAME, image=other, name="b")) == frame_digest(FRAME)


def test_a_whole_number_is_the_same_as_a_float():
    assert frame_digest(dataclasses.replace(FRAME, wcs={"CRPIX1": 512.0})) == frame_digest(FRAME)


@pytest.mark.parametrize(
    "change",
    [
        {"image": FRAME.image + 1},
        {"image": FRAME.image.astype("u2")},
        {"mask": np.zeros((3, 4), np.int32)},
        {"variance": np.ones((3, 4), np.float32)},
        {"psf": np.ones((3, 3), np.float32)},
        {"gain": 1.5},
        {"read_noise": 5.0},
        {"saturation": 6e4},
        {"wcs": {"CRPIX1": 513}},
        {"observation": Observation(FrameId(1, 0, 3))},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_changes_the_result_changes_the_digest(change):
    assert frame_digest(dataclasses.replace(FRAME, **change)) != frame_digest(FRAME)


def test_the_frame_carries_it():
    assert with_digest(FRAME).digest == frame_digest(FRAME)
    assert len(frame_digest(FRAME)) == 32
