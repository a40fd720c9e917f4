"""Work shared among threads."""

import threading

import pytest

from gpudiff.arrays.parallel import another, over


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


def test_what_goes_on_beside_one_thread_is_computed_in_it_and_keeps_its_error():
    with another(1) as beside:
        assert beside.submit(threading.current_thread).result() is threading.current_thread()
        failed = beside.submit(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result()


def test_what_goes_on_beside_two_threads_has_its_own():
    with another(2) as beside:
        assert beside.submit(threading.current_thread).result() is not threading.current_thread()
