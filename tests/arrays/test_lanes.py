"""Frames at work on one device at a time."""

import threading
import weakref

import numpy as np
import pytest
from deferred import Deferred

from gpudiff.arrays.device import Host
from gpudiff.arrays.lanes import AGAIN, Lanes
from gpudiff.model.errors import DeviceFailed, DeviceFull

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
    device, meeting = Device(room=3), threading.Barrier(4, timeout=WAIT_S)
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
    assert (lanes.most, lanes.now) == (4, 3)
    assert notes == ["GPU memory was short: 3 frames at a time from here on"]
    assert len(tried) == 10  # one of them twice


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
    assert lanes.now == 1


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


def short(lanes):
    """Let a frame have no room the first time."""
    full = iter([DeviceFull("no room")])

    def work():
        for error in full:
            raise error

    lanes.run(work)


def test_after_so_many_frames_that_were_done_one_more_is_at_work_and_a_note_says_so():
    notes = []
    lanes = Lanes(Host(), 4, notes.append)
    short(lanes), short(lanes)  # the second is done under the number that is left
    for _ in range(AGAIN - 2):
        lanes.run(int)
    assert lanes.now == 2
    lanes.run(int)
    assert lanes.now == 3
    assert notes[2:] == [f"{AGAIN} frames had room: 3 frames at a time from here on"]


def test_no_more_are_at_work_than_were_asked_for():
    lanes = Lanes(Host(), 2)
    for _ in range(2 * AGAIN):
        lanes.run(int)
    assert lanes.now == 2


def test_where_one_more_has_no_room_it_is_one_fewer_and_the_count_begins_anew():
    lanes = Lanes(Host(), 2)
    for _ in range(3):
        short(lanes)
        assert lanes.now == 1
        for _ in range(AGAIN - 1):
            lanes.run(int)
        assert lanes.now == 2


def test_frames_that_are_refused_do_not_count_as_done():
    lanes = Lanes(Host(), 2)
    short(lanes)
    for _ in range(AGAIN):
        with pytest.raises(ZeroDivisionError):
            lanes.run(lambda: 1 / 0)
    assert lanes.now == 1


def test_once_there_is_room_as_many_frames_are_at_work_as_before():
    device, meeting = Device(), threading.Barrier(2, timeout=WAIT_S)
    lanes = Lanes(device, 2)
    short(lanes)
    for _ in range(AGAIN):
        lanes.run(int)

    def work(frame):
        device.begin()
        meeting.wait()  # in vain for one that works alone
        device.end()

    list(lanes.over(work, range(4)))
    assert device.at_once == 2
