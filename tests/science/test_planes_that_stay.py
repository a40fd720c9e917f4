"""Frames go up once, templates stay on the device, and what stays is what the host has."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpudiff.arrays import gpu
from gpudiff.arrays.afar import Afar
from gpudiff.arrays.gpu import SPARE, Gpu
from gpudiff.arrays.passes import CPU
from gpudiff.arrays.peaks import peaks
from gpudiff.model.errors import DeviceFailed, DeviceFull
from gpudiff.science import noise
from gpudiff.science.subtract import subtract

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_on_cpu"))

from counting import Counting
from emulated import Emulated

SIZE = 256
PLANE = SIZE * SIZE
"""Bytes of a plane of bytes."""


class Watched(Gpu):
    """A Gpu that compares what is held with the host's own, whenever it is used."""

    def _image(self, name, image, bad, flaws=None):
        made, marks = super()._image(name, image, bad, flaws)
        np.testing.assert_array_equal(self.launcher.download(made)[0], image)
        np.testing.assert_array_equal(self.launcher.download(marks)[0].view(bool), bad)
        return made, marks

    def peaks(self, image, threshold, name=""):
        found = super().peaks(image, threshold, name)
        np.testing.assert_array_equal(found, peaks(image, threshold))
        return found


def as_there(difference):
    """Whether what the host has of the planes, and wrote, is what lies on the device."""
    for plane in (difference.image, difference.variance, difference.score, difference.matched):
        if isinstance(plane, Afar) and plane._here is not None:
            np.testing.assert_array_equal(plane._here, plane.device.launcher.download(plane.there)[0])
    return True


def wavy(image):
    """A sky that is no low-order surface: the kernel is fitted once more without it."""
    image += 6 * np.sin(np.arange(image.shape[1]) / 20)


def turned(frame):
    return replace(frame, image=np.ascontiguousarray(np.roll(frame.image, (3, -2), (0, 1))))


RECIPES = {
    "template convolved": {},
    "science convolved": {"fwhm": (3.4, 4.6)},
    "saturated stars": {"saturation": 6000.0},
}


@pytest.fixture
def pair(maker):
    return lambda **recipe: maker.pair(size=SIZE, stars=40, transients=12, **recipe)


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_held_is_what_the_host_has(maker, pair, recipe):
    made = pair(**RECIPES[recipe])
    difference, _ = subtract(made.science, made.template, maker.settings(), Watched(Emulated()))
    assert as_there(difference)


def test_what_is_held_is_what_the_host_has_after_a_second_match(maker, pair):
    made = pair().with_science(wavy)
    difference, _ = subtract(made.science, made.template, maker.settings(), Watched(Emulated()))
    assert any("matched again" in note for note in difference.notes)
    assert as_there(difference)


@pytest.mark.parametrize("algorithm", ["alard-lupton", "zogy"])
def test_what_is_held_is_what_the_host_has_of_a_template_on_its_own_grid(maker, pair, algorithm):
    made = pair()
    settings = maker.settings(align="stars", algorithm=algorithm)
    difference, _ = subtract(made.science, turned(made.template), settings, Watched(Emulated()))
    assert difference.template.resampled
    assert as_there(difference)


def planes(transfers):
    """Bytes a pixel of each transfer of whole planes; tables and lists are no multiples of them, what lines are
    looked for in is one."""
    return [size // PLANE for size in transfers if size % PLANE == 0 and size > PLANE]


def test_a_frame_goes_up_once_and_its_template_once_for_all_frames(maker, pair):
    made, launcher = pair(), Counting()
    device = Gpu(launcher)
    first, _ = subtract(made.science, made.template, maker.settings(), device)
    assert planes(launcher.up) == [4, 4]  # template, science
    assert launcher.launches[0] == "peaks"  # in the science image that is there
    launcher.up.clear()
    second, _ = subtract(made.science, made.template, maker.settings(), device)
    assert planes(launcher.up) == [4]
    np.testing.assert_array_equal(second.image, first.image)
    np.testing.assert_array_equal(second.score, first.score)


class Sorted(Counting):
    """Counts the bytes of squares, and bytes a pixel of planes that come down whole."""

    def __init__(self):
        super().__init__()
        self.whole, self.squares = [], 0

    def download(self, array):
        if array.shape == (1, 512, 512):
            self.whole.append(array.dtype.itemsize)
        elif array.ndim == 3 and array.shape[1] == array.shape[2]:
            self.squares += array.nbytes
        return super().download(array)


def test_of_the_planes_that_were_made_only_what_is_looked_at_comes_down(maker, monkeypatch):
    monkeypatch.setattr(noise, "SAMPLE", 1)  # of 9 tiles, as 16 of the 256 of a large frame
    made, launcher = maker.pair(size=512, stars=60, transients=5), Sorted()
    subtract(made.science, made.template, maker.settings(), Gpu(launcher))
    assert launcher.whole == [1]  # what is lost, for the mask
    assert launcher.squares < 5 * 512**2  # round 60 stars, a large frame has a quarter as many a pixel; of 22


def test_of_the_planes_of_a_second_match_too(maker, monkeypatch):
    monkeypatch.setattr(noise, "SAMPLE", 1)
    made, launcher = maker.pair(size=512, stars=60, transients=5).with_science(wavy), Sorted()
    difference, _ = subtract(made.science, made.template, maker.settings(), Gpu(launcher))
    assert any("matched again" in note for note in difference.notes)
    assert launcher.whole == [1]
    assert launcher.squares < 5 * 512**2
    assert launcher.up.count(4 * 512**2) == 2  # template, science


def test_a_template_on_its_own_grid_goes_up_once_too(maker, pair):
    made, launcher = pair(), Counting()
    device, template = Gpu(launcher), turned(made.template)
    settings = maker.settings(align="stars")
    for _ in range(2):
        launcher.up.clear()
        subtract(made.science, template, settings, device)
    assert planes(launcher.up) == [4, 4]  # science, and the mask as int32


class WithoutFit(Gpu):
    """A Gpu whose peak of memory is that of the passes: of a small frame the stamps of the fit are more."""

    def subtracted(self, *given):
        self.launcher.peak = self.launcher.live
        return super().subtracted(*given)


def rough(frame):
    """With a variance plane that no smooth surface follows, as of a coadd with holes."""
    rows, columns = np.indices(frame.image.shape)
    variance = frame.image / frame.gain + (frame.read_noise / frame.gain) ** 2
    holes = np.where((rows // 9 + columns // 9) % 7 == 0, 3, 1)
    return replace(frame, variance=(variance * holes).astype(np.float32))


def test_a_variance_plane_that_is_not_smooth_is_held_like_its_image(maker, pair):
    made, launcher = pair(), Counting()
    device, frames = Gpu(launcher), [rough(frame) for frame in (made.science, made.template)]
    numpy, _ = subtract(*frames, maker.settings(), CPU)
    for _ in range(2):
        launcher.up.clear()
        difference, _ = subtract(*frames, maker.settings(), device)
    # Every second row of both variances, for their meshes; science and its variance.
    assert planes(launcher.up) == [2, 2, 4, 4]
    assert device.resident.bytes == 8 * PLANE
    np.testing.assert_allclose(difference.variance, numpy.variance, rtol=5e-5)


def test_after_a_frame_its_template_alone_is_left(maker, pair):
    made, launcher = pair(), Counting()
    device = WithoutFit(launcher)
    subtract(made.science, made.template, maker.settings(), device)
    assert launcher.live == device.resident.bytes == 4 * PLANE
    # For a score: template, difference, variance, model, lost, blank and the tiles' squares, 7 here, 5 of a large
    # frame; three planes come of it, the fourth where the difference was.
    assert launcher.peak < 35 * PLANE


def test_nothing_is_held_of_frames_without_a_digest(maker, pair):
    made, launcher = pair(), Counting()
    device = Gpu(launcher)
    plain = [replace(frame, digest="") for frame in (made.science, made.template)]
    held, _ = subtract(made.science, made.template, maker.settings(), Gpu(Emulated()))
    difference, _ = subtract(*plain, maker.settings(), device)
    assert device.resident.bytes == 0
    np.testing.assert_array_equal(difference.image, held.image)


def test_where_memory_is_short_templates_are_let_go_and_a_note_says_so(maker, pair, monkeypatch):
    made, launcher = pair(), Counting()
    device = Gpu(launcher)
    expected = np.asarray(subtract(made.science, made.template, maker.settings(), device)[0].image)
    launcher.capacity = launcher.peak + PLANE  # not with the other frame's template
    monkeypatch.setattr(gpu, "SPARE", 0)
    other = replace(made.template, digest="other")
    difference, _ = subtract(made.science, other, maker.settings(), device)
    assert "GPU memory was full: 1 planes of templates were let go" in difference.notes
    np.testing.assert_array_equal(difference.image, expected)


def test_a_budget_is_kept_and_the_template_that_waited_longest_leaves():
    launcher = Counting()
    device = Gpu(launcher, memory=9e-9 * PLANE)  # two templates
    for name in "abacab":
        device.frame().hold(name, np.zeros((SIZE, SIZE), np.float32), stays=True)
    assert len(planes(launcher.up)) == 4  # a, b, c, and b again
    assert launcher.live == device.resident.bytes <= device.resident.budget


def test_templates_stay_only_while_there_is_room_for_frames_at_work():
    launcher = Counting(capacity=(4 * SPARE + 12) * PLANE)  # and three templates
    device = Gpu(launcher, memory=1.0)
    for name in "abcd":
        device.frame().hold(name, np.zeros((SIZE, SIZE), np.float32), stays=True)
    assert [name in device.resident for name in "abcd"] == [False, True, True, True]
    launcher.capacity -= 8 * PLANE  # another process has taken some
    device.frame().hold("e", np.zeros((SIZE, SIZE), np.float32), stays=True)
    assert [name in device.resident for name in "bcde"] == [False, False, False, True]


def test_a_frame_that_has_no_room_at_all_says_what_was_asked_for(maker, pair):
    made, launcher = pair(), Counting(capacity=16 * PLANE)
    with pytest.raises(DeviceFull, match=r"out of memory, \d+ bytes of \d+ free; no template is left there"):
        subtract(made.science, made.template, maker.settings(), Gpu(launcher))


@pytest.mark.parametrize("launches", [0, 2, 5])
def test_a_device_that_fails_at_work_is_named(maker, pair, launches):
    made, launcher = pair(), Counting(fails_after=launches)
    with pytest.raises(DeviceFailed, match="illegal memory access"):
        subtract(made.science, made.template, maker.settings(), Gpu(launcher))
