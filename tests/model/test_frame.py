"""Frames: what identifies one, and when it was taken."""

import dataclasses
import math

import numpy as np
import pytest

from gpudiff.model.frame import Exposure, Frame, FrameId, Observation, usual
from gpudiff.model.plane import SmoothPlane


def test_a_frame_is_known_by_visit_snap_and_detector():
    assert FrameId(12, 0, 3) == FrameId(12, 0, 3)
    assert len({FrameId(12, 0, 3), FrameId(12, 0, 3), FrameId(12, 1, 3)}) == 2


def test_frames_sort_by_visit_then_snap_then_detector():
    frames = [FrameId(2, 0, 0), FrameId(1, 1, 0), FrameId(1, 0, 9), FrameId(1, 0, 10)]
    assert sorted(frames) == [FrameId(1, 0, 9), FrameId(1, 0, 10), FrameId(1, 1, 0), FrameId(2, 0, 0)]


def test_a_frame_is_written_visit_slash_snap_slash_detector():
    assert str(FrameId(26112200001, 0, 188)) == "26112200001/0/188"


def test_a_frame_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FrameId(1, 0, 0).visit = 2


def test_the_midpoint_is_between_start_and_end():
    seen = Observation(FrameId(1, 0, 0), mjd_start_tai=61000.0, mjd_end_tai=61000.5)
    assert seen.midpoint_mjd_tai == 61000.25


def test_the_midpoint_of_unknown_times_is_unknown():
    assert math.isnan(Observation(FrameId(1, 0, 0), mjd_start_tai=61000.0).midpoint_mjd_tai)


@pytest.mark.parametrize("side", [33, 600])
def test_the_usual_variance_is_the_skys_in_a_cutout_too(side):
    variance = np.full((side, side), 2.0, np.float32)
    variance[[0, -1]] = variance[:, [0, -1]] = np.nan
    variance[side // 2 - 4 : side // 2 + 5, side // 2 - 4 : side // 2 + 5] = 50.0  # a source in the middle
    assert usual(variance) == 2.0


@pytest.mark.filterwarnings("error")
def test_where_no_variance_is_known_there_is_no_usual_one():
    assert np.isnan(usual(np.full((25, 25), np.nan, np.float32)))


def test_an_exposure_without_planes_keeps_its_shape_and_no_memory():
    plane = SmoothPlane(np.ones((1, 1)), (300, 200))
    frame = Frame("a", Observation(FrameId(1, 0, 0)), np.empty((0, 0)))
    made = Exposure(
        frame, np.zeros((300, 200), np.float32), np.zeros((300, 200), np.uint16), plane, plane, 1.0, True
    )
    bare = made.without_planes()
    assert (bare.shape, bare.mask.shape) == ((300, 200), (300, 200))
    assert bare.image.strides == bare.mask.strides == (0, 0)
