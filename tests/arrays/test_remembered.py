"""Small things that stay from frame to frame."""

from gpudiff.arrays.remembered import Remembered


def kept(budget, names):
    """A Remembered with things of 100 bytes."""
    remembered = Remembered(budget)
    for name in names:
        remembered.keep(name, f"what {name} is", 100)
    return remembered


def test_what_was_kept_is_found():
    assert kept(1000, "ab").find("a") == "what a is"


def test_what_was_not_is_none():
    assert kept(1000, "ab").find("c") is None


def test_the_least_recently_used_goes_where_there_is_no_room():
    remembered = kept(200, "ab")
    remembered.find("a")
    remembered.keep("c", "what c is", 100)
    assert [remembered.find(name) is not None for name in "abc"] == [True, False, True]
    assert remembered.bytes == 200


def test_what_is_larger_than_all_the_room_is_not_kept():
    remembered = kept(200, "ab")
    remembered.keep("c", "what c is", 201)
    assert remembered.find("c") is None
    assert remembered.bytes == 200
