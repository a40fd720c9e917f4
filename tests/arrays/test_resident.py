"""Planes that stay in a device's memory."""

import numpy as np
from deferred import Deferred

from gpudiff.arrays.resident import Resident


class Frame:
    """Somebody who uses planes."""


def plane(value=0):
    return np.full(25, value, np.float32)  # 100 bytes


def kept(budget, names):
    """A Resident with planes that nobody uses any more."""
    resident = Resident(budget)
    for name in names:
        resident.keep(name, plane(), Frame())
    return resident


def test_what_was_kept_is_found_and_nothing_else():
    resident = Resident(1000)
    resident.keep("a", plane(3), Frame())
    assert resident.find("a", Frame())[0] == 3
    assert resident.find("b", Frame()) is None
    assert resident.bytes == 100


def test_the_least_recently_used_leaves_when_there_is_no_room():
    resident = kept(300, "abc")
    resident.find("a", Frame())
    resident.keep("d", plane(), Frame())
    assert [name in resident for name in "abcd"] == [True, False, True, True]
    assert (resident.bytes, resident.evicted) == (300, 1)


def test_what_alone_is_over_the_budget_is_not_kept_and_drives_nobody_out():
    resident = kept(150, "a")
    resident.keep("b", np.zeros(50, np.float32), Frame())
    assert "a" in resident
    assert "b" not in resident


def test_a_name_that_is_there_keeps_its_array():
    resident = Resident(1000)
    resident.keep("a", plane(1), Frame())
    resident.keep("a", plane(2), Frame())
    assert resident.find("a", Frame())[0] == 1
    assert resident.bytes == 100


def test_evicting_ends_when_nothing_is_left():
    resident = kept(1000, "a")
    assert resident.evict()
    assert not resident.evict()
    assert resident.bytes == 0


def test_what_a_frame_at_work_uses_is_spared():
    resident, first, second = kept(1000, "bc"), Frame(), Frame()
    resident.keep("a", plane(), first)
    resident.find("b", second)
    assert [resident.evict(), resident.evict()] == [True, False]
    assert [name in resident for name in "abc"] == [True, True, False]
    del second
    assert resident.evict()
    assert [name in resident for name in "ab"] == [True, False]


def test_where_all_are_in_use_a_new_one_is_not_kept():
    resident, frame = Resident(200), Frame()
    for name in "abc":
        resident.keep(name, plane(), frame)
    assert [name in resident for name in "abc"] == [True, True, False]
    assert resident.bytes == 200


def sent_and_found(launcher):
    """What another stream reads of a plane whose upload nobody has waited for."""
    resident, frame = Resident(1000, launcher), Frame()
    with launcher.on(launcher.stream()):
        resident.keep("a", launcher.upload(plane(3), np.float32), frame)
    with launcher.on(launcher.stream()):
        return launcher.download(launcher.copy(resident.find("a", frame)))


def test_what_is_found_is_read_after_its_upload():
    np.testing.assert_array_equal(sent_and_found(Deferred()), plane(3))
    assert np.isnan(sent_and_found(Deferred(ignored="after"))).all()
