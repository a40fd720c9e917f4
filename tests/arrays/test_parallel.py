"""Work shared among threads."""

import threading

import pytest

from gpudiff.arrays.parallel import over


@pytest.mark.parametrize("threads", [0, 1, 2, 7])
def test_results_come_in_the_order_of_the_items(threads):
    assert over(lambda n: n * n, range(20), threads) == [n * n for n in range(20)]


def test_two_threads_work_at_the_same_time():
    meet = threading.Barrier(2, timeout=10)
    assert sorted(over(lambda _: meet.wait(), range(2), 2)) == [0, 1]


def test_one_thread_is_the_callers():
    assert over(lambda _: threading.current_thread(), range(3), 1) == [threading.current_thread()] * 3


def test_an_error_in_a_thread_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        over(lambda n: 1 // n, [1, 0, 2], 2)


def test_nothing_to_do_is_an_empty_list():
    assert over(lambda n: n, [], 2) == []
