"""Frames go up once, templates stay on the device, and what stays is what the host has."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from counting import Counting
from emulated import Emulated
from watched import Watched, as_there

from gpudiff.arrays import gpu
from gpudiff.arrays.gpu import SPARE, Gpu
from gpudiff.arrays.passes import CPU
from gpudiff.model.errors import DeviceFailed, DeviceFull
from gpudiff.science import noise
from gpudiff.science.subtract import subtract

SIZE = 256
PLANE = SIZE * SIZE
"""Bytes of a plane of bytes."""


def wavy(image):
    """A sky that is no low-order surface: the kernel is fitted once more without it."""
    image += 6 * np.sin(np.arange(image.shape[1]) / 20)


def turned(frame):
    return replace(frame, image=np.ascontiguousarray(np.roll(frame.image, (3, -2), (0, 1))))


@pytest.fixture(scope="module")
def pair(maker):
    return maker.pair(size=SIZE, stars=40, transients=12)


class WithoutFit(Gpu):
    """A Gpu whose peak of memory is that of the passes: of a small frame the stamps of the fit are more."""

    def subtracted(self, *given):
        self.launcher.peak = self.launcher.live
        return super().subtracted(*given)


@pytest.fixture(scope="module")
def first(maker, pair):
    """The device after its first frame, what was counted until then, and what came of the frame."""
    launcher = Counting()
    device = WithoutFit(launcher)
    difference, _ = subtract(pair.science, pair.template, maker.settings(), device)
    image, score = np.array(difference.image), np.array(difference.score)
    del difference
    return SimpleNamespace(
        device=device,
        held=device.resident.bytes,
        up=[*launcher.up],
        launches=[*launcher.launches],
        live=launcher.live,
        peak=launcher.peak,
        image=image,
        score=score,
    )


def test_what_zogy_holds_of_a_template_on_its_own_grid_is_what_the_host_has(maker, pair):
    settings = maker.settings(align="stars", algorithm="zogy")
    difference, _ = subtract(pair.science, turned(pair.template), settings, Watched(Emulated()))
    assert difference.template.resampled
    assert as_there(difference)


def planes(transfers):
    """Bytes a pixel of each transfer of whole planes; tables and lists are no multiples of them, what lines are
    looked for in is one."""
    return [size // PLANE for size in transfers if size % PLANE == 0 and size > PLANE]


def test_a_frame_goes_up_once_and_its_template_once_for_all_frames(maker, pair, first):
    assert planes(first.up) == [4, 4]  # template, science
    assert first.launches[0] == "peaks"  # in the science image that is there
    first.device.launcher.up.clear()
    second, _ = subtract(pair.science, pair.template, maker.settings(), first.device)
    assert planes(first.device.launcher.up) == [4]
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


def test_of_the_planes_that_were_made_only_what_is_looked_at_comes_down_of_a_second_match_too(maker, monkeypatch):
    monkeypatch.setattr(noise, "SAMPLE", 1)  # of 9 tiles, as 16 of the 256 of a large frame
    made, launcher = maker.pair(size=512, stars=60, transients=5).with_science(wavy), Sorted()
    difference, _ = subtract(made.science, made.template, maker.settings(), Gpu(launcher))
    assert any("matched again" in note for note in difference.notes)
    assert launcher.whole == []
    assert launcher.squares < 5 * 512**2  # round 60 stars, a large frame has a quarter as many a pixel; of 22
    assert launcher.up.count(4 * 512**2) == 2  # template, science


@pytest.fixture(scope="module")
def second(maker, pair):
    """(difference, bytes sent up) of the second of two frames whose template is on its own grid."""
    launcher = Counting()
    device, template = Watched(launcher), turned(pair.template)
    for _ in range(2):
        launcher.up.clear()
        difference, _ = subtract(pair.science, template, maker.settings(align="stars"), device)
    return difference, [*launcher.up]


def test_a_template_on_its_own_grid_goes_up_once_too(second):
    assert planes(second[1]) == [4, 4]  # science, and the mask as int32


def test_what_is_held_of_a_template_on_its_own_grid_is_what_the_host_has(second):
    assert second[0].template.resampled
    assert as_there(second[0])


def rough(frame):
    """With a variance plane that no smooth surface follows, as of a coadd with holes."""
    rows, columns = np.indices(frame.image.shape)
    variance = frame.image / frame.gain + (frame.read_noise / frame.gain) ** 2
    holes = np.where((rows // 9 + columns // 9) % 7 == 0, 3, 1)
    return replace(frame, variance=(variance * holes).astype(np.float32))


def test_a_variance_plane_that_is_not_smooth_is_held_like_its_image(maker, pair):
    launcher = Counting()
    device, frames = Gpu(launcher), [rough(frame) for frame in (pair.science, pair.template)]
    numpy, _ = subtract(*frames, maker.settings(), CPU)
    for _ in range(2):
        launcher.up.clear()
        difference, _ = subtract(*frames, maker.settings(), device)
    # Every second row of both variances, for their meshes; science and its variance.
    assert planes(launcher.up) == [2, 2, 4, 4]
    assert device.resident.bytes == 8 * PLANE
    np.testing.assert_allclose(difference.variance, numpy.variance, rtol=5e-5)


def test_after_a_frame_its_template_alone_is_left(first):
    assert first.live == first.held == 4 * PLANE
    # For a score: template, difference, variance, model, lost, blank and the tiles' squares, 7 here, 5 of a large
    # frame; three planes come of it, the fourth where the difference was.
    assert first.peak < 35 * PLANE


def test_nothing_is_held_of_frames_without_a_digest(maker, pair, first):
    device = Gpu(Emulated())
    plain = [replace(frame, digest="") for frame in (pair.science, pair.template)]
    difference, _ = subtract(*plain, maker.settings(), device)
    assert device.resident.bytes == 0
    np.testing.assert_array_equal(difference.image, first.image)


def test_where_memory_is_short_templates_are_let_go_and_a_note_says_so(maker, pair, first, monkeypatch):
    launcher = Counting()
    device = Gpu(launcher)
    subtract(pair.science, pair.template, maker.settings(), device)
    launcher.capacity = launcher.peak + PLANE  # not with the other frame's template
    monkeypatch.setattr(gpu, "SPARE", 0)
    other = replace(pair.template, digest="other")
    difference, _ = subtract(pair.science, other, maker.settings(), device)
    assert "GPU memory was full: 1 planes of templates were let go" in difference.notes
    np.testing.assert_array_equal(difference.image, first.image)


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
    launcher = Counting(capacity=16 * PLANE)
    with pytest.raises(DeviceFull, match=r"out of memory, \d+ bytes of \d+ free; no template is left there"):
        subtract(pair.science, pair.template, maker.settings(), Gpu(launcher))


@pytest.mark.parametrize("launches", [0, 2, 5])
def test_a_device_that_fails_at_work_is_named(maker, pair, launches):
    launcher = Counting(fails_after=launches)
    with pytest.raises(DeviceFailed, match="illegal memory access"):
        subtract(pair.science, pair.template, maker.settings(), Gpu(launcher))
