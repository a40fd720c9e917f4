"""Frames at work side by side on one device give what they give one at a time; kernels are executed on the CPU."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from deferred import Deferred
from launchers import gpu_launchers

from gpudiff.arrays.device import Cuda
from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.lanes import Lanes
from gpudiff.science.subtract import subtract

WAIT_S = 60.0
SIZE = 128
PLANES = "image", "variance", "score", "matched", "mask"


class Meeting(Deferred):
    """A device on which the first two frames wait for each other where their pixels are subtracted: in vain, and
    with an error, for one that is alone."""

    def __init__(self):
        super().__init__()
        self.came, self.barrier = 0, threading.Barrier(2, timeout=WAIT_S)

    def launch(self, stem, kernel, *rest, **options):
        if kernel == "subtract_tiles":
            self.came += 1
            if self.came <= 2:
                self.barrier.wait()
        super().launch(stem, kernel, *rest, **options)


LAUNCHERS = [Meeting(), *(one for one in gpu_launchers() if isinstance(one, Cuda))]


@pytest.fixture(scope="module")
def frames(maker):
    """Two frames and their one template."""
    pair = maker.pair(size=SIZE, stars=14, transients=8)
    return [(science, pair.template) for science in (pair.science, another(pair.science))]


def another(frame):
    """Another frame of the same sky."""
    noise = np.random.default_rng(3).normal(0, 3, frame.image.shape).astype(np.float32)
    return replace(frame, image=frame.image + noise, digest="another")


def results(maker, lanes, launcher, frames):
    """Planes and sources of each, all of them on the host."""
    device = Gpu(launcher)

    def work(pair):
        difference, sources = subtract(*pair, maker.settings(half_width=6), device)
        return [np.asarray(getattr(difference, name)) for name in PLANES], sources

    return list(lanes.over(work, frames))


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: f"{type(launcher).__name__}-{launcher.name}")
def test_frames_side_by_side_give_what_they_give_one_at_a_time(maker, frames, launcher):
    together = results(maker, Lanes(launcher, 2), launcher, frames)
    alone = results(maker, Lanes(launcher, 1), launcher, reversed(frames))
    for (planes, sources), (expected, listed) in zip(together, reversed(alone), strict=True):
        for one, other in zip(planes, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        for name in listed.columns:
            np.testing.assert_array_equal(sources[name], listed[name])
