"""Frames at work on one device at a time."""

import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest

from gpudiff.arrays.device import Host
from gpudiff.arrays.lanes import Lanes
from gpudiff.model.errors import DeviceFailed, DeviceFull

sys.path.insert(0, str(Path(__file__).parents[1] / "cuda_on_cpu"))

from deferred import Deferred

WAIT_S = 20.0
"""A frame that others are to meet comes in no time."""


class Device(Deferred):
    """A device that holds so many frames at a time and counts them.

    at_once : the most there were; counted only where the work is between `begin` and `end`
    """

    def __init__(self, room=1 << 30):
        super().__init__()
        self.room, self.frames, self.at_once, self.streams = room, 0, 0, []
        self.lock = threading.Lock()

    def stream(self):
        self.streams.append(super().stream())
        return self.streams[-1]

    def begin(self):
        with self.lock:
            if self.frames == self.room:
                raise DeviceFull(f"no room for frame {self.frames + 1}")
            self.frames += 1
            self.at_once = max(self.at_once, self.frames)

    def end(self):
        with self.lock:
            self.frames -= 1


def test_so_many_frames_are_at_work_at_a_time_and_no_more():
    device, meeting = Device(), threading.Barrier(2, timeout=WAIT_S)

    def work(frame):
        device.begin()
        meeting.wait()  # in vain for one that works alone
        device.end()
        return -frame

    assert list(Lanes(device, 2).over(work, range(8))) == [-frame for frame in range(8)]
    assert device.at_once == 2


def test_a_lane_has_a_stream_of_its_own_and_keeps_it():
    device, meeting = Device(), threading.Barrier(2, timeout=WAIT_S)

    def work(frame):
        meeting.wait()
        return id(device._current)

    seen = list(Lanes(device, 2).over(work, range(6)))
    assert set(seen) == {id(stream) for stream in device.streams}
    assert len(device.streams) == 2


def test_what_a_frame_gave_its_stream_is_done_when_it_is():
    device = Device()
    Lanes(device, 2).run(lambda: device.zeros((3,), "f4"))
    assert not any(device.streams)


def test_where_memory_is_short_fewer_frames_are_at_work_and_a_note_says_so():
    device, meeting = Device(room=2), threading.Barrier(4, timeout=WAIT_S)
    tried, notes = [], []
    lanes = Lanes(device, 4, notes.append)

    def work(frame):
        with device.lock:
            tried.append(frame)
            together = len(tried) <= 4
        if together:
            meeting.wait()
        try:
            device.begin()
        finally:
            if together:
                meeting.wait()  # all four have asked before one leaves
        device.end()
        return -frame

    assert list(lanes.over(work, range(9))) == [-frame for frame in range(9)]
    assert lanes.most == 2
    assert notes == ["GPU memory was short: 2 frames at a time from here on"]
    assert len(tried) == 11  # two of them twice


def test_what_a_frame_had_made_is_let_go_before_it_is_tried_again():
    made = []

    def work():
        assert all(one() is None for one in made)
        plane = np.zeros(3)
        made.append(weakref.ref(plane))
        if len(made) == 1:
            raise DeviceFull("not now")
        return plane.sum()

    assert Lanes(Host(), 2).run(work) == 0
    assert len(made) == 2


def test_a_frame_that_alone_has_no_room_is_an_error():
    device = Device(room=0)
    lanes = Lanes(device, 4)
    with pytest.raises(DeviceFull, match="no room for frame 1"):
        lanes.run(device.begin)
    assert lanes.most == 1


def test_when_the_device_fails_no_frame_begins_and_all_are_given_back():
    lanes, meeting = Lanes(Host(), 2), threading.Barrier(2, timeout=WAIT_S)
    begun, back = [], []

    def work(frame):
        begun.append(frame)
        meeting.wait()
        raise DeviceFailed("device cuda:0: an illegal memory access was encountered")

    def take(frame):
        try:
            lanes.run(lambda: work(frame))
        except DeviceFailed as error:
            back.append((frame, str(error)))

    threads = [threading.Thread(target=take, args=(frame,)) for frame in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(begun) == 2
    assert sorted(back) == [(n, "device cuda:0: an illegal memory access was encountered") for n in range(5)]


def test_a_frame_that_is_refused_leaves_its_place_to_the_next():
    lanes = Lanes(Host(), 1)
    with pytest.raises(ZeroDivisionError):
        lanes.run(lambda: 1 / 0)
    assert lanes.run(lambda: 3) == 3
