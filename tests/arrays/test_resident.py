"""Planes that stay in a device's memory."""

import numpy as np

from gpudiff.arrays.resident import Resident


def plane(value=0):
    return np.full(25, value, np.float32)  # 100 bytes


def test_what_was_kept_is_found_and_nothing_else():
    resident = Resident(1000)
    resident.keep("a", plane(3))
    assert resident.find("a")[0] == 3
    assert resident.find("b") is None
    assert resident.bytes == 100


def test_the_least_recently_used_leaves_when_there_is_no_room():
    resident = Resident(300)
    for name in "abc":
        resident.keep(name, plane())
    resident.find("a")
    resident.keep("d", plane())
    assert [name in resident for name in "abcd"] == [True, False, True, True]
    assert (resident.bytes, resident.evicted) == (300, 1)


def test_what_alone_is_over_the_budget_is_not_kept_and_drives_nobody_out():
    resident = Resident(150)
    resident.keep("a", plane())
    resident.keep("b", np.zeros(50, np.float32))
    assert "a" in resident
    assert "b" not in resident


def test_a_name_that_is_there_keeps_its_array():
    resident = Resident(1000)
    resident.keep("a", plane(1))
    resident.keep("a", plane(2))
    assert resident.find("a")[0] == 1
    assert resident.bytes == 100


def test_evicting_ends_when_nothing_is_left():
    resident = Resident(1000)
    resident.keep("a", plane())
    assert resident.evict()
    assert not resident.evict()
    assert resident.bytes == 0
