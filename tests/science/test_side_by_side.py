"""Frames at work side by side on one device give what they give one at a time; kernels are executed on the CPU."""

import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpudiff.arrays.gpu import Gpu
from gpudiff.arrays.lanes import Lanes
from gpudiff.science.subtract import subtract

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_on_cpu"))

from deferred import Deferred
from emulated import Emulated

WAIT_S = 60.0
SIZE = 128
PLANES = "image", "variance", "score", "matched", "mask"


class Meeting(Deferred):
    """A device on which the first two frames wait for each other where their pixels are subtracted."""

    def __init__(self):
        super().__init__()
        self.met, self.barrier = [], threading.Barrier(2, timeout=WAIT_S)

    def launch(self, stem, kernel, *rest, **options):
        if kernel == "subtract_tiles" and len(self.met) < 2:
            self.met.append(threading.get_ident())
            self.barrier.wait()
        super().launch(stem, kernel, *rest, **options)


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


def test_frames_side_by_side_give_what_they_give_one_at_a_time(maker, frames):
    launcher = Meeting()
    together = results(maker, Lanes(launcher, 2), launcher, frames)
    assert len(set(launcher.met)) == 2
    alone = results(maker, Lanes(Emulated(), 1), Emulated(), reversed(frames))
    for (planes, sources), (expected, listed) in zip(together, reversed(alone), strict=True):
        for one, other in zip(planes, expected, strict=True):
            np.testing.assert_array_equal(one, other)
        for name in listed.columns:
            np.testing.assert_array_equal(sources[name], listed[name])
